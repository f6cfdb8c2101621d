"""Reads and checks all that a run needs, before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from understudy import parts
from understudy.data.rows import Rows, held_out_texts, labelled, read, say_notes, single_texts
from understudy.errors import ModelError, RecipeError, UserError
from understudy.models.text_model import TextModel
from understudy.runs.checks import check, check_stages, warn_of_few_updates, warn_of_unknown_words
from understudy.runs.folder import Say
from understudy.runs.made_rows import made_rows
from understudy.runs.plan import ALONE, Plan, TaskPlan
from understudy.runs.students import pretrained_of, untrained_students
from understudy.settings.base import ObjectivePart
from understudy.settings.recipe import Recipe
from understudy.settings.stage import Stage, TrainSettings, with_defaults
from understudy.tasks import Task, check_head, task_of
from understudy.teachers.file import FileTeacher
from understudy.teachers.teacher import ModelTeacher, NoTeacher, Teacher, is_file

if TYPE_CHECKING:
    from datasets import Dataset

Augmented = Mapping[str, Mapping[str, "Dataset"]]  # task → stage → its augmented rows
NOT_AUGMENTED: Augmented = MappingProxyType({})


class TaskData(NamedTuple):
    """What is read for one task.

    Args:
        recipe: of this task alone.
    """

    recipe: Recipe
    task: Task
    rows: Rows
    teacher: Teacher


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with every open training setting filled in from its kind of student.

    Raises:
        RecipeError: no teacher or no training rows are named; with several tasks: none has a teacher, or one has no training rows.
    """
    if recipe.tasks is not None:
        _check_tasks(recipe)
        return filled_in(recipe)
    if not recipe.teacher.models:
        raise RecipeError(f"{recipe.name}: teacher.models is missing; give --teacher FOLDER (fine-tuned), or a file with logits")
    if recipe.data.train is None:
        if recipe.data.transfer is None:
            raise RecipeError(f"{recipe.name}: data.train is missing; give --train FILE, or only --transfer FILE where no row has a label")
        # Only the teacher labels these rows: a control without it cannot be trained, nor a temperature fitted.
        control = tuple(control for control in recipe.control if control != "alone")
        recipe = recipe.model_copy(update={"control": control, "calibrate": False})
    return filled_in(recipe)


def _check_tasks(recipe: Recipe) -> None:
    """Refuse a recipe whose list of tasks is empty, one of whose tasks has no training rows, or that has no teacher at all."""
    if not recipe.tasks:
        raise RecipeError(
            f"{recipe.name} is for several tasks; name each of them: --task NAME=classification (or similarity), "
            "--train NAME=FILE and --teacher NAME=FOLDER"
        )
    mistakes = [
        f"task {task.name} has no training rows; give --train {task.name}=FILE"
        + (" (without any labels, distil it alone: a recipe with one task takes --transfer without --train)" if task.data.transfer else "")
        for task in recipe.tasks
        if task.data.train is None
    ]
    mistakes += [
        f"task {task.name} has transfer rows, but no teacher to label them; give --teacher {task.name}=FOLDER or leave them out"
        for task in recipe.tasks
        if task.data.transfer and not task.teacher.models
    ]
    if not any(task.teacher.models for task in recipe.tasks):
        mistakes.append(f"no task has a teacher; give at least one, as --teacher {recipe.tasks[0].name}=FOLDER")
    if mistakes:
        raise RecipeError("\n".join(f"{recipe.name}: {mistake}" for mistake in mistakes))


def filled_in(recipe: Recipe) -> Recipe:
    """The recipe with the open training settings of each stage filled in from its kind of student."""

    def filled(stage: Stage) -> Stage:
        defaults = (stage.student or recipe.student).make().defaults()
        return stage.model_copy(update={"train": TrainSettings(**with_defaults(stage.train.model_dump(), defaults))})

    return recipe.model_copy(update={"stages": tuple(map(filled, recipe.stages))})


def gather(recipe: Recipe, say: Say, *, device: str = "cpu") -> tuple[Task, Rows, Teacher]:
    """The task of a recipe, its rows and its teacher.

    Validation and test rows without labels are labelled by the teacher.

    Raises:
        UserError: data or teacher do not fit the task, or each other.
    """
    task: Task = parts.part("tasks", recipe.task)()
    settings, answer, models = recipe.data, task.answer(), _load_models(recipe)
    if models is not None:
        check_head(task, models.models[0].problem_type, recipe.teacher.models[0])

    def of_file(names: tuple[str, ...] | None) -> FileTeacher:
        # A file of answers calls them `label`, whatever the task does.
        columns = {"label" if our == answer.name else our: theirs for our, theirs in settings.columns.items()}
        columns.setdefault("label", answer.name)
        scale = recipe.teacher.confidence_scale
        return FileTeacher(recipe.teacher.models[0], columns, names, number=answer.kind == "number", scale=scale)

    file = bool(recipe.teacher.models) and models is None
    if file and answer.kind == "classes":
        raise RecipeError(
            f"{recipe.teacher.models[0]}: a file of answers is read for one class a row or a number, not for several labels a row; give a "
            "model's folder"
        )
    teacher: Teacher = models or NoTeacher()
    if file and settings.train is None:  # then the file names the classes
        teacher = of_file(settings.label_names)
    unanswered = teacher.unanswered if isinstance(teacher, FileTeacher) else frozenset()
    rows = read(settings, task, seed=settings.split_seed, label_names=teacher.label_names, unanswered=unanswered)
    if file:
        teacher = teacher if isinstance(teacher, FileTeacher) else of_file(rows.label_names)
        rows = _answered(teacher, rows, declared=settings.label_names is not None)
    if rows.labelled_by_teacher:
        rows = _labelled_by(teacher, rows, task, device)
    say_notes(rows.notes, say)
    return task_of(rows.label_names, recipe.task), rows, teacher


def _answered(teacher: FileTeacher, rows: Rows, *, declared: bool) -> Rows:
    """The rows that a file of outputs has logits for; the labels are used to check the order of its classes."""
    known = [getattr(rows, name) for name in ("train", "validation", "test") if name not in rows.labelled_by_teacher]
    teacher.check_order(list(map(labelled, known)), declared=declared)
    answered = {
        name: part.select([row for row, key in enumerate(part["identity"]) if key not in teacher.unanswered])
        for name in ("train", "transfer")
        if teacher.unanswered and (part := getattr(rows, name)) is not None
    }
    notes = [*rows.notes, *teacher.notes]
    if "test" not in rows.labelled_by_teacher and (count := teacher.answered(rows.test)) < len(rows.test):
        notes.append(
            f"The teacher is not measured: {teacher.path} answers {count:,} of {len(rows.test):,} test rows. To measure it beside the "
            "student, append its answers to the others."
        )
    return replace(rows, **answered, notes=tuple(notes))


def _labelled_by(teacher: Teacher, rows: Rows, task: Task, device: str) -> Rows:
    """The rows with the teacher's predictions as labels of the splits that have none."""
    from datasets import Dataset

    splits, answers = {}, []
    for split in rows.labelled_by_teacher:
        part: Dataset = getattr(rows, split)
        outputs = teacher.first_logits(part, device=device)
        answers.append(task.predictions(task.decided(outputs, teacher.fitted)))
        splits[split] = Dataset.from_dict({**part.to_dict(), "label": answers[-1].tolist()}, features=part.features)
    names, labels = rows.label_names, np.concatenate(answers)
    if len(np.unique(labels, axis=0)) < 2:
        raise ModelError(
            f"the teacher gives the same answer to all {len(labels)} held-out rows; it was not trained for this task, or these texts"
        )
    spread = f"numbers from {labels.min():.3g} to {labels.max():.3g}"
    if names is not None:
        counts = Counter(np.argwhere(labels == 1)[:, 1].tolist() if labels.ndim == 2 else labels.tolist())
        spread = ", ".join(f"{names[place]} ({count:,})" for place, count in counts.most_common(30))
    note = (
        f"The {' and '.join(rows.labelled_by_teacher)} rows have the teacher's answers as labels: {spread}. Figures on them are agreement "
        "with the teacher" + ("; quality against the truth is unknown." if "test" in rows.labelled_by_teacher else ".")
    )
    return replace(rows, **splits, notes=(*rows.notes, note))


def prepare(recipe: Recipe, say: Say = lambda line: None, *, device: str = "cpu", run_folder: Path | None = None) -> Plan:
    """Read and check everything that a resolved recipe needs: data, teachers, student, objectives. Writes nothing.

    The teachers are run on the validation rows, so that one that was not trained for its task is refused here.

    Args:
        device: where the teachers are run.
        run_folder: the folder of the run, which may already hold augmented rows and teachers' outputs.

    Raises:
        UserError: with what does not fit.
    """
    data = {}
    for name, task_recipe in recipes_of(recipe).items():
        with named(name):
            task, rows, teacher = gather(task_recipe, about(name, say), device=device)
            data[name] = TaskData(_for_task(task_recipe, task, teacher) if name else task_recipe, task, rows, teacher)
    pretrained = pretrained_of(recipe)
    plan = _planned(recipe, data, pretrained)
    first = plan.first
    if len(data) == 1 and first.teacher.model is not None and first.student.parameters > first.teacher.model.parameters:
        sizes = f"{first.student.parameters:,} parameters against {first.teacher.model.parameters:,}"
        say(f"Warning: the student is larger than the teacher: {sizes}")
    for name, task_plan in plan.tasks.items():
        with named(name):
            check(task_plan, device, run_folder and run_folder / name)
            _note_left_out(task_plan, about(name, say))
    if any(stage.augment for task_plan in plan.tasks.values() for stage in task_plan.recipe.stages):
        augmented = {}
        for name, task_plan in plan.tasks.items():
            with named(name):
                augmented[name] = made_rows(task_plan, run_folder and run_folder / name, about(name, say))
        plan = _planned(recipe, data, pretrained, augmented)
        for name, task_plan in plan.tasks.items():
            with named(name):
                check_stages(task_plan)
    for name, task_plan in plan.tasks.items():
        warn_of_unknown_words(task_plan, about(name, say))
    warn_of_few_updates(recipe, [stage.length.updates for stage in plan.stages], say, tasks=len(data))
    return plan


def recipes_of(recipe: Recipe) -> dict[str, Recipe]:
    """Task → the recipe of this task alone; a recipe without tasks is returned as that of `ALONE`."""
    if recipe.tasks is None:
        return {ALONE: recipe}
    return {
        task.name: recipe.model_copy(
            update={
                "tasks": None,
                "task": task.task,
                "metric": task.metric,
                "data": task.data.model_copy(update={"raw": None if number else recipe.data.raw}),  # read once, for all tasks
                "teacher": task.teacher.model_copy(update={"pretrained": recipe.teacher.pretrained}),
            }
        )
        for number, task in enumerate(recipe.tasks)
    }


def _for_task(recipe: Recipe, task: Task, teacher: Teacher) -> Recipe:
    """The recipe of one of several tasks, with objectives that fit it.

    A task that predicts a number has no classes: `logit_regression` replaces `soft_targets`. Without a teacher, `labels` replaces all
    objectives that use one, with the sum of their weights, and there is no augmentation, because its rows need a teacher's labels.
    """
    if isinstance(teacher, NoTeacher):
        recipe = recipe.model_copy(update={"control": ()})

    def fitting(objectives: Sequence[ObjectivePart], *, taught: bool) -> tuple[ObjectivePart, ...]:
        if task.answer().kind == "number":
            objectives = [
                ObjectivePart(kind="logit_regression", weight=part.weight) if part.kind == "soft_targets" else part for part in objectives
            ]
        if taught:
            return tuple(objectives)
        others = [part for part in objectives if part.kind != "labels" and not part.make().uses_teacher]
        settings = next((part.settings for part in objectives if part.kind == "labels"), {})
        weight = sum(part.weight for part in objectives if part not in others)
        return (ObjectivePart(kind="labels", weight=weight, **{**settings, "target": "gold"}), *others)

    def fitted(stage: Stage) -> Stage:
        if stage.masked_lm is not None:  # independent of the task
            return stage
        taught = not isinstance(teacher, NoTeacher) or stage.teacher != "given"
        mixup = stage.mixup and stage.mixup.model_copy(update={"objectives": fitting(stage.mixup.objectives, taught=taught)})
        return stage.model_copy(
            update={"objectives": fitting(stage.objectives, taught=taught), "mixup": mixup, "augment": stage.augment if taught else None}
        )

    return recipe.model_copy(update={"stages": tuple(map(fitted, recipe.stages))})


def _note_left_out(plan: TaskPlan, say: Say) -> None:
    """Report how many texts of transfer pairs masked language modelling leaves out."""
    rows, reads = plan.rows, any(stage.masked_lm and "transfer" in stage.rows for stage in plan.recipe.stages)
    if rows.pair and rows.transfer is not None and reads:
        texts, left = (len(single_texts(rows.transfer, held_out)) for held_out in ((), plan.held_out))
        if left < texts:
            say(
                f"Note: {texts - left:,} of {texts:,} texts of transfer pairs are also texts of validation or test pairs; masked language "
                "modelling leaves them out."
            )


def _planned(recipe: Recipe, data: Mapping[str, TaskData], pretrained: ModelTeacher | None, augmented: Augmented = NOT_AUGMENTED) -> Plan:
    """The plan with its untrained students; their vocabularies are also made from the augmented rows."""
    build = partial(
        untrained_students,
        recipe,
        {name: (task_data.task, task_data.rows, task_data.teacher) for name, task_data in data.items()},
        augmented=augmented,
    )
    students = build(recipe.student)
    assistants = {stage.name: build(stage.student) for stage in recipe.stages if stage.student}
    autocast = recipe.student.make().autocast
    tasks = {
        name: TaskPlan(
            task_data.recipe,
            task_data.task,
            task_data.rows,
            task_data.teacher,
            students[name],
            autocast,
            augmented.get(name, {}),
            {stage: students_of_stage[name] for stage, students_of_stage in assistants.items()},
            pretrained,
        )
        for name, task_data in data.items()
    }
    texts = {stage.name: held_out_texts(_texts(stage, tasks)) for stage in recipe.stages if stage.masked_lm}
    return Plan(recipe, {name: replace(plan, texts=texts) for name, plan in tasks.items()})


def _texts(stage: Stage, tasks: Mapping[str, TaskPlan]) -> Dataset:
    """What a stage on plain text learns from: the distinct texts of all tasks, without those that any task holds out."""
    from datasets import concatenate_datasets

    if len(tasks) == 1:
        return next(iter(tasks.values())).stage_rows(stage)
    texts, refused = [], None
    for plan in tasks.values():
        try:
            texts.append(plan.stage_rows(stage))
        except RecipeError as error:  # only some tasks have such rows
            refused = error
    if not texts:
        assert refused is not None
        raise refused
    held_out = frozenset().union(*(plan.held_out for plan in tasks.values()))
    return single_texts(concatenate_datasets(texts), held_out)


def about(task: str, say: Say) -> Say:
    """`say` with the name of the task before each line, if it has one."""
    return (lambda line: say(f"{task}: {line}")) if task else say


@contextmanager
def named(task: str) -> Iterator[None]:
    """Put the name of the task, if it has one, before the message of a `UserError`."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"task {task}: {error}" if task else str(error)) from error


def _load_models(recipe: Recipe) -> ModelTeacher | None:
    """The teacher's models; None where it is a file of outputs, or none is named."""
    files = [name for name in recipe.teacher.models if is_file(name)]
    if files and len(recipe.teacher.models) > 1:
        raise RecipeError(f"teacher {files[0]} is a file of outputs; it cannot be mixed with other teachers")
    if files or not recipe.teacher.models:
        return None
    models = [TextModel.load(name, max_length=recipe.data.max_length) for name in recipe.teacher.models]
    return ModelTeacher(models, recipe.teacher.combine, recipe.teacher.weights)
