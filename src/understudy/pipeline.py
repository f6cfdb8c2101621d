"""The programs `distill` and `teach`. They read like the README; the work is done in the rooms."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy import __version__, controls, encoder
from understudy.data.batches import by_length, tokenized
from understudy.data.masking import MaskedRows
from understudy.data.rows import Rows, labelled
from understudy.errors import RecipeError, UserError
from understudy.evaluate.measure import Measured, compare
from understudy.evaluate.ngrams import fit_ngrams
from understudy.evaluate.predictions import PREDICTIONS, predictions, write_predictions
from understudy.evaluate.reference import as_agreement
from understudy.export.shipping import Shipped, ship
from understudy.model_card import write_model_card
from understudy.preparation import Plan, keep_made_rows, least_updates, prepare, resolve
from understudy.processes import is_helper, main_process_first
from understudy.recipe import FinetuneSettings, Recipe, Stage, make_objectives
from understudy.report.advice import findings
from understudy.report.agreement import validation_name
from understudy.report.page import write_page
from understudy.run import METRICS, Run, Say, check, write_whole
from understudy.teachers.store import Store
from understudy.text_model import TextModel
from understudy.train.masked_lm import METRIC, MaskedLMScores, with_head
from understudy.train.mixup import Mixup
from understudy.train.precision import find_device
from understudy.train.self_average import SelfAveragedTeacher
from understudy.train.trainer import length
from understudy.train.training import Trained, train

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.tasks import Task


def distill(
    recipe: Recipe, out: str | Path, *, resume: bool = False, overwrite: bool = False, device: str | None = None,
    shelf: str | Path | None = None, command: str = "", say: Say = lambda line: None,
) -> Run:  # fmt: skip
    """Train a student to imitate a teacher, measure what was kept, and write it all into a run folder.

    Args:
        recipe: what to do; see `load_recipe`.
        out: the run folder.
        resume: go on with a run that was stopped.
        overwrite: replace a run that is there.
        device: `cpu`, `cuda`, `mps`; None takes the fastest there is.
        shelf: folder where students of the controls are kept for other runs; None: `.controls` beside `out`.
        command: recorded in the facts, for repeating it.
        say: takes each line that tells the user what is going on.

    Raises:
        UserError: the input does not fit; nothing is left behind.
        TrainingError: training broke down; the last good checkpoint is kept.
    """
    out, device = Path(out), find_device(device)
    shelf = Path(shelf or out.parent / ".controls")
    if recipe.tasks is not None:
        from understudy.multitask import distill_tasks  # it knows this file

        return distill_tasks(
            recipe, out, resume=resume, overwrite=overwrite, device=device, shelf=shelf, command=command, say=say
        )
    recipe = resolve(recipe)
    with main_process_first(device):
        resume = resume or is_helper()
        check(out, recipe.dump(), resume=resume, overwrite=overwrite)
        plan = prepare(recipe, say, device=device, run_folder=out)
        run = Run.start(out, recipe.dump(), inputs=plan.inputs, resume=resume, overwrite=overwrite, device=device)
        if run.finished:
            say(f"{out} is a finished run; nothing to do")
            return run
        keep_made_rows(plan, run.folder)
        try:
            store = fill_store(plan, run.folder, device, say)
        except UserError:
            run.discard()
            raise
    work = _Work(plan, run, store, device, say)
    models = {"student": _train_student(work)}
    for control in recipe.control:
        models[f"student_{control}"] = _train_control(work, control, shelf)
    if is_helper():
        return run
    shipped = ship(plan, models["student"], run.folder, shelf, device=device, say=say)
    prove(run, plan, models, store, shipped, device=device, command=command, say=say)
    return run


def teach(
    recipe: Recipe, store: str | Path, *, device: str | None = None, say: Say = lambda line: None
) -> dict[str, int]:
    """Fill a store with the teacher's outputs for every row of a recipe's data.

    Returns:
        rows computed now, and rows kept in all.
    """
    if recipe.tasks is not None:
        raise RecipeError(
            f"{recipe.name} has several tasks; fill a store for each by a recipe with one (`understudy teach` does), then give "
            "distill --store NAME=FOLDER"
        )
    device = find_device(device)
    plan = prepare(resolve(recipe), say, device=device)
    kept = open_store(plan, Path(store))
    computed = sum(kept.fill(plan.teacher, rows, device=device) for rows in plan.taught_rows())
    return {"computed": computed, "kept": len(kept)}


@dataclass(frozen=True)
class _Work:
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
                student = TextModel(copy.deepcopy(untrained.model), untrained.tokenizer, untrained.max_length)
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
                    self._kept(plan, stage, rows, checkpoints / "teacher_outputs") if plan.keeps_logits(stage) else None
                )
                found = train_stage(
                    plan, student, stage, rows, kept, checkpoints, name, self.device,
                    write=self.run.writer(name, stage.name),
                )  # fmt: skip
                if is_helper():
                    continue
                student.save(done)
                write_whole(trained, json.dumps({"seconds": found.seconds}))
            student = TextModel.load(done)
            seconds += json.loads(trained.read_text("utf-8"))["seconds"]
        return student, seconds

    def _kept(self, plan: Plan, stage: Stage, rows: Dataset, folder: Path) -> np.ndarray:
        """The teacher's logits; a teacher that was a student before is asked now, and its answers kept in `folder` for this training."""
        if stage.teacher == "given":
            return self.store.logits(rows)
        with main_process_first(self.device):
            store = open_store(plan, folder)
            store.fill(plan.teacher, rows, device=self.device)
        return store.logits(rows)


def fill_store(plan: Plan, folder: Path, device: str, say: Say) -> Store:
    """Have the teacher answer all that a run will ask; the answers are kept in the run's folder where no other is named."""
    folder = Path(plan.recipe.teacher.store or folder / "teacher_outputs")
    store = open_store(plan, folder)
    computed = sum(store.fill(plan.teacher, rows, device=device) for rows in plan.taught_rows())
    say(f"Teacher outputs: {computed:,} rows computed now, {len(store):,} kept in {folder}")
    return store


def prove(
    run: Run, plan: Plan, models: Mapping[str, Measured], store: Store | None, shipped: Shipped, *, device: str, command: str, say: Say
) -> None:  # fmt: skip
    """Measure all models on the test rows, and write what was found: every answer, then the facts, the card and the page.

    Without a store there is no teacher.
    """
    say("Measuring on the test rows")
    recipe, names, test = plan.recipe, plan.rows.label_names, labelled(plan.rows.test)
    validation = test if plan.rows.test_is_validation else labelled(plan.rows.validation)
    if store is not None:
        said = [store.logits(rows) if plan.teacher_knows(rows) else None for rows in (test, validation)]
        teacher = Measured(plan.teacher.models, plan.teacher_folders, _seconds_of(plan.teacher_folders), *said)
        models = {"teacher": teacher, **models}
    models = {**models, **ngram_baseline(plan.rows, plan.task, recipe, say)}
    models = {name: one.answered(test, validation, device) for name, one in {**models, **shipped.models}.items()}
    by_teacher = plan.rows.labelled_by_teacher
    compared = compare(models, test, plan.task, metric=recipe.selection_metric, label_names=names, device=device, seed=recipe.seed,
                       validation=None if "validation" in by_teacher else validation)  # fmt: skip
    if "test" in by_teacher:
        compared = as_agreement(compared)
    write_predictions(run.folder / PREDICTIONS, predictions(test, models, names, compared["models"]))
    facts = {
        "understudy": __version__, "task": recipe.task, "recipe": recipe.name, "seed": recipe.seed, "student": recipe.student.kind,
        "command": command, "label_names": names, "data": plan.rows.facts(),
        "layer_maps": {stage.name: found for stage in recipe.stages if (found := plan.at(stage).layer_maps(stage))},
        **compared, "trainings": _trainings(run, plan, models), "exports": shipped.parity,
        "controls": {
            name: {"kept": controls.kept(name, recipe), "start": controls.start(plan)}
            for name in controls.MAKE if f"student_{name}" in models
        },
    }  # fmt: skip
    run.record({**facts, "findings": findings(facts)})
    shipped.tell_card(run.facts)
    for name, (model, *_) in ((name, measured.models) for name, measured in models.items() if measured.models):
        if isinstance(model, TextModel) and (run.folder / name / "config.json").is_file():
            write_model_card(model, run.folder / name, pair=plan.rows.pair)
    write_page(run.folder)


def _trainings(run: Run, plan: Plan, models: Container[str]) -> dict[str, Any]:
    """How the training of every model that was measured went, and the teacher's, where `understudy finetune` made it alone."""
    rows, least = len(labelled(plan.rows.validation)), least_updates(plan.recipe, tasks=plan.tasks)
    every = run.trainings(plan.recipe.selection_metric, rows=rows, least=least)
    found = {model: stages for model, stages in every.items() if model in models}  # one may be asked for no more
    facts = list(map(_facts_of, plan.teacher_folders))
    if len(facts) == 1:
        found |= facts[0].get("trainings") or {}
    return found


def ngram_baseline(rows: Rows, task: Task, settings: Recipe | FinetuneSettings, say: Say) -> dict[str, Measured]:
    """The n-gram baseline of a run as `ngrams`, fitted now; nothing where it is not asked for or has nothing to learn from."""
    if not settings.baseline:
        return {}
    if not len(labelled(rows.train)):
        say("No n-gram baseline: it learns from labels, and no training row has one")
        return {}
    outputs = task.outputs(rows.label_names)
    model = fit_ngrams(labelled(rows.train), labelled(rows.validation), task, settings.selection_metric, outputs)
    if model is None:
        say("No n-gram baseline: the labelled training rows have no n-grams, or only one class")
        return {}
    return {"ngrams": Measured((model,), seconds=model.seconds)}


def _train_student(work: _Work) -> Measured:
    stages = work.plan.recipe.stages
    student, seconds = work.train("student", [(stage, work.plan.stage_rows(stage)) for stage in stages])
    if is_helper():
        return Measured((student,))
    folder = work.run.folder / "student"
    student.save(folder)
    return Measured((TextModel.load(folder),), (folder,), seconds)


def _train_control(work: _Work, control: str, shelf: Path) -> Measured:
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
        write_whole(kept / METRICS, "".join(line for line in lines if json.loads(line)["model"] == name))
        write_whole(kept / "trained.json", json.dumps({"seconds": seconds}))
    elif not is_helper():
        work.say(f"The control '{control}' was trained before with these settings: taken from {kept}")
        if f'"{name}"' not in metrics.read_text("utf-8"):
            with metrics.open("a", encoding="utf-8") as file:
                file.write((kept / METRICS).read_text("utf-8"))
    if is_helper():  # several processes would write one folder at once
        return Measured((TextModel.load(kept / "model"),))
    folder = work.run.folder / name
    shutil.copytree(kept / "model", folder, dirs_exist_ok=True)
    return Measured(
        (TextModel.load(folder),), (folder,), json.loads((kept / "trained.json").read_text("utf-8"))["seconds"]
    )


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
    own = SelfAveragedTeacher(student.model, stage.self_average) if stage.self_average else None
    mixup = Mixup(stage.mixup.alpha, make_objectives(stage.mixup.objectives)) if stage.mixup else None
    return train(
        student, tokenized(student, rows, teacher_logits, teacher=live, balanced=stage.train.balanced_sampling),
        by_length(student, labelled(plan.rows.validation)), plan.task, stage.train, make_objectives(stage.objectives),
        metric=plan.recipe.selection_metric, teacher=live, self_average=own, mixup=mixup,
        metric_name=validation_name(plan.rows.labelled_by_teacher, plan.recipe.selection_metric, plan.recipe.selection_metric), **shared,
    )  # fmt: skip


def open_store(plan: Plan, folder: Path) -> Store:
    """The store of a plan's teacher."""
    return Store(folder, plan.teacher.fingerprint, plan.outputs, dtype=plan.recipe.teacher.dtype)


def _seconds_of(teachers: Sequence[Path]) -> float | None:
    """Seconds of the teachers' training, where `understudy finetune` made them all."""
    found = [_facts_of(folder).get("models", {}).get("teacher", {}).get("seconds") for folder in teachers]
    return None if not found or None in found else sum(found)


def _facts_of(teacher: Path) -> dict[str, Any]:
    """What `understudy finetune` wrote beside a teacher; empty where another program made it, or the file is damaged."""
    try:
        found = json.loads((teacher / "facts.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("models", {}), dict) else {}
