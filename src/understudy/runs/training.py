"""The trainings of a run: the student and its controls, stage by stage; each is resumed where it stopped."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.torch import load_model, save_model

from understudy.data.examples import by_length, examples_of
from understudy.data.masking import MaskedRows
from understudy.data.rows import labelled
from understudy.evaluation.measure import ModelResult
from understudy.files import METRICS, json_lines, read_json, whole, write_json, write_text
from understudy.machine import is_helper, main_process_first
from understudy.models import encoder
from understudy.models.text_model import TextModel
from understudy.reporting.agreement import validation_name
from understudy.runs import controls
from understudy.runs.folder import Run, Say
from understudy.runs.plan import ALONE, TEACHER_OUTPUTS, Part, Plan, StagePlan, TaskPlan
from understudy.tasks import Task
from understudy.teachers.capture import logits_of
from understudy.teachers.store import Store
from understudy.training.lesson import Lesson, joined
from understudy.training.masked_lm import METRIC, MaskedLMScores, with_head
from understudy.training.mixup import Mixup
from understudy.training.train import Trained, Training, train

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.settings.finetune import FinetuneSettings, PretrainSettings

Students = dict[str, TextModel]  # task → its model; all share an encoder


@dataclass(frozen=True)
class Trainings:
    """Trains the student and the controls of a run.

    Args:
        runs: task → its run folder; with a single task the run itself.
        stores: task → its teacher's outputs; tasks without a teacher have none.
    """

    plan: Plan
    run: Run
    runs: Mapping[str, Run]
    stores: Mapping[str, Store]
    device: str
    say: Say

    def student(self) -> dict[str, ModelResult]:
        """The student of every task, trained and saved."""
        return self._saved("student", *self._train("student", self.plan.stages))

    def control(self, control: str, cache: Path) -> dict[str, ModelResult]:
        """A control, trained or taken from the cache."""
        name = f"student_{control}"
        starts = filter(None, map(controls.start, self.plan.tasks.values()))
        self.say(controls.described(control, self.plan.recipe, next(starts, "")))
        stages = controls.stages_of(control, self.plan)
        kept = cache / controls.key(control, self.plan, stages, self.device)
        metrics = self.run.folder / METRICS
        if not (kept / "trained.json").is_file():
            students, seconds = self._train(name, stages)
            if not is_helper():
                save_weights(students, kept / "model.safetensors")
                lines = [json.dumps(line) + "\n" for line in json_lines(metrics) if line["model"] == name]
                write_text(kept / METRICS, "".join(lines))
                write_json(kept / "trained.json", {"seconds": seconds})
            return self._saved(name, students, seconds)
        if not is_helper():
            self.say(f"The control '{control}' was trained before with these settings: taken from {kept}")
            if not any(line["model"] == name for line in json_lines(metrics)):
                for line in json_lines(kept / METRICS):
                    self._writer(line.pop("model"), line.pop("stage"))(line)
        students = copies({task: plan.student for task, plan in self.plan.tasks.items()})
        load_weights(students, kept / "model.safetensors")
        return self._saved(name, students, read_json(kept / "trained.json")["seconds"])

    def _train(self, name: str, stages: Sequence[StagePlan]) -> tuple[Students, float]:
        """Untrained students after all stages, and the seconds of training. A stage that was finished before is not trained again."""
        seconds, students = 0.0, {task: plan.student for task, plan in self.plan.tasks.items()}
        untrained: Students = {}
        for stage in stages:
            # A student that goes on must not change the teacher that it was.
            previous = copies(students) if stage.stage.teacher == "previous" else students
            plans = {task: plan.at(stage.stage, previous[task]) for task, plan in self.plan.tasks.items()}
            start = {task: plan.student for task, plan in plans.items()}
            if start != untrained:  # the first stage, one of an assistant, or the first one after it
                untrained, students = start, copies(start)
            checkpoints = self.run.checkpoints / f"{name}-{stage.stage.name}"
            done, trained = checkpoints / "model.safetensors", checkpoints / "trained.json"
            if not trained.is_file():
                self._announce(name, stage, students)
                outcome = train_stage(
                    stage,
                    plans,
                    students,
                    self._kept(stage, plans, checkpoints),
                    checkpoints,
                    name,
                    self.device,
                    write=self._writer(name, stage.stage.name),
                )
                if is_helper():
                    continue
                save_weights(students, done)
                write_json(trained, {"seconds": outcome.seconds})
            students = copies(start)  # those that were trained may still compute in bf16
            load_weights(students, done)
            seconds += read_json(trained)["seconds"]
        return students, seconds

    def _announce(self, name: str, plan: StagePlan, students: Students) -> None:
        stage = plan.stage
        who = f"assistant of stage {stage.name}" if stage.student else name.replace("_", " ")
        parameters = sum(weight.numel() for weight in joined({task: weight.model for task, weight in students.items()}).parameters())
        rows = ", ".join(f"{len(part.rows):,} rows" + (f" of {task}" if task else "") for task, part in plan.parts.items())
        self.say(
            f"Training the {who} ({(stage.student or self.plan.recipe.student).kind}, {parameters:,} parameters): {rows}, {plan.length}"
        )
        for task, part in plan.parts.items():
            for kind, pairs in part.layer_maps().items():
                matched = ", ".join(f"{student_layer} ← {teacher_layer}" for student_layer, teacher_layer in pairs)
                self.say(
                    f"  {task}{': ' if task else ''}{kind} matches layers {matched} (the student's ← the teacher's; 0 is the embeddings)"
                )

    def _kept(self, stage: StagePlan, plans: Mapping[str, TaskPlan], checkpoints: Path) -> dict[str, np.ndarray]:
        """Task → its teacher's logits, (rows, outputs), where the stage uses them; if the previous student teaches, computed now."""
        kept = {}
        for task, part in stage.parts.items():
            if not part.keeps_logits:
                continue
            if part.stage.teacher == "given":
                kept[task] = self.stores[task].logits(part.rows)
                continue
            with main_process_first(self.device):
                store = plans[task].store(checkpoints / TEACHER_OUTPUTS / task)
                store.fill(plans[task].teacher, part.rows, device=self.device)
            kept[task] = store.logits(part.rows)
        return kept

    def _saved(self, name: str, students: Students, seconds: float) -> dict[str, ModelResult]:
        """The students, saved and loaded again for measuring; the seconds are those of their common training."""
        if is_helper():  # several processes would write one folder at once
            return {task: ModelResult((student,)) for task, student in students.items()}
        folders = {task: run.folder / name for task, run in self.runs.items()}
        for task, student in students.items():
            plan = self.plan.tasks[task]
            fit_decisions(student, plan.task, labelled(plan.rows.validation), self.device)
            student.save(folders[task])
        return {task: ModelResult((TextModel.load(folder),), (folder,), seconds) for task, folder in folders.items()}

    def _writer(self, name: str, stage: str) -> Callable[[dict[str, Any]], None]:
        """A function that appends a line of numbers to the metrics of the run, and each task's share of it to those of the task."""
        everything = self.run.writer(name, stage)
        if ALONE in self.runs:
            return everything
        writers = {task: run.writer(name, stage) for task, run in self.runs.items()}

        def write(line: dict[str, Any]) -> None:
            everything(line)
            for task, write_task in writers.items():
                if numbers := line_of(task, line, writers):
                    write_task(numbers)

        return write


def train_stage(
    stage: StagePlan,
    plans: Mapping[str, TaskPlan],
    students: Students,
    kept: Mapping[str, np.ndarray],
    folder: Path,
    name: str,
    device: str,
    *,
    write: Callable[[dict[str, Any]], None],
) -> Trained:
    """Train `students` in place on the rows of one stage; validation rows select the weights.

    Args:
        plans: task → its plan for this stage.
        kept: task → kept logits of its teacher, (rows, outputs), where the stage uses them.
        folder: for checkpoints.
        name: of the model, for messages.
        write: gets each line of numbers.
    """
    first, settings = next(iter(plans.values())), stage.stage
    lessons = {}
    for task, part in stage.parts.items():
        plan, student = plans.get(task, first), students.get(task, next(iter(students.values())))
        make = _language_lesson if settings.masked_lm is not None else _lesson
        lessons[task] = make(part, plan, student, kept.get(task), stage.shares[task])
    return train(
        lessons,
        settings.train,
        Training(
            folder, first.recipe.seed, name.replace("_", " "), write, device, first.autocast, settings.self_average, first.recipe.report_to
        ),
    )


def _lesson(part: Part, plan: TaskPlan, student: TextModel, kept: np.ndarray | None, share: int) -> Lesson:
    """The lesson of a task; where a teacher is needed and its logits are not kept, it is run during training."""
    stage, metric = part.stage, plan.recipe.selection_metric
    live = plan.teacher.model if part.runs_teacher else None
    return Lesson(
        plan.task,
        student,
        examples_of(student, part.rows, kept, teacher=live, balanced=stage.train.balanced_sampling),
        by_length(student, labelled(plan.rows.validation)),
        copy.deepcopy(part.objectives),
        metric,
        validation_name(plan.rows.labelled_by_teacher, plan.task.metric(metric), metric),
        live,
        Mixup(stage.mixup.alpha, copy.deepcopy(part.mixed)) if stage.mixup else None,
        share,
    )


def _language_lesson(part: Part, plan: TaskPlan, student: TextModel, kept: np.ndarray | None, share: int) -> Lesson:
    """The lesson of the student's encoder with a masked-language head, on plain text."""
    assert part.stage.masked_lm is not None
    seed, live = plan.recipe.seed, plan.teacher.model if part.runs_teacher else None
    learner = with_head(student, seed, plan.pretrained.models[0] if plan.pretrained else None)
    if (pooler := encoder.pooler(student.model)) is not None:
        # The pooler is unused here, and several processes wait for every gradient; `train` makes it trainable again at its end.
        pooler.requires_grad_(False)
    learned, held_out = (
        MaskedRows(learner, texts, fraction=part.stage.masked_lm.fraction, seed=seed, teacher=teacher)
        for texts, teacher in ((part.rows, live), (plan.texts[part.stage.name][1], None))
    )
    return Lesson(MaskedLMScores(), learner, learned, held_out, copy.deepcopy(part.objectives), METRIC, None, live, None, share)


def train_alone(
    lesson: Callable[[], Lesson],
    settings: FinetuneSettings | PretrainSettings,
    run: Run,
    stage: str,
    device: str,
    *,
    autocast: bool = True,
    validation: Dataset | None = None,
) -> Trained:
    """Train a model without a teacher, for `finetune` or `pretrain`, and save it into its run's folder.

    Args:
        lesson: makes the lesson.
        stage: `finetune` or `pretrain`.
        validation: rows that its answers are decided by; None: they are not.
    """
    learned, name = lesson(), {"finetune": "fine-tuning", "pretrain": "pretraining"}[stage]
    trained = train(
        {ALONE: learned},
        settings.train,
        Training(
            run.checkpoints / stage, settings.seed, name, run.writer("teacher", stage), device, autocast, report_to=settings.report_to
        ),
    )
    if not is_helper():
        if validation is not None and isinstance(learned.task, Task):
            fit_decisions(learned.model, learned.task, validation, device)
        learned.model.save_into(run.folder)
    return trained


def fit_decisions(model: TextModel, task: Task, validation: Dataset, device: str) -> None:
    """Keep with a trained model what its answers are decided by, where its task fits something on validation rows."""
    if type(task).fit is not Task.fit:
        model.fit(task, logits_of(model, validation, device=device), np.asarray(validation["label"]))


def fill_store(plan: TaskPlan, folder: Path, device: str, say: Say) -> Store:
    """The store with the teacher's outputs for all rows of a run that need them; in the run's folder unless the recipe names another."""
    folder = Path(plan.recipe.teacher.store or folder / TEACHER_OUTPUTS)
    store = plan.store(folder)
    computed = sum(store.fill(plan.teacher, rows, device=device) for rows in plan.taught_rows())
    say(f"Teacher outputs: {computed:,} rows computed now, {len(store):,} kept in {folder}")
    return store


def copies(students: Students) -> Students:
    """Copies of the students, which share a copy of their encoder."""
    models = copy.deepcopy({task: student.model for task, student in students.items()})
    return {task: student.around(models[task]) for task, student in students.items()}


def save_weights(students: Students, path: Path) -> None:
    """Write all weights; those of a shared encoder once."""
    with whole(path, writer=str(os.getpid())) as new:  # runs side by side may keep one control
        save_model(joined({task: student.model for task, student in students.items()}), str(new))


def load_weights(students: Students, path: Path) -> None:
    """Read weights that `save_weights` wrote for the same kind of students."""
    load_model(joined({task: student.model for task, student in students.items()}), str(path))


def line_of(task: str, line: Mapping[str, Any], tasks: Sequence[str] | Mapping[str, Any]) -> dict[str, Any] | None:
    """The numbers of one task in a line of metrics, named as in a run of this task alone; None where there are none.

    A line without the name of any task, such as one of a stage on plain text, is returned whole.

    >>> line_of("sst2", {"step": 3, "loss": 0.9, "loss/sst2/labels": 0.5, "loss/stsb/labels": 2.0}, ["sst2", "stsb"])
    {'step': 3, 'loss/labels': 0.5}
    >>> line_of("sst2", {"step": 3, "validation": {"sst2/accuracy": 0.8, "mean": 0.7}}, ["sst2", "stsb"])
    {'step': 3, 'validation': {'accuracy': 0.8}}
    """
    names = [*line, *line.get("validation", ())]
    if not any(name.removeprefix("loss/").startswith(f"{any_task}/") for name in names for any_task in tasks):
        return dict(line)
    if "validation" in line:
        prefix = f"{task}/"
        values = {key.removeprefix(prefix): value for key, value in line["validation"].items() if key.startswith(prefix)}
        return {**line, "validation": values}
    terms = {key.replace(f"/{task}/", "/", 1): value for key, value in line.items() if key.startswith(f"loss/{task}/")}
    shared = {key: value for key, value in line.items() if not key.startswith(("loss", "grad_norm"))}
    return shared | terms if terms else None
