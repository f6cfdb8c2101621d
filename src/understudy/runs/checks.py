"""The checks of a plan, before anything is trained or written."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from understudy.data.examples import fields_of
from understudy.data.rows import labelled
from understudy.errors import ModelError, RecipeError
from understudy.models import encoder
from understudy.runs.folder import Say
from understudy.runs.plan import Part, TaskPlan
from understudy.settings.base import StudentPart
from understudy.settings.recipe import Recipe
from understudy.settings.stage import make_objectives
from understudy.teachers.file import FileTeacher
from understudy.training.masked_lm import with_head
from understudy.training.train import check_trainable

_LOOKED_AT = 2000  # rows, for words that a vocabulary lacks
_UNKNOWN = 0.1  # of the tokens: so many unknown ones are worth a warning


def check(plan: TaskPlan, device: str, run_folder: Path | None = None) -> None:
    """Refuse a plan whose teacher was not trained for its task, or whose stages cannot be trained.

    Args:
        device: where the teacher is run.
        run_folder: the folder of the run, which may hold outputs of the teacher.

    Raises:
        UserError: with what does not fit.
    """
    check_teacher(plan, device, run_folder)
    check_stages(plan)


def check_stages(plan: TaskPlan) -> None:
    """Refuse a plan whose stages cannot be trained on its student.

    Raises:
        UserError: with what does not fit.
    """
    unlabelled = not len(labelled(plan.rows.train))
    for number, stage in enumerate(plan.recipe.stages):
        part = plan.part(stage)
        taught = any(weight and objective.uses_teacher for weight, objective in make_objectives(stage.objectives))
        if unlabelled and stage.masked_lm is None and not taught:
            raise RecipeError(
                f"stage {stage.name} learns from labels only, but no training row has one; give labelled rows with --train, or have "
                f"it learn from the teacher, as with --set stages.{number}.objectives.0.target=teacher"
            )
        if stage.augment is not None and isinstance(plan.teacher, FileTeacher):
            raise RecipeError(
                f"stage {stage.name} augments rows for the teacher to label, but the teacher is a file of outputs; "
                f"give the teacher's folder, or set stages.{number}.augment=null"
            )
        _check_internals(plan.at(stage), part)
        check_trainable(plan.at(stage).student, stage.train, plan.recipe.report_to)


def check_teacher(plan: TaskPlan, device: str, run_folder: Path | None = None) -> None:
    """Refuse a teacher that is worse on the validation rows than the most frequent answer.

    A file of outputs that lacks these rows passes: it cannot be measured.

    Raises:
        ModelError: with both figures.
    """
    validation = labelled(plan.rows.validation)
    if "validation" in plan.rows.labelled_by_teacher or not plan.teacher_covers(validation):
        return
    logits, labels = plan.known_logits(validation, device, run_folder), np.asarray(validation["label"])
    if (doubt := plan.task.doubt(logits, labels)) is not None:
        raise ModelError(f"{plan.recipe.teacher.models[0]}: {doubt}")


def _check_internals(plan: TaskPlan, part: Part) -> None:
    """Refuse a stage that compares hidden states or attention where they cannot be compared.

    Raises:
        UserError: more than one teacher, or only a file of its outputs; a layer without known attention projections; texts that
            teacher and student tokenize differently.
    """
    stage, objectives = part.stage, [objective for _, objective in (*part.objectives, *part.mixed)]
    if stage.masked_lm is not None:
        _check_language(plan, part)
    for objective in objectives:
        for layer in objective.student_needs.attention:
            encoder.projections(plan.student.model, layer)
    _check_blending(plan, part)
    if not part.runs_teacher:
        return
    if len(plan.teacher.models) != 1:
        many = f"{len(plan.teacher.models)} teachers" if plan.teacher.models else "a file of outputs"
        raise RecipeError(f"stage {stage.name} uses hidden states, attention or mixup, which need one teacher model; given are {many}")
    teacher = plan.teacher.models[0]
    for objective in objectives:
        for layer in objective.needs.attention:
            encoder.projections(teacher.model, layer)
    if not (stage.mixup or stage.masked_lm or any(objective.compares_tokens for objective in objectives)):
        return
    rows = part.rows
    student_tokens, teacher_tokens = (fields_of(model, rows)["input_ids"].lengths for model in (plan.student, teacher))
    apart = np.flatnonzero(student_tokens != teacher_tokens)
    if apart.size:
        row = int(apart[0])
        short = min(plan.student.max_length, teacher.max_length)
        if plan.student.max_length != teacher.max_length and max(student_tokens[row], teacher_tokens[row]) > short:
            raise RecipeError(
                f"stage {stage.name} compares tokens, but the teacher reads at most {teacher.max_length} tokens of a row and the student "
                f"{plan.student.max_length}: set data.max_length={short}"
            )
        raise RecipeError(
            f"stage {stage.name} compares tokens, but teacher and student tokenize texts differently: row {row + 1} "
            f"({rows['text'][row]!r:.50}) has {teacher_tokens[row]} for the teacher, {student_tokens[row]} for the student. "
            "Give the student the teacher's vocabulary"
        )


def _check_blending(plan: TaskPlan, part: Part) -> None:
    """Refuse mixup where a model that reads blended rows takes no word embeddings."""
    stage = part.stage
    if stage.mixup is None:
        return
    if "inputs_embeds" not in inspect.signature(plan.student.model.forward).parameters:
        raise RecipeError(
            f"stage {stage.name} uses mixup of word embeddings, which student {plan.recipe.student.kind} does not support; "
            "use teacher_layers, narrow or pretrained"
        )
    for teacher in plan.teacher.models if any(objective.needs for _, objective in part.mixed) else ():
        if "inputs_embeds" not in inspect.signature(teacher.model.forward).parameters:
            raise RecipeError(
                f"stage {stage.name} runs the teacher on blended word embeddings, which {teacher.model.config.model_type} does not take; "
                "use a transformer as the teacher, or mixup with objectives on labels alone"
            )


def _check_language(plan: TaskPlan, part: Part) -> None:
    """Refuse a stage with a masked-language head where student or teacher cannot have one, or their vocabularies differ.

    Raises:
        UserError: with the option to give.
    """
    stage, teacher = part.stage, plan.pretrained.models[0] if plan.pretrained else None
    with_head(plan.student, plan.recipe.seed, teacher)
    if not part.needs.logits:
        return
    if teacher is None:
        raise RecipeError(
            f"stage {stage.name} learns the predictions of a masked language model; give one with --pretrained FOLDER "
            "(the teacher before fine-tuning; `understudy pretrain` makes one)"
        )
    if teacher.tokenizer.get_vocab() != plan.student.tokenizer.get_vocab():
        raise RecipeError(
            f"stage {stage.name} compares probabilities of tokens, so student and --pretrained need one vocabulary; they have "
            f"{len(plan.student.tokenizer):,} and {len(teacher.tokenizer):,} tokens. Set student.vocabulary=teacher"
        )


def warn_of_few_updates(recipe: Recipe, updates: Sequence[int], say: Say, *, tasks: int = 1) -> None:
    """Warn where a student, or an assistant, makes over all its stages fewer than half of the updates that its kind needs.

    Args:
        updates: of each stage.
        tasks: their number; each needs the least number of updates.
    """
    least = least_updates(recipe, tasks=tasks)
    totals: dict[str, tuple[StudentPart, int, str]] = {}
    for stage, count in zip(recipe.stages, updates, strict=True):
        who, part = ("the student", recipe.student) if stage.student is None else (f"the assistant of stage {stage.name}", stage.student)
        totals[who] = part, totals.get(who, (part, 0, ""))[1] + count, stage.name
    for who, (part, count, last) in totals.items():
        few_updates(count, least[last], f"{who} ({part.kind})", f"stages.{last}.train", say)


def least_updates(recipe: Recipe, *, tasks: int = 1) -> dict[str, int]:
    """Stage → the fewest updates that its kind of student, or assistant, needs over all its stages; 0 where the kind sets none."""
    return {stage.name: ((stage.student or recipe.student).make().defaults().get("min_updates") or 0) * tasks for stage in recipe.stages}


def warn_of_unknown_words(plan: TaskPlan, say: Say) -> None:
    """Warn of a student whose vocabulary lacks many of the words that it is to read, as that of another task's teacher may."""
    unknown = plan.student.view.unknown_id
    texts = plan.rows.train.select(range(min(len(plan.rows.train), _LOOKED_AT)))
    tokens = fields_of(plan.student, texts)["input_ids"].flat
    fraction = float((tokens == unknown).mean()) if unknown is not None and len(tokens) else 0.0
    if fraction > _UNKNOWN:
        say(
            f"Warning: {100 * fraction:.0f} % of the tokens of the training texts are unknown to the student's vocabulary; build one "
            "from the data with --set student.vocabulary=data, or words, where this kind of student has it"
        )


def few_updates(updates: int, least: int | None, who: str, place: str, say: Say) -> None:
    """Warn where a training makes fewer than half of the updates that its model needs."""
    if least and updates < least / 2:
        say(
            f"Warning: {updates:,} updates are few for {who}; about {least:,} are needed. Leave {place}.epochs and max_steps "
            f"out, or give {place}.min_updates={least}"
        )
