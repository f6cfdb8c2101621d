"""The controls: the same student from the same start, the same maximum number of updates and the same selection.

Each training stops by its own validation figures, so that a control may make fewer updates than the student.

`alone` is the recipe without its teacher and shows whether the teacher helped. It keeps what needs no teacher: masked language
modelling, blended rows with their labels, changed rows whose label stays valid. `pseudo_labels` replaces all outputs of the teacher by
its most likely label and shows whether soft outputs, hidden states and attention helped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from understudy import __version__
from understudy.data.rows import facts_of, labelled
from understudy.machine import process_count
from understudy.objectives import LayerObjective
from understudy.runs.inputs import code_of, contents
from understudy.runs.made_rows import augmented_rows
from understudy.runs.plan import Part, Plan, StagePlan, TaskPlan
from understudy.settings.base import ObjectivePart
from understudy.settings.recipe import Recipe
from understudy.settings.stage import Stage

if TYPE_CHECKING:
    from datasets import Dataset

Terms = tuple[ObjectivePart, ...]


def stages_of(control: str, plan: Plan) -> list[StagePlan]:
    """What a control trains on: at most as many updates in each stage as the student makes, and the same task in each."""
    trainings = []
    for place, stage_plan in enumerate(plan.stages):
        if stage_plan.stage.name not in [stage.name for stage in trained_stages(control, plan.recipe)]:
            continue
        stages = {
            task: MAKE[control](task_plan.recipe.stages[place], task_plan.recipe, stage_plan.length.updates)
            for task, task_plan in plan.tasks.items()
        }
        trainings.append(plan.staged(stages, partial(rows_of, control), stage_plan.shares))
    return trainings


def trained_stages(control: str, recipe: Recipe) -> Sequence[Stage]:
    """The recipe's stages that a control is trained in: for `alone` those after the last assistant, which it does not need."""
    if control != "alone":
        return recipe.stages
    first = max((place for place, stage in enumerate(recipe.stages, 1) if stage.student is not None), default=0)
    return recipe.stages[first:]


def rows_of(control: str, plan: TaskPlan, stage: Stage) -> Dataset:
    """The rows that a stage of a control learns from: for `alone` those with a label, and those augmented from them."""
    from datasets import concatenate_datasets

    if control != "alone" or stage.masked_lm is not None:
        return plan.stage_rows(stage)
    rows = labelled(plan.rows.train)
    if stage.augment is None:
        return rows
    return concatenate_datasets([rows, augmented_rows(plan, stage, rows, keep_labels=True)])


def key(control: str, plan: Plan, stages: Sequence[StagePlan], device: str) -> str:
    """A name for all that a control's weights depend on, so that none is trained twice.

    The teacher is part of it only where the control uses it; augmented rows are part of it by their content.
    """
    import torch
    import transformers

    described = {
        "control": control,
        "processes": process_count(),
        "device": device,
        "seed": plan.recipe.seed,
        "versions": [__version__, torch.__version__, transformers.__version__],
        "student": [plan.recipe.student.model_dump(mode="json"), contents([plan.recipe.student])],
        "shares": [dict(stage.shares) for stage in stages],
        "tasks": {
            task: _described(
                control, task_plan, [part for stage in stages for name, part in stage.parts.items() if plan.of(name) is task_plan]
            )
            for task, task_plan in plan.tasks.items()
        },
    }
    return f"{control}-{hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]}"


def _described(control: str, plan: TaskPlan, parts: Sequence[Part]) -> dict[str, Any]:
    """What a control's weights depend on, of one task."""
    stages, language = [part.stage for part in parts], any(part.stage.masked_lm for part in parts)
    return {
        "task": [plan.recipe.task, code_of(plan.recipe.task)],
        "metric": plan.recipe.selection_metric,
        "student": [plan.student.fingerprint, plan.autocast],
        "stages": [stage.model_dump(mode="json") for stage in stages],
        "files": contents(stages),
        "rows": [facts_of(part.rows) for part in parts],
        "validation": facts_of(plan.rows.validation),
        "held_out": [facts_of(plan.texts[stage.name][1]) for stage in stages if stage.masked_lm],
        "assistants": [plan.assistants[stage.name].fingerprint for stage in stages if stage.student],
        "pretrained": plan.pretrained.fingerprint if plan.pretrained and language else None,
        "teacher": None if control == "alone" else [plan.teacher.fingerprint, plan.recipe.teacher.dtype],
    }


def alone(stage: Stage, recipe: Recipe, updates: int) -> Stage:
    """The stage without the teacher, for at most `updates`: its terms that need no teacher, or the labels where it has none.

    The weights are scaled so that those of the stage sum to 1.
    """
    terms = _without_teacher(stage.objectives)
    language = stage.masked_lm is not None and stage.masked_lm.fraction > 0 and bool(terms)
    terms = terms or (_labels(1.0, _label_settings(recipe)),)
    mixed = _without_teacher(stage.mixup.objectives) if stage.mixup else ()
    steps = tuple(step for step in stage.augment.steps if step.make().keeps_label) if stage.augment else ()
    total = sum(term.weight for term in terms)
    return stage.model_copy(
        update={
            "rows": stage.rows if language else ("train",),
            "augment": stage.augment.model_copy(update={"steps": steps}) if stage.augment and steps else None,
            "mixup": stage.mixup.model_copy(update={"objectives": _scaled(mixed, total)}) if stage.mixup and mixed else None,
            "masked_lm": stage.masked_lm if language else None,
            "teacher": "given",
            "self_average": None,
            "objectives": _scaled(terms, total),
            "train": stage.train.model_copy(update={"max_steps": updates}),
        }
    )


def pseudo_labelled(stage: Stage, recipe: Recipe, updates: int) -> Stage:
    """The stage with the teacher's most likely label in the place of its logits, without hidden states and attention.

    A stage on plain text that is left without a term learns the task, on the rows of the last stage, for at most `updates`.
    """
    terms = _hardened(stage.objectives)
    mixed = _hardened(stage.mixup.objectives) if stage.mixup else ()
    changes: dict[str, Any] = {
        "objectives": terms or (_labels(1.0, {"target": "teacher"}),),
        "mixup": stage.mixup.model_copy(update={"objectives": mixed}) if stage.mixup and mixed else None,
    }
    if stage.masked_lm is not None and not terms:
        changes |= {"masked_lm": None, "rows": recipe.stages[-1].rows, "train": stage.train.model_copy(update={"max_steps": updates})}
    return stage.model_copy(update=changes)


MAKE: dict[str, Callable[[Stage, Recipe, int], Stage]] = {"alone": alone, "pseudo_labels": pseudo_labelled}


def kept(control: str, recipe: Recipe) -> list[str]:
    """What a control keeps of the recipe beside labels, for the report.

    >>> from understudy.settings.loading import load_recipe
    >>> kept("alone", load_recipe("well_read")), kept("alone", load_recipe("hinton"))
    (['masked language modelling (stage pretraining)'], [])
    """
    lines = []
    for stage in (MAKE[control](stage, recipe, 1) for stage in trained_stages(control, recipe)):
        parts = []
        if stage.student is not None:
            parts += [f"an assistant, {stage.student.kind}"]
        if stage.masked_lm is not None:
            parts += ["masked language modelling"]
        if stage.augment is not None:
            parts += [f"rows changed by {', '.join(step.kind for step in stage.augment.steps)}"]
        if stage.mixup is not None:
            parts += ["mixup of labels"]
        lines += [f"{part} (stage {stage.name})" for part in parts]
    return lines


def start(plan: TaskPlan) -> str:
    """Which weights of the student, and so of its controls, are copied from another model at the start; empty: none.

    Also empty where the teacher is a file of outputs.
    """
    copied = plan.recipe.student.make().copied
    if not copied or not (plan.recipe.teacher.pretrained or plan.teacher.model):
        return ""
    return f"{copied} of the {'pretrained model' if plan.recipe.teacher.pretrained else 'teacher'}"


def described(control: str, recipe: Recipe, first: str) -> str:
    """A sentence on what a control has beside the labels, for the terminal.

    >>> from understudy.settings.loading import load_recipe
    >>> described("alone", load_recipe("well_read"), "")
    "The control 'alone' keeps masked language modelling (stage pretraining)"
    """
    has = [*kept(control, recipe), *([f"the student's start ({first})"] if first else [])]
    return f"The control '{control}' keeps {', '.join(has) or 'nothing but labels'}"


def _without_teacher(terms: Terms) -> Terms:
    """The terms that need no teacher, with the rows' own labels as the target."""
    remaining = []
    for term in terms:
        if term.weight and term.kind == "labels" and term.settings["target"] != "teacher":
            remaining.append(_labels(term.weight, {**term.settings, "target": "gold"}))
        elif term.weight and not term.make().uses_teacher:
            remaining.append(term)
    return tuple(remaining)


def _hardened(terms: Terms) -> Terms:
    """The terms with the teacher's most likely label in the place of its logits, without those on hidden states and attention."""
    hardened = []
    for term in terms:
        objective = term.make()
        if term.kind == "annealed_targets":
            hardened.append(ObjectivePart(kind=term.kind, weight=term.weight, **{**term.settings, "hard": True}))
        elif term.kind == "labels" or not objective.uses_teacher:
            hardened.append(term)
        elif not isinstance(objective, LayerObjective):
            hardened.append(_labels(term.weight, {"target": "teacher"}))
    return tuple(hardened) if any(term.weight for term in hardened) else ()


def _label_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings of the recipe's last term on labels; the defaults where it has none."""
    terms = [term for stage in recipe.stages if stage.masked_lm is None for term in stage.objectives if term.kind == "labels"]
    return {**(terms[-1].settings if terms else {}), "target": "gold"}


def _labels(weight: float, settings: dict[str, Any]) -> ObjectivePart:
    return ObjectivePart(kind="labels", weight=weight, **settings)


def _scaled(terms: Terms, total: float) -> Terms:
    return tuple(term.model_copy(update={"weight": term.weight / total}) for term in terms)
