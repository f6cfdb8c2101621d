"""The programs `distill` and `teach`. They read like the README; the work is done in the rooms."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy import __version__, parts
from understudy.data.batches import by_length, tokenized
from understudy.data.rows import Rows, labelled, read
from understudy.errors import ModelError, RecipeError, UserError
from understudy.evaluate.measure import Measured, compare
from understudy.processes import is_helper, main_process_first
from understudy.recipe import ObjectivePart, Recipe, Stage, TrainSettings, make_objectives
from understudy.report.page import write_page
from understudy.run import Run, Say, check, write_whole
from understudy.students import Blueprint
from understudy.tasks import Task
from understudy.teachers.capture import logits_of
from understudy.teachers.store import Store
from understudy.teachers.teacher import FileTeacher, ModelTeacher, Teacher, is_file
from understudy.text_model import TextModel
from understudy.train.precision import find_device
from understudy.train.trainer import updates
from understudy.train.training import Trained, train


def distill(
    recipe: Recipe, out: str | Path, *, resume: bool = False, overwrite: bool = False, device: str | None = None,
    controls: str | Path | None = None, command: str = "", say: Say = lambda line: None,
) -> Run:  # fmt: skip
    """Train a student to imitate a teacher, measure what was kept, and write it all into a run folder.

    Args:
        recipe: what to do; see `load_recipe`.
        out: the run folder.
        resume: go on with a run that was stopped.
        overwrite: replace a run that is there.
        device: `cpu`, `cuda`, `mps`; None takes the fastest there is.
        controls: folder where students trained alone are kept for other runs; None: `.controls` beside `out`.
        command: recorded in the facts, for repeating it.
        say: takes each line that tells the user what is going on.

    Raises:
        UserError: the input does not fit; nothing is left behind.
        TrainingError: training broke down; the last good checkpoint is kept.
    """
    out, device = Path(out), find_device(device)
    plan = prepare(recipe, say)
    check(out, plan.recipe.dump(), resume=resume, overwrite=overwrite)
    with main_process_first():
        run = Run.start(out, plan.recipe.dump(), resume=resume or is_helper(), overwrite=overwrite, device=device)
    if run.finished:
        say(f"{out} is a finished run; nothing to do")
        return run
    with main_process_first():
        outputs = _teach(plan, run, device, say)
    student = _train_student(plan, run, outputs, device, say)
    others = {
        f"student_{control}": _train_control(
            control, plan, run, outputs, device, Path(controls or out.parent / ".controls"), say
        )
        for control in plan.recipe.control
    }
    if is_helper():
        return run
    say("Measuring on the test rows")
    models = {"teacher": outputs.measured(plan, plan.rows.test), **others, "student": student}
    task = plan.task
    test = labelled(plan.rows.test)
    for name, one in models.items():
        if one.logits is None and one.model is not None:
            models[name] = Measured(logits_of(one.model, test, device=device), one.model, one.folder, one.seconds)
    facts = compare(models, test, task, metric=plan.recipe.selection_metric, label_names=plan.rows.label_names,
                    device=device, seed=plan.recipe.seed)  # fmt: skip
    run.record({
        "understudy": __version__, "task": plan.recipe.task, "recipe": plan.recipe.name, "seed": plan.recipe.seed,
        "student": plan.recipe.student.kind, "command": command, "label_names": plan.rows.label_names, "data": plan.rows.facts(), **facts,
    })  # fmt: skip
    write_page(run.folder)
    return run


@dataclass(frozen=True)
class Plan:
    """All that a run needs, read and checked before anything is written.

    Args:
        recipe: resolved; every training setting filled in.
        student: untrained; copied for the student and each control, so that all start alike.
        objectives: of every stage, (weight, objective).
    """

    recipe: Recipe
    task: Task
    rows: Rows
    teacher: Teacher
    student: TextModel
    autocast: bool

    def stage_rows(self, stage: Stage) -> Any:
        """The rows that a stage learns from, training rows first."""
        from datasets import concatenate_datasets

        parts_ = [self.rows.train if name == "train" else self.rows.transfer for name in stage.rows]
        there = [part for part in parts_ if part is not None]
        if not there:
            raise RecipeError(f"stage {stage.name} learns from transfer rows only, but no --transfer file is given")
        return concatenate_datasets(there)

    def updates(self, stage: Stage) -> int:
        settings = stage.train
        return updates(len(self.stage_rows(stage)), batch_size=settings.batch_size, accumulation=settings.accumulation,  # type: ignore[arg-type]
                       epochs=settings.epochs, max_steps=settings.max_steps)  # type: ignore[arg-type]  # fmt: skip


def prepare(recipe: Recipe, say: Say = lambda line: None) -> Plan:
    """Read and check everything that a run needs: data, teacher, student, objectives. Writes nothing.

    Raises:
        UserError: anything that does not fit.
    """
    task: Task = parts.part("tasks", recipe.task)()
    if not recipe.teacher.models:
        raise RecipeError(
            f"{recipe.name}: teacher.models is missing; give --teacher FOLDER (fine-tuned), or a file with logits"
        )
    if recipe.data.train is None:
        raise RecipeError(f"{recipe.name}: data.train is missing; give --train FILE")
    loaded = _load_models(recipe)
    names = loaded.label_names if loaded else None
    if loaded is not None and (names is None) != (task.label_type == "number"):
        raise ModelError(
            f"{recipe.teacher.models[0]}: a {'regression' if names is None else 'classification'} model, but --task is {recipe.task}"
        )
    rows = read(recipe.data, task, seed=recipe.data.split_seed, label_names=names)
    for note in rows.notes:
        say(f"Note: {note}")
    teacher: Teacher = loaded or FileTeacher(recipe.teacher.models[0], dict(recipe.data.columns), rows.label_names)
    blueprint = Blueprint(
        texts=rows.texts, label_names=rows.label_names, pair=rows.pair, max_length=recipe.data.max_length, seed=recipe.seed,
        teacher=teacher.model,
    )  # fmt: skip
    kind = recipe.student.make()
    student = kind.build(blueprint)
    if teacher.model is not None and student.parameters > teacher.model.parameters:
        say(
            f"Warning: the student is larger than the teacher ({student.parameters:,} parameters against {teacher.model.parameters:,})"
        )
    resolved = recipe.model_copy(
        update={
            "stages": tuple(
                stage.model_copy(update={"train": _resolved(stage.train, kind.training)}) for stage in recipe.stages
            )
        }
    )
    plan = Plan(resolved, task, rows, teacher, student, kind.autocast)
    for stage in resolved.stages:
        plan.stage_rows(stage)
        for _, objective in make_objectives(stage.objectives):
            objective.prepare(labels=_label_tensor(rows.train["label"]), outputs=task.outputs(rows.label_names))
    return plan


def teach(
    recipe: Recipe, store: str | Path, *, device: str | None = None, say: Say = lambda line: None
) -> dict[str, int]:
    """Fill a store with the teacher's outputs for every row of a recipe's data.

    Returns:
        rows computed now, and rows kept in all.
    """
    device = find_device(device)
    plan = prepare(recipe, say)
    kept = _open_store(plan, Path(store))
    added = sum(kept.fill(plan.teacher, rows, device=device) for rows in taught_rows(plan))
    return {"computed": added, "kept": len(kept)}


# --- the steps of distill, in order


@dataclass(frozen=True)
class TeacherOutputs:
    """The store, and how to speak of the teacher in the facts."""

    store: Store
    teacher: Teacher
    seconds: float | None

    def measured(self, plan: Plan, test: Any) -> Measured:
        known = not isinstance(self.teacher, FileTeacher) or self.teacher.covers(labelled(test))
        folder = Path(plan.recipe.teacher.models[0])
        single = len(plan.recipe.teacher.models) == 1 and folder.is_dir()
        return Measured(
            self.store.logits(labelled(test)) if known else None,
            self.teacher.model,
            folder if single else None,
            self.seconds,
        )


def _teach(plan: Plan, run: Run, device: str, say: Say) -> TeacherOutputs:
    """Fill the store; stop if the teacher turns out not to know its task."""
    folder = Path(plan.recipe.teacher.store or run.folder / "teacher_outputs")
    try:
        store = _open_store(plan, folder)
        validation = labelled(plan.rows.validation)
        if not isinstance(plan.teacher, FileTeacher) or plan.teacher.covers(validation):
            store.fill(plan.teacher, validation, device=device, name="teacher on validation")
            _check_teacher(plan, store.logits(validation), np.asarray(validation["label"]))
        computed = sum(store.fill(plan.teacher, rows, device=device) for rows in taught_rows(plan))
    except UserError:
        run.discard()
        raise
    say(f"Teacher outputs: {computed:,} rows computed now, {len(store):,} kept in {folder}")
    facts = Path(plan.recipe.teacher.models[0]) / "facts.json"
    seconds = None
    if facts.is_file():
        seconds = json.loads(facts.read_text("utf-8")).get("models", {}).get("teacher", {}).get("seconds")
    return TeacherOutputs(store, plan.teacher, seconds)


def _train_student(plan: Plan, run: Run, outputs: TeacherOutputs, device: str, say: Say) -> Measured:
    folder = run.folder / "student"
    record = run.folder / "checkpoints" / "student.json"
    if not record.is_file():
        student, seconds = _train_stages(
            plan, plan.recipe.stages, plan.stage_rows, outputs, run, "student", device, say
        )
        if is_helper():
            return Measured(None)
        student.save(folder)
        _note(record, {"seconds": seconds})
    return Measured(None, TextModel.load(folder), folder, json.loads(record.read_text("utf-8"))["seconds"])


def _train_control(
    control: str, plan: Plan, run: Run, outputs: TeacherOutputs, device: str, kept: Path, say: Say
) -> Measured:
    """The same student with the same number of updates and the same selection: on the labels alone, or on the teacher's argmax."""
    folder = run.folder / f"student_{control}"
    stages = (
        [_alone_stage(plan)] if control == "alone" else [_pseudo_label_stage(stage) for stage in plan.recipe.stages]
    )
    key = _control_key(control, plan, stages, device)
    shelf = kept / key
    name = f"student_{control}"
    if (shelf / "trained.json").is_file():
        say(f"The control '{control}' was trained before with these settings: taken from {shelf}")
        if not is_helper() and f'"{name}"' not in _text(run.folder / "metrics.jsonl"):
            with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(_text(shelf / "metrics.jsonl"))
    else:
        rows_of = (lambda stage: labelled(plan.rows.train)) if control == "alone" else plan.stage_rows
        student, seconds = _train_stages(plan, stages, rows_of, outputs, run, name, device, say)
        if not is_helper():
            student.save(shelf / "model")
            lines = _text(run.folder / "metrics.jsonl").splitlines(keepends=True)
            write_whole(shelf / "metrics.jsonl", "".join(line for line in lines if json.loads(line)["model"] == name))
            _note(shelf / "trained.json", {"seconds": seconds})
    if is_helper():
        return Measured(None)
    shutil.copytree(shelf / "model", folder, dirs_exist_ok=True)
    return Measured(
        None, TextModel.load(folder), folder, json.loads((shelf / "trained.json").read_text("utf-8"))["seconds"]
    )


def train_stage(
    plan: Plan, student: TextModel, stage: Stage, rows: Any, teacher_logits: np.ndarray | None, checkpoints: Path, name: str,
    device: str, *, write: Callable[[dict[str, Any]], None],
) -> Trained:  # fmt: skip
    """Train `student` in place on the rows of one stage; validation rows select."""
    return train(
        student, tokenized(student, rows, teacher_logits, balanced=stage.train.balanced_sampling), by_length(student, labelled(plan.rows.validation)),
        plan.task, stage.train, make_objectives(stage.objectives), folder=checkpoints, metric=plan.recipe.selection_metric,
        seed=plan.recipe.seed, name=name.replace("_", " "), write=write, device=device, autocast=plan.autocast,
        report_to=plan.recipe.report_to,
    )  # fmt: skip


def _train_stages(
    plan: Plan, stages: Sequence[Stage], rows_of: Callable[[Stage], Any], outputs: TeacherOutputs, run: Run, name: str, device: str, say: Say,
) -> tuple[TextModel, float]:  # fmt: skip
    """A fresh student through all stages; returns it with the seconds it took."""
    student = _copy(plan.student)
    seconds = 0.0
    for stage in stages:
        rows = rows_of(stage)
        say(f"Training the {name.replace('_', ' ')} ({plan.recipe.student.kind}, {student.parameters:,} parameters): "
            f"{len(rows):,} rows, {plan.updates(stage):,} updates")  # fmt: skip
        taught = any(objective.needs for weight, objective in make_objectives(stage.objectives) if weight)
        logits = outputs.store.logits(rows) if taught else None
        checkpoints = run.folder / "checkpoints" / f"{name}-{stage.name}"
        trained = train_stage(
            plan, student, stage, rows, logits, checkpoints, name, device, write=run.writer(name, stage.name)
        )
        seconds += trained.seconds
    return student, seconds


# --- controls


def _alone_stage(plan: Plan) -> Stage:
    """The labels only, for as many updates as the student makes in all its stages, under its last stage's settings."""
    last = plan.recipe.stages[-1]
    own = next((one for one in last.objectives if one.kind == "labels"), ObjectivePart(kind="labels"))
    settings: dict[str, Any] = {**own.settings, "target": "gold"}
    steps = sum(plan.updates(stage) for stage in plan.recipe.stages)
    return last.model_copy(
        update={
            "name": "alone",
            "objectives": (ObjectivePart(kind="labels", weight=1.0, **settings),),
            "train": last.train.model_copy(update={"max_steps": steps}),
        }
    )


_TEACHER_TARGET: dict[str, Any] = {"target": "teacher"}


def _pseudo_label_stage(stage: Stage) -> Stage:
    """The stage with the teacher's argmax in the place of all else that the teacher says."""
    objectives = tuple(
        ObjectivePart(kind="labels", weight=one.weight, target="teacher")
        if one.make().needs and one.kind != "labels"
        else one
        for one in stage.objectives
    )
    return stage.model_copy(update={"objectives": objectives})


def _control_key(control: str, plan: Plan, stages: Sequence[Stage], device: str) -> str:
    """What decides a control's weights. The teacher's outputs count only where the control sees them."""
    import torch

    facts = plan.rows.facts()
    described = {
        "control": control, "understudy": __version__, "torch": torch.__version__, "device": device, "seed": plan.recipe.seed,
        "student": plan.student.fingerprint, "stages": [stage.model_dump(mode="json") for stage in stages],
        "metric": plan.recipe.selection_metric, "train": facts["train"], "validation": facts["validation"],
        "teacher": None if control == "alone" else [plan.teacher.fingerprint, facts.get("transfer")],
    }  # fmt: skip
    return f"{control}-{hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]}"


# --- small steps


def _load_models(recipe: Recipe) -> ModelTeacher | None:
    """The teacher's models; None when it is a file of outputs."""
    files = [name for name in recipe.teacher.models if is_file(name)]
    if files and len(recipe.teacher.models) > 1:
        raise RecipeError(f"teacher {files[0]} is a file of outputs; it cannot be mixed with other teachers")
    if files:
        return None
    models = [TextModel.load(name, max_length=recipe.data.max_length) for name in recipe.teacher.models]
    return ModelTeacher(models, recipe.teacher.combine)


def _check_teacher(plan: Plan, logits: np.ndarray, labels: np.ndarray) -> None:
    """Refuse a teacher that knows less than the most frequent answer."""
    found = plan.task.metrics(plan.task.predictions(logits), labels)
    name = plan.recipe.teacher.models[0]
    if plan.task.label_type == "number":
        if found["pearson"] <= 0:
            raise ModelError(
                f"{name}: its Pearson correlation on the validation rows is {found['pearson']:.3f}; it does not know this task"
            )
        return
    majority = float(np.bincount(labels).max() / len(labels))
    if found["accuracy"] < majority:
        raise ModelError(
            f"{name}: its accuracy on the validation rows is {found['accuracy']:.3f}, below always answering the most frequent label "
            f"({majority:.3f}). Is it fine-tuned on this task, with the labels {', '.join(plan.rows.label_names or ())} in this order?"
        )


def _open_store(plan: Plan, folder: Path) -> Store:
    return Store(
        folder, plan.teacher.fingerprint, plan.task.outputs(plan.rows.label_names), dtype=plan.recipe.teacher.dtype
    )


def taught_rows(plan: Plan) -> list[Any]:
    """Rows whose outputs a run uses. A black box is asked for test rows only if it knows them."""
    rows = [plan.stage_rows(stage) for stage in plan.recipe.stages]
    for measured in (plan.rows.validation, plan.rows.test):
        known = labelled(measured)
        if not isinstance(plan.teacher, FileTeacher) or plan.teacher.covers(known):
            rows.append(known)
    return rows


def _resolved(settings: TrainSettings, defaults: dict[str, Any]) -> TrainSettings:
    """Settings with what the recipe leaves open taken from the kind of student."""
    return settings.model_copy(
        update={name: value for name, value in defaults.items() if getattr(settings, name) is None}
    )


def _label_tensor(labels: Any) -> Any:
    import torch

    return torch.as_tensor(np.asarray(labels))


def _copy(model: TextModel) -> TextModel:
    return TextModel(copy.deepcopy(model.model), model.tokenizer, model.max_length)


def _note(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(values))


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""
