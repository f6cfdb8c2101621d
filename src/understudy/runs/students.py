"""The untrained students of a run: one model for each task, all around one encoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

from understudy.data.rows import Rows, texts_in
from understudy.errors import RecipeError
from understudy.models.agreement import resolve_max_length
from understudy.models.text_model import TextModel, set_head
from understudy.models.view import MASKED
from understudy.settings.base import StudentPart
from understudy.settings.recipe import Recipe
from understudy.settings.stage import make_objectives
from understudy.students import Blueprint
from understudy.students.assembly import seeded
from understudy.teachers.teacher import ModelTeacher, Teacher

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.tasks import Task


def untrained_students(
    recipe: Recipe, given: Mapping[str, tuple[Task, Rows, Teacher]], part: StudentPart, *,
    made: Mapping[str, Mapping[str, Dataset]],
) -> dict[str, TextModel]:  # fmt: skip
    """A student for each task, all around the encoder of one: of the first task that has a teacher model.

    The others' heads are drawn anew, for their own numbers of classes. Vocabularies come from the texts of all tasks.

    Args:
        given: name → task, rows and teacher.
        part: the kind, with its settings.
        made: task → stage → rows made for it.

    Raises:
        UserError: it cannot be built, or has no encoder that tasks could share.
    """
    from transformers import AutoModelForSequenceClassification

    leading = next((task for task, (_, _, teacher) in given.items() if teacher.model is not None), next(iter(given)))
    first = part.make().build(blueprint_of(recipe, given, leading, made))
    if len(given) > 1 and first.model.base_model is first.model:
        raise RecipeError(
            f"student {part.kind} has no encoder for tasks to share; use teacher_layers, narrow or pretrained"
        )
    students = {}
    for number, (task, (kind, rows, _)) in enumerate(given.items()):
        if task == leading:
            students[task] = first
            continue
        config = copy.deepcopy(first.model.config)
        set_head(config, kind.problem_type, rows.label_names)
        with seeded(recipe.seed + number):
            model = AutoModelForSequenceClassification.from_config(config, dtype="float32").eval()
        setattr(model, model.base_model_prefix, first.model.base_model)
        asked = _max_length(recipe, task) or first.max_length
        length = resolve_max_length(model, first.tokenizer, asked, where=f"the student of {task}")
        students[task] = TextModel(model, first.tokenizer, length)
    return students


def blueprint_of(
    recipe: Recipe,
    given: Mapping[str, tuple[Task, Rows, Teacher]],
    leading: str,
    made: Mapping[str, Mapping[str, Dataset]],
) -> Blueprint:
    """What the student of the leading task is built from."""
    task, rows, teacher = given[leading]
    new = [text.replace(MASKED, " ") for stages in made.values() for text in texts_in(*stages.values())]
    return Blueprint(
        texts=[*(text for _, one, _ in given.values() for text in one.texts), *new], label_names=rows.label_names,
        pair=any(one.pair for _, one, _ in given.values()), max_length=_max_length(recipe, leading), seed=recipe.seed,
        problem_type=task.problem_type,
        teacher=_under_new_head(recipe, task, rows, _max_length(recipe, leading)) if recipe.teacher.pretrained else teacher.model,
    )  # fmt: skip


def _max_length(recipe: Recipe, task: str) -> int | None:
    """Tokens that the models of a task keep of a row."""
    return next((one.data.max_length for one in recipe.tasks or () if one.name == task), recipe.data.max_length)


def pretrained_of(recipe: Recipe) -> ModelTeacher | None:
    """The teacher before fine-tuning; its masked-language head only has to be there where a stage uses its outputs."""
    if recipe.teacher.pretrained is None:
        return None
    used = any(
        objective.needs.logits
        for stage in recipe.stages
        if stage.masked_lm
        for _, objective in make_objectives(stage.objectives)
    )
    return ModelTeacher([
        TextModel.load(recipe.teacher.pretrained, max_length=recipe.data.max_length, masked_lm=True, new_head=not used)
    ])  # fmt: skip


def _under_new_head(recipe: Recipe, task: Task, rows: Rows, max_length: int | None) -> TextModel:
    """The pretrained model as a classifier (or regressor), to cut students from; a head that it lacks is drawn from the seed."""
    assert recipe.teacher.pretrained is not None
    with seeded(recipe.seed):
        return TextModel.load(
            recipe.teacher.pretrained,
            max_length=max_length,
            label_names=rows.label_names,
            problem_type=task.problem_type,
        )
