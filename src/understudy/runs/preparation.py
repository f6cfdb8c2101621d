"""All that a run needs, read and checked before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from understudy import parts
from understudy.data.rows import Rows, held_out_texts, labelled, read, say_notes, single_texts, texts_in
from understudy.errors import ModelError, RecipeError
from understudy.models.text_model import TextModel
from understudy.models.view import MASKED
from understudy.runs.checks import check, check_stages, warn_of_few_updates
from understudy.runs.folder import Say
from understudy.runs.made_rows import made_rows
from understudy.runs.plan import Plan
from understudy.settings.recipe import Recipe
from understudy.settings.stage import Stage, TrainSettings, make_objectives, with_defaults
from understudy.students import Blueprint
from understudy.students.assembly import seeded
from understudy.tasks import Task, check_head, task_of
from understudy.teachers.file import FileTeacher
from understudy.teachers.teacher import ModelTeacher, NoTeacher, Teacher, is_file

if TYPE_CHECKING:
    from datasets import Dataset


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with every training setting that it leaves open taken from its kind of student.

    Raises:
        RecipeError: no teacher or no training rows are named.
    """
    if not recipe.teacher.models:
        raise RecipeError(
            f"{recipe.name}: teacher.models is missing; give --teacher FOLDER (fine-tuned), or a file with logits"
        )
    if recipe.data.train is None:
        if recipe.data.transfer is None:
            raise RecipeError(
                f"{recipe.name}: data.train is missing; give --train FILE, or only --transfer FILE where no row has a label"
            )
        # Nothing but the teacher labels these rows: there is no control without it, and no truth to fit a temperature on.
        control = tuple(one for one in recipe.control if one != "alone")
        recipe = recipe.model_copy(update={"control": control, "calibrate": False})
    return filled_in(recipe)


def filled_in(recipe: Recipe) -> Recipe:
    """The recipe with the open settings of its stages taken from their kind of student."""

    def filled(stage: Stage) -> Stage:
        defaults = (stage.student or recipe.student).make().defaults()
        return stage.model_copy(update={"train": TrainSettings(**with_defaults(stage.train.model_dump(), defaults))})

    return recipe.model_copy(update={"stages": tuple(map(filled, recipe.stages))})


def gather(recipe: Recipe, say: Say, *, device: str = "cpu") -> tuple[Task, Rows, Teacher]:
    """What one task starts from: what it is, its rows, and who teaches it.

    Without labelled rows the teacher labels those that are held out.

    Raises:
        UserError: data or teacher do not fit, or not each other.
    """
    task: Task = parts.part("tasks", recipe.task)()
    settings, number, models = recipe.data, task.answer().kind == "number", _load_models(recipe)
    if models is not None:
        check_head(task, models.models[0].problem_type, recipe.teacher.models[0])

    def of_file(names: tuple[str, ...] | None) -> FileTeacher:
        scale = recipe.teacher.confidence_scale
        return FileTeacher(recipe.teacher.models[0], settings.columns, names, number=number, scale=scale)

    file = bool(recipe.teacher.models) and models is None
    teacher: Teacher = models or NoTeacher()
    if file and settings.train is None:  # then it is the file that names the classes
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
    """The rows without those that a file does not answer; the order of its lists is checked with the labels."""
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
    """The rows with the teacher's answers as the labels of the splits that have none."""
    from datasets import Dataset

    made, answers = {}, []
    for split in rows.labelled_by_teacher:
        part: Dataset = getattr(rows, split)
        answers.append(task.predictions(teacher.first_logits(part, device=device)))
        made[split] = Dataset.from_dict({**part.to_dict(), "label": answers[-1]}, features=part.features)
    names, said = rows.label_names, np.concatenate(answers)
    if len(np.unique(said)) < 2:
        raise ModelError(
            f"the teacher gives the same answer to all {len(said)} held-out rows; it was not trained for this task, or these texts"
        )
    spread = f"numbers from {said.min():.3g} to {said.max():.3g}" if names is None else ", ".join(
        f"{names[place]} ({count:,})" for place, count in Counter(said.tolist()).most_common(30)
    )  # fmt: skip
    note = (
        f"The {' and '.join(rows.labelled_by_teacher)} rows have the teacher's answers as labels: {spread}. Figures on them are agreement "
        "with the teacher" + ("; quality against the truth is unknown." if "test" in rows.labelled_by_teacher else ".")
    )
    return replace(rows, **made, notes=(*rows.notes, note))


def prepare(
    recipe: Recipe, say: Say = lambda line: None, *, device: str = "cpu", run_folder: Path | None = None
) -> Plan:
    """Read and check everything that a resolved recipe needs: data, teacher, student, objectives. Writes nothing.

    The teacher answers the validation rows, so that one that does not know its task is found here.

    Args:
        run_folder: of the run, which may hold rows that were made before; see `keep_made_rows`.

    Raises:
        UserError: anything that does not fit.
    """
    task, rows, teacher = gather(recipe, say, device=device)
    plan = _planned(recipe, task, rows, teacher, _load_pretrained(recipe))
    if teacher.model is not None and plan.student.parameters > teacher.model.parameters:
        sizes = f"{plan.student.parameters:,} parameters against {teacher.model.parameters:,}"
        say(f"Warning: the student is larger than the teacher: {sizes}")
    check(plan, device, run_folder)
    if (
        rows.pair
        and rows.transfer is not None
        and any(stage.masked_lm and "transfer" in stage.rows for stage in recipe.stages)
    ):
        texts, left = (len(single_texts(rows.transfer, held_out)) for held_out in ((), plan.held_out))
        if left < texts:
            say(f"Note: {texts - left:,} of {texts:,} texts of transfer pairs are also texts of validation or test pairs; masked language "
                "modelling leaves them out.")  # fmt: skip
    if any(stage.augment for stage in recipe.stages):
        made = made_rows(plan, run_folder, say)
        plan = _planned(recipe, task, rows, teacher, plan.pretrained, made)
        check_stages(plan)
    warn_of_few_updates(recipe, [plan.updates(stage) for stage in recipe.stages], say)
    return plan


def _planned(
    recipe: Recipe, task: Task, rows: Rows, teacher: Teacher, pretrained: ModelTeacher | None,
    made: Mapping[str, Dataset] = MappingProxyType({}),
) -> Plan:  # fmt: skip
    """The plan with its untrained students; their vocabularies come from the rows made, too."""
    kind, blueprint = recipe.student.make(), blueprint_of(recipe, task, rows, teacher, made)
    assistants = {stage.name: stage.student.make().build(blueprint) for stage in recipe.stages if stage.student}
    plan = Plan(recipe, task, rows, teacher, kind.build(blueprint), kind.autocast, made, assistants, pretrained)
    texts = {stage.name: held_out_texts(plan.stage_rows(stage)) for stage in recipe.stages if stage.masked_lm}
    return replace(plan, texts=texts)


def blueprint_of(
    recipe: Recipe, task: Task, rows: Rows, teacher: Teacher, made: Mapping[str, Dataset] = MappingProxyType({})
) -> Blueprint:
    """What the students of a recipe are built from.

    Args:
        made: stage → rows made for it.
    """
    made_texts = (text.replace(MASKED, " ") for text in texts_in(*made.values()))
    return Blueprint(
        texts=[*rows.texts, *made_texts], label_names=rows.label_names, pair=rows.pair,
        max_length=recipe.data.max_length, seed=recipe.seed, problem_type=task.problem_type,
        teacher=under_new_head(recipe, rows, task) if recipe.teacher.pretrained else teacher.model,
    )  # fmt: skip


def _load_pretrained(recipe: Recipe) -> ModelTeacher | None:
    """The teacher before fine-tuning; its masked-language head only has to be there where a stage listens to it."""
    if recipe.teacher.pretrained is None:
        return None
    listened = any(
        objective.needs.logits
        for stage in recipe.stages
        if stage.masked_lm
        for _, objective in make_objectives(stage.objectives)
    )
    return ModelTeacher([
        TextModel.load(recipe.teacher.pretrained, max_length=recipe.data.max_length, masked_lm=True, new_head=not listened)
    ])  # fmt: skip


def under_new_head(recipe: Recipe, rows: Rows, task: Task) -> TextModel:
    """The pretrained model as a classifier (or regressor), to cut students from; a head that it lacks is drawn from the seed."""
    assert recipe.teacher.pretrained is not None
    with seeded(recipe.seed):
        return TextModel.load(
            recipe.teacher.pretrained,
            max_length=recipe.data.max_length,
            label_names=rows.label_names,
            problem_type=task.problem_type,
        )


def _load_models(recipe: Recipe) -> ModelTeacher | None:
    """The teacher's models; None when it is a file of outputs."""
    files = [name for name in recipe.teacher.models if is_file(name)]
    if files and len(recipe.teacher.models) > 1:
        raise RecipeError(f"teacher {files[0]} is a file of outputs; it cannot be mixed with other teachers")
    if files or not recipe.teacher.models:
        return None
    models = [TextModel.load(name, max_length=recipe.data.max_length) for name in recipe.teacher.models]
    return ModelTeacher(models, recipe.teacher.combine, recipe.teacher.weights)
