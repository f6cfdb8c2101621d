"""The programs: `finetune`, `teach`, `distill`. Each reads like the README; the work is done in the rooms."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy import __version__, parts
from understudy.data.batches import TokenizedRows, Tokens
from understudy.data.rows import Rows, read
from understudy.errors import DataError, ModelError, RecipeError, UserError
from understudy.evaluate.measure import Measured, compare
from understudy.evaluate.speed import size
from understudy.objectives.labels import UNLABELLED
from understudy.recipe import FinetuneSettings, ObjectivePart, Recipe, Stage, TrainSettings
from understudy.report.page import write_page
from understudy.run import Run, check, write_whole
from understudy.students import Blueprint
from understudy.tasks import Task
from understudy.teachers.capture import logits_of
from understudy.teachers.store import Store
from understudy.teachers.teacher import FileTeacher, ModelTeacher, Teacher, is_file
from understudy.text_model import TextModel
from understudy.train.precision import find_device
from understudy.train.training import Trained, train
from understudy.train.trainer import updates

Say = Callable[[str], None]


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
    with _main_process_first():
        run = Run.start(out, plan.recipe.dump(), resume=resume or _is_helper(), overwrite=overwrite, device=device)
    if run.finished:
        say(f"{out} is a finished run; nothing to do")
        return run
    with _main_process_first():
        outputs = _teach(plan, run, device, say)
    student = _train_student(plan, run, outputs, device, say)
    others = {
        f"student_{control}": _train_control(control, plan, run, outputs, device, Path(controls or out.parent / ".controls"), say)
        for control in plan.recipe.control
    }
    if _is_helper():
        return run
    say("Measuring on the test rows")
    models = {"teacher": outputs.measured(plan, plan.rows.test), **others, "student": student}
    task = plan.task
    test = _labelled(plan.rows.test)
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
        raise RecipeError(f"{recipe.name}: teacher.models is missing; give --teacher FOLDER (fine-tuned), or a file with logits")
    if recipe.data.train is None:
        raise RecipeError(f"{recipe.name}: data.train is missing; give --train FILE")
    teacher = _load_models(recipe)
    names = teacher.label_names if teacher else None
    if teacher is not None and (names is None) != (task.label_type == "number"):
        raise ModelError(f"{recipe.teacher.models[0]}: a {'regression' if names is None else 'classification'} model, but --task is {recipe.task}")
    rows = read(recipe.data, task, seed=recipe.data.split_seed, label_names=names)
    for note in rows.notes:
        say(f"Note: {note}")
    if teacher is None:
        teacher = FileTeacher(recipe.teacher.models[0], dict(recipe.data.columns), rows.label_names)
    blueprint = Blueprint(
        texts=_texts(rows), label_names=rows.label_names, pair=rows.pair, max_length=recipe.data.max_length, seed=recipe.seed,
        teacher=teacher.model,
    )  # fmt: skip
    kind = recipe.student.make()
    student = kind.build(blueprint)
    if teacher.model is not None and student.parameters > teacher.model.parameters:
        say(f"Warning: the student is larger than the teacher ({student.parameters:,} parameters against {teacher.model.parameters:,})")
    resolved = recipe.model_copy(
        update={"stages": tuple(stage.model_copy(update={"train": _resolved(stage.train, kind.training)}) for stage in recipe.stages)}
    )
    plan = Plan(resolved, task, rows, teacher, student, kind.autocast)
    for stage in resolved.stages:
        plan.stage_rows(stage)
        for _, objective in _objectives(stage.objectives):
            objective.prepare(labels=_label_tensor(rows.train["label"]), outputs=task.outputs(rows.label_names))
    return plan


def finetune(
    settings: FinetuneSettings, out: str | Path, *, resume: bool = False, overwrite: bool = False, device: str | None = None,
    say: Say = lambda line: None, command: str = "",
) -> Run:  # fmt: skip
    """Train an encoder on labelled rows, all of it or its last layers; `out` becomes a model folder with its facts.

    Args:
        settings: model, data, training.
        out: the folder; `AutoModelForSequenceClassification.from_pretrained(out)` loads it.

    Raises:
        UserError: the input does not fit; nothing is left behind.
    """
    out, device = Path(out), find_device(device)
    check(out, settings.dump(), resume=resume, overwrite=overwrite)
    task: Task = parts.part("tasks", settings.task)()
    if settings.data.train is None:
        raise RecipeError("data.train is missing; give --train FILE")
    rows = read(settings.data, task, seed=settings.data.split_seed)
    for note in rows.notes:
        say(f"Note: {note}")
    from transformers.trainer_utils import set_seed

    set_seed(settings.seed)  # the new head is drawn while loading
    model = TextModel.load(settings.model, max_length=settings.data.max_length, label_names=rows.label_names, outputs=task.outputs(rows.label_names))
    with _main_process_first():
        run = Run.start(out, settings.dump(), resume=resume or _is_helper(), overwrite=overwrite, device=device)
    if run.finished:
        say(f"{out} is finished; nothing to do")
        return run
    labelled = _labelled(rows.train)
    say(f"Fine-tuning {settings.model} ({model.parameters:,} parameters) on {len(labelled):,} rows")
    trained = train(
        model, _tokenized(model, labelled), _validation(model, rows), task, settings.train, _objectives([settings.objective]),
        folder=out / "checkpoints" / "finetune", metric=settings.selection_metric, seed=settings.seed, name="fine-tuning",
        write=run.writer("teacher", "finetune"), device=device, report_to=settings.report_to,
    )  # fmt: skip
    if _is_helper():
        return run
    _save_into(model, out)
    test = _labelled(rows.test)
    facts = compare({"student": Measured(logits_of(model, test, device=device), model, out, trained.seconds)}, test, task,
                    metric=settings.selection_metric, label_names=rows.label_names, device=device, speed=False)  # fmt: skip
    run.record({
        "understudy": __version__, "task": settings.task, "recipe": "finetune", "seed": settings.seed, "command": command,
        "label_names": rows.label_names, "data": rows.facts(), "primary_metric": settings.selection_metric,
        "models": {"teacher": facts["models"]["student"]}, "best_validation": trained.best, "best_step": trained.best_step,
        "precision": trained.precision,
    })  # fmt: skip
    return run


def teach(recipe: Recipe, store: str | Path, *, device: str | None = None, say: Say = lambda line: None) -> dict[str, int]:
    """Fill a store with the teacher's outputs for every row of a recipe's data.

    Returns:
        rows computed now, and rows kept in all.
    """
    device = find_device(device)
    plan = prepare(recipe, say)
    kept = _open_store(plan, Path(store))
    added = sum(kept.fill(plan.teacher, rows, device=device) for rows in _taught_rows(plan))
    return {"computed": added, "kept": len(kept)}


# --- the steps of distill, in order


@dataclass(frozen=True)
class TeacherOutputs:
    """The store, and how to speak of the teacher in the facts."""

    store: Store
    teacher: Teacher
    seconds: float | None

    def measured(self, plan: Plan, test: Any) -> Measured:
        known = not isinstance(self.teacher, FileTeacher) or self.teacher.covers(_labelled(test))
        folder = Path(plan.recipe.teacher.models[0])
        single = len(plan.recipe.teacher.models) == 1 and folder.is_dir()
        return Measured(self.store.logits(_labelled(test)) if known else None, self.teacher.model, folder if single else None, self.seconds)


def _teach(plan: Plan, run: Run, device: str, say: Say) -> TeacherOutputs:
    """Fill the store; stop if the teacher turns out not to know its task."""
    folder = Path(plan.recipe.teacher.store or run.folder / "teacher_outputs")
    try:
        store = _open_store(plan, folder)
        validation = _labelled(plan.rows.validation)
        if not isinstance(plan.teacher, FileTeacher) or plan.teacher.covers(validation):
            store.fill(plan.teacher, validation, device=device, name="teacher on validation")
            _check_teacher(plan, store.logits(validation), np.asarray(validation["label"]))
        computed = sum(store.fill(plan.teacher, rows, device=device) for rows in _taught_rows(plan))
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
        student = _copy(plan.student)
        seconds = 0.0
        for stage in plan.recipe.stages:
            rows = plan.stage_rows(stage)
            say(f"Training the student, {plan.recipe.student.kind} with {student.parameters:,} parameters: stage {stage.name}, "
                f"{len(rows):,} rows, {plan.updates(stage):,} updates")  # fmt: skip
            trained = _train(plan, student, stage, rows, outputs, run, "student", device)
            seconds += trained.seconds
        if not _is_helper():
            student.save(folder)
            _note(record, {"seconds": seconds})
        return Measured(None, student, folder, seconds)
    return Measured(None, TextModel.load(folder), folder, json.loads(record.read_text("utf-8"))["seconds"])


def _train_control(control: str, plan: Plan, run: Run, outputs: TeacherOutputs, device: str, kept: Path, say: Say) -> Measured:
    """The same student with the same number of updates and the same selection: on the labels alone, or on the teacher's argmax."""
    folder = run.folder / f"student_{control}"
    stages = [_alone_stage(plan)] if control == "alone" else [_pseudo_label_stage(stage) for stage in plan.recipe.stages]
    key = _control_key(control, plan, stages, device)
    shelf = kept / key
    if not (shelf / "trained.json").is_file():
        student = _copy(plan.student)
        seconds = 0.0
        for stage in stages:
            rows = _labelled(plan.rows.train) if control == "alone" else plan.stage_rows(stage)
            say(f"Training the control '{control}': the same student on {len(rows):,} rows, {plan.updates(stage):,} updates")
            trained = _train(plan, student, stage, rows, outputs, run, f"student_{control}", device)
            seconds += trained.seconds
        if not _is_helper():
            student.save(shelf / "model")
            lines = [line for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines() if json.loads(line)["model"] == f"student_{control}"]
            write_whole(shelf / "metrics.jsonl", "\n".join(lines) + "\n")
            _note(shelf / "trained.json", {"seconds": seconds})
    else:
        say(f"The control '{control}' was trained before with these settings: kept in {shelf}")
        if not _is_helper() and f'"student_{control}"' not in _text(run.folder / "metrics.jsonl"):
            with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(_text(shelf / "metrics.jsonl"))
    if _is_helper():
        return Measured(None)
    shutil.copytree(shelf / "model", folder, dirs_exist_ok=True)
    return Measured(None, TextModel.load(folder), folder, json.loads((shelf / "trained.json").read_text("utf-8"))["seconds"])


def _train(
    plan: Plan, student: TextModel, stage: Stage, rows: Any, outputs: TeacherOutputs, run: Run, name: str, device: str
) -> Trained:
    objectives = _objectives(stage.objectives)
    taught = any(objective.needs for weight, objective in objectives if weight)
    return train(
        student, _tokenized(student, rows, outputs.store.logits(rows) if taught else None, balanced=stage.train.balanced_sampling),
        _validation(student, plan.rows), plan.task, stage.train, objectives,
        folder=run.folder / "checkpoints" / f"{name}-{stage.name}", metric=plan.recipe.selection_metric, seed=plan.recipe.seed,
        name=name.replace("_", " "), write=run.writer(name, stage.name), device=device, autocast=plan.autocast,
        report_to=plan.recipe.report_to,
    )  # fmt: skip


# --- controls


def _alone_stage(plan: Plan) -> Stage:
    """The labels only, for as many updates as the student makes in all its stages, under its last stage's settings."""
    last = plan.recipe.stages[-1]
    own = next((one for one in last.objectives if one.kind == "labels"), ObjectivePart(kind="labels"))
    settings = {**own.settings, "target": "gold"}
    steps = sum(plan.updates(stage) for stage in plan.recipe.stages)
    return last.model_copy(
        update={
            "name": "alone",
            "objectives": (ObjectivePart(kind="labels", weight=1.0, **settings),),
            "train": last.train.model_copy(update={"max_steps": steps}),
        }
    )


def _pseudo_label_stage(stage: Stage) -> Stage:
    """The stage with the teacher's argmax in the place of all else that the teacher says."""
    objectives = tuple(
        ObjectivePart(kind="labels", weight=one.weight, target="teacher") if one.make().needs and one.kind != "labels" else one
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
            raise ModelError(f"{name}: its Pearson correlation on the validation rows is {found['pearson']:.3f}; it does not know this task")
        return
    majority = float(np.bincount(labels).max() / len(labels))
    if found["accuracy"] < majority:
        raise ModelError(
            f"{name}: its accuracy on the validation rows is {found['accuracy']:.3f}, below always answering the most frequent label "
            f"({majority:.3f}). Is it fine-tuned on this task, with the labels {', '.join(plan.rows.label_names or ())} in this order?"
        )


def _open_store(plan: Plan, folder: Path) -> Store:
    return Store(folder, plan.teacher.fingerprint, plan.task.outputs(plan.rows.label_names), dtype=plan.recipe.teacher.dtype)


def _taught_rows(plan: Plan) -> list[Any]:
    """Rows whose outputs a run uses. A black box is asked for test rows only if it knows them."""
    rows = [plan.stage_rows(stage) for stage in plan.recipe.stages]
    for measured in (plan.rows.validation, plan.rows.test):
        labelled = _labelled(measured)
        if not isinstance(plan.teacher, FileTeacher) or plan.teacher.covers(labelled):
            rows.append(labelled)
    return rows


def _resolved(settings: TrainSettings, defaults: dict[str, Any]) -> TrainSettings:
    """Settings with what the recipe leaves open taken from the kind of student."""
    return settings.model_copy(update={name: value for name, value in defaults.items() if getattr(settings, name) is None})


def _objectives(described: Sequence[ObjectivePart]) -> list[tuple[float, Any]]:
    return [(one.weight, one.make()) for one in described]


def _labelled(rows: Any) -> Any:
    labels = np.asarray(rows["label"])
    has = ~np.isnan(labels) if labels.dtype.kind == "f" else labels != UNLABELLED
    return rows if has.all() else rows.select(np.flatnonzero(has))


def _label_tensor(labels: Any) -> Any:
    import torch

    return torch.as_tensor(np.asarray(labels))


def _tokenized(model: TextModel, rows: Any, teacher_logits: np.ndarray | None = None, *, balanced: bool = False) -> TokenizedRows:
    labels = np.asarray(rows["label"])
    weights = None
    if balanced and labels.dtype.kind != "f":
        counts = np.bincount(labels[labels >= 0])
        weights = np.where(labels >= 0, 1.0 / counts[np.maximum(labels, 0)].clip(min=1), 1.0 / counts.max())
    return TokenizedRows(Tokens(model, rows), labels, teacher_logits, sampling_weights=weights)


def _validation(model: TextModel, rows: Rows) -> TokenizedRows:
    """Validation rows in order of length, so that their batches hold little padding."""
    labelled = _labelled(rows.validation)
    lengths = Tokens(model, labelled).lengths
    return _tokenized(model, labelled.select(np.argsort(-lengths, kind="stable")))


def _texts(rows: Rows) -> list[str]:
    """Every text that training sees, both sides of pairs."""
    seen = [part for part in (rows.train, rows.transfer) if part is not None]
    columns = ["text", "text_pair"] if rows.pair else ["text"]
    return [text for part in seen for column in columns for text in part[column]]


def _copy(model: TextModel) -> TextModel:
    return TextModel(copy.deepcopy(model.model), model.tokenizer, model.max_length)


def _save_into(model: TextModel, folder: Path) -> None:
    """Save a model into a folder that holds other things too: complete beside it, then moved in file by file."""
    new = folder / ".model.new"
    model.save(new)
    for path in sorted(new.iterdir()):
        path.replace(folder / path.name)
    new.rmdir()


def _note(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(values))


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


# --- several processes (accelerate launch): the main one writes, the helpers train along


def _is_helper() -> bool:
    return int(os.environ.get("RANK", "0")) > 0


def _main_process_first() -> AbstractContextManager[None]:
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return nullcontext()
    from accelerate import PartialState

    return PartialState().main_process_first()
