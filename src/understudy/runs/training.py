"""The trainings of a run: the student and its controls, stage by stage, each gone on with where it stopped."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.data.examples import by_length, examples_of
from understudy.data.masking import MaskedRows
from understudy.data.rows import labelled
from understudy.evaluation.measure import Measured
from understudy.files import METRICS, read_json, write_json, write_text
from understudy.machine import is_helper, main_process_first
from understudy.models import encoder
from understudy.models.text_model import TextModel
from understudy.reporting.agreement import validation_name
from understudy.runs import controls
from understudy.runs.folder import Run, Say
from understudy.runs.plan import TEACHER_OUTPUTS, Plan
from understudy.settings.stage import Stage, make_objectives
from understudy.teachers.store import Store
from understudy.training.masked_lm import METRIC, MaskedLMScores, with_head
from understudy.training.mixup import Mixup
from understudy.training.self_average import SelfAveragedTeacher
from understudy.training.trainer import length
from understudy.training.training import Trained, train

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Trainings:
    """What every training of a run shares."""

    plan: Plan
    run: Run
    store: Store
    device: str
    say: Say

    def train(self, name: str, stages: Sequence[tuple[Stage, Dataset]]) -> tuple[TextModel, float]:
        """A fresh student through all stages; returns it with the seconds they took. A stage that was finished is not trained again."""
        seconds = 0.0
        student, untrained = self.plan.student, None
        for stage, rows in stages:
            plan = self.plan.at(stage, student)
            if plan.student is not untrained:  # the first one, an assistant, or the student after one
                untrained = plan.student
                student = untrained.around(copy.deepcopy(untrained.model))
            checkpoints = self.run.checkpoints / f"{name}-{stage.name}"
            done, trained = checkpoints / "model", checkpoints / "trained.json"
            if not trained.is_file():
                who = f"assistant of stage {stage.name}" if stage.student else name.replace("_", " ")
                self.say(f"Training the {who} ({(stage.student or plan.recipe.student).kind}, {student.parameters:,} parameters): "
                         f"{len(rows):,} rows, {length(len(rows), stage.train)}")  # fmt: skip
                for kind, pairs in plan.layer_maps(stage).items():
                    matched = ", ".join(f"{own} ← {other}" for own, other in pairs)
                    self.say(f"  {kind} matches layers {matched} (the student's ← the teacher's; 0 is the embeddings)")
                kept = (
                    self._kept(plan, stage, rows, checkpoints / TEACHER_OUTPUTS) if plan.keeps_logits(stage) else None
                )
                found = train_stage(
                    plan, student, stage, rows, kept, checkpoints, name, self.device,
                    write=self.run.writer(name, stage.name),
                )  # fmt: skip
                if is_helper():
                    continue
                student.save(done)
                write_json(trained, {"seconds": found.seconds})
            student = TextModel.load(done)
            seconds += read_json(trained)["seconds"]
        return student, seconds

    def _kept(self, plan: Plan, stage: Stage, rows: Dataset, folder: Path) -> np.ndarray:
        """The teacher's logits; a teacher that was a student before is asked now, and its answers kept in `folder` for this training."""
        if stage.teacher == "given":
            return self.store.logits(rows)
        with main_process_first(self.device):
            store = plan.store(folder)
            store.fill(plan.teacher, rows, device=self.device)
        return store.logits(rows)


def train_student(work: Trainings) -> Measured:
    stages = work.plan.recipe.stages
    student, seconds = work.train("student", [(stage, work.plan.stage_rows(stage)) for stage in stages])
    if is_helper():
        return Measured((student,))
    folder = work.run.folder / "student"
    student.save(folder)
    return Measured((TextModel.load(folder),), (folder,), seconds)


def train_control(work: Trainings, control: str, shelf: Path) -> Measured:
    """A control, trained or taken from the shelf."""
    name = f"student_{control}"
    work.say(controls.described(control, work.plan.recipe, controls.start(work.plan)))
    stages = controls.stages_of(control, work.plan)
    kept = shelf / controls.key(control, work.plan, stages, work.device)
    metrics = work.run.folder / METRICS
    if not (kept / "trained.json").is_file():
        student, seconds = work.train(name, stages)
        if is_helper():
            return Measured((student,))
        student.save(kept / "model")
        lines = metrics.read_text("utf-8").splitlines(keepends=True)
        write_text(kept / METRICS, "".join(line for line in lines if json.loads(line)["model"] == name))
        write_json(kept / "trained.json", {"seconds": seconds})
    elif not is_helper():
        work.say(f"The control '{control}' was trained before with these settings: taken from {kept}")
        if f'"{name}"' not in metrics.read_text("utf-8"):
            with metrics.open("a", encoding="utf-8") as file:
                file.write((kept / METRICS).read_text("utf-8"))
    if is_helper():  # several processes would write one folder at once
        return Measured((TextModel.load(kept / "model"),))
    folder = work.run.folder / name
    shutil.copytree(kept / "model", folder, dirs_exist_ok=True)
    return Measured((TextModel.load(folder),), (folder,), read_json(kept / "trained.json")["seconds"])


def train_stage(
    plan: Plan, student: TextModel, stage: Stage, rows: Dataset, teacher_logits: np.ndarray | None, checkpoints: Path, name: str,
    device: str, *, write: Callable[[dict[str, Any]], None],
) -> Trained:  # fmt: skip
    """Train `student` in place on the rows of one stage; validation rows select. Without kept logits the teacher is asked live."""
    live = plan.teacher.model if plan.asks_live(stage) else None
    shared: dict[str, Any] = {
        "folder": checkpoints, "seed": plan.recipe.seed, "name": name.replace("_", " "), "write": write, "device": device,
        "autocast": plan.autocast, "report_to": plan.recipe.report_to,
    }  # fmt: skip
    if stage.masked_lm is not None:
        learner = with_head(student, plan.recipe.seed, plan.pretrained.models[0] if plan.pretrained else None)
        if (pooler := encoder.pooler(student.model)) is not None:
            # It has no part here, and several processes wait for every gradient; `train` gives it back at its end.
            pooler.requires_grad_(False)
        learned, held_out = (
            MaskedRows(learner, texts, fraction=stage.masked_lm.fraction, seed=plan.recipe.seed, teacher=heard)
            for texts, heard in ((rows, live), (plan.texts[stage.name][1], None))
        )
        return train(
            learner, learned, held_out, MaskedLMScores(), stage.train, make_objectives(stage.objectives), metric=METRIC,
            teacher=live, **shared,
        )  # fmt: skip
    metric = plan.recipe.selection_metric
    own = SelfAveragedTeacher(student.model, stage.self_average) if stage.self_average else None
    mixup = Mixup(stage.mixup.alpha, make_objectives(stage.mixup.objectives)) if stage.mixup else None
    return train(
        student, examples_of(student, rows, teacher_logits, teacher=live, balanced=stage.train.balanced_sampling),
        by_length(student, labelled(plan.rows.validation)), plan.task, stage.train, make_objectives(stage.objectives),
        metric=metric, teacher=live, self_average=own, mixup=mixup,
        metric_name=validation_name(plan.rows.labelled_by_teacher, plan.task.metric(metric), metric), **shared,
    )  # fmt: skip


def fill_store(plan: Plan, folder: Path, device: str, say: Say) -> Store:
    """Have the teacher answer all that a run will ask; the answers are kept in the run's folder where no other is named."""
    folder = Path(plan.recipe.teacher.store or folder / TEACHER_OUTPUTS)
    store = plan.store(folder)
    computed = sum(store.fill(plan.teacher, rows, device=device) for rows in plan.taught_rows())
    say(f"Teacher outputs: {computed:,} rows computed now, {len(store):,} kept in {folder}")
    return store
