"""The untrained students of a run: a model for each task, all with the same encoder."""

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
    recipe: Recipe, data: Mapping[str, tuple[Task, Rows, Teacher]], part: StudentPart, *, augmented: Mapping[str, Mapping[str, Dataset]]
) -> dict[str, TextModel]:
    """A student for each task, all with one encoder, which is built for the first task that has a teacher model.

    The heads of the other tasks are drawn at random, with their own numbers of classes. Vocabularies are made from the texts of all
    tasks.

    Args:
        data: name → task, rows and teacher.
        part: the kind of student, with its settings.
        augmented: task → stage → its augmented rows.

    Raises:
        UserError: it cannot be built, or has no encoder that tasks could share.
    """
    from transformers import AutoModelForSequenceClassification

    leading = next((task for task, (_, _, teacher) in data.items() if teacher.model is not None), next(iter(data)))
    first = part.make().build(blueprint_of(recipe, data, leading, augmented))
    if len(data) > 1 and first.model.base_model is first.model:
        raise RecipeError(f"student {part.kind} has no encoder for tasks to share; use teacher_layers, narrow or pretrained")
    students = {}
    for number, (task, (kind, rows, _)) in enumerate(data.items()):
        if task == leading:
            students[task] = first
            continue
        config = copy.deepcopy(first.model.config)
        set_head(config, kind.problem_type, rows.label_names)
        with seeded(recipe.seed + number):
            model = AutoModelForSequenceClassification.from_config(config, dtype="float32").eval()
        setattr(model, model.base_model_prefix, first.model.base_model)
        max_length = _max_length(recipe, task) or first.max_length
        length = resolve_max_length(model, first.tokenizer, max_length, where=f"the student of {task}")
        students[task] = TextModel(model, first.tokenizer, length)
    return students


def blueprint_of(
    recipe: Recipe, data: Mapping[str, tuple[Task, Rows, Teacher]], leading: str, augmented: Mapping[str, Mapping[str, Dataset]]
) -> Blueprint:
    """What the student of the leading task is built from; the texts for its vocabulary are those of all tasks."""
    task, rows, teacher = data[leading]
    new = [text.replace(MASKED, " ") for stages in augmented.values() for text in texts_in(*stages.values())]
    return Blueprint(
        texts=[*(text for _, task_rows, _ in data.values() for text in task_rows.texts), *new],
        label_names=rows.label_names,
        pair=any(task_rows.pair for _, task_rows, _ in data.values()),
        max_length=_max_length(recipe, leading),
        seed=recipe.seed,
        problem_type=task.problem_type,
        teacher=_under_new_head(recipe, task, rows, _max_length(recipe, leading)) if recipe.teacher.pretrained else teacher.model,
    )


def _max_length(recipe: Recipe, task: str) -> int | None:
    """How many tokens of a row the models of a task read; None: as many as they can."""
    return next((settings.data.max_length for settings in recipe.tasks or () if settings.name == task), recipe.data.max_length)


def pretrained_of(recipe: Recipe) -> ModelTeacher | None:
    """The teacher before fine-tuning, if one is given; it needs a masked-language head of its own only where a stage uses its outputs."""
    if recipe.teacher.pretrained is None:
        return None
    used = any(objective.needs.logits for stage in recipe.stages if stage.masked_lm for _, objective in make_objectives(stage.objectives))
    return ModelTeacher([TextModel.load(recipe.teacher.pretrained, max_length=recipe.data.max_length, masked_lm=True, new_head=not used)])


def _under_new_head(recipe: Recipe, task: Task, rows: Rows, max_length: int | None) -> TextModel:
    """The pretrained model with a head for the task, from which students copy weights; a missing head is drawn at random."""
    assert recipe.teacher.pretrained is not None
    with seeded(recipe.seed):
        return TextModel.load(
            recipe.teacher.pretrained, max_length=max_length, label_names=rows.label_names, problem_type=task.problem_type
        )
