"""The controls: the same student with the same number of updates and the same selection, taught otherwise.

`alone` learns from the labels only, and tells whether the teacher helped; `pseudo_labels` learns from the teacher's answers without
its doubts, and tells whether softness did.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from understudy import __version__, parts, processes
from understudy.data.rows import facts_of, labelled
from understudy.objectives import LayerObjective
from understudy.preparation import Plan
from understudy.recipe import ObjectivePart, Recipe, Stage

if TYPE_CHECKING:
    from datasets import Dataset


def stages_of(control: str, plan: Plan) -> list[tuple[Stage, Dataset]]:
    """What a control trains on: its stages, each with its rows."""
    if control == "alone":
        steps = sum(plan.updates(stage) for stage in plan.recipe.stages if stage.student is None)
        return [(alone(plan.recipe, steps), labelled(plan.rows.train))]
    return [(pseudo_labelled(stage), plan.stage_rows(stage)) for stage in plan.recipe.stages]


def key(control: str, plan: Plan, stages: list[tuple[Stage, Dataset]], device: str) -> str:
    """A name for what decides a control's weights, so that none is trained twice.

    The teacher counts only where the control hears it; the rows that were made count as what they are.
    """
    import torch
    import transformers

    recipe = plan.recipe
    described = {
        "control": control, "processes": processes.count(), "device": device, "seed": recipe.seed,
        "versions": [__version__, torch.__version__, transformers.__version__],
        "task": recipe.task, "metric": recipe.selection_metric,
        "student": [recipe.student.model_dump(mode="json"), plan.student.fingerprint, plan.autocast],
        "stages": [stage.model_dump(mode="json") for stage, _ in stages],
        "files": parts.contents([recipe.student, *(stage for stage, _ in stages)]),
        "rows": [facts_of(rows) for _, rows in stages], "validation": facts_of(plan.rows.validation),
        "held_out": [facts_of(plan.texts[stage.name][1]) for stage, _ in stages if stage.masked_lm],
        "assistants": [plan.assistants[stage.name].fingerprint for stage, _ in stages if stage.student],
        "pretrained": plan.pretrained.fingerprint if plan.pretrained and any(stage.masked_lm for stage, _ in stages) else None,
        "teacher": None if control == "alone" else plan.teacher.fingerprint,
    }  # fmt: skip
    return f"{control}-{hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]}"


def alone(recipe: Recipe, steps: int) -> Stage:
    """The labels only, for as many updates as the student makes in all its stages, under its last stage's settings."""
    last = recipe.stages[-1]
    own = next((one for one in last.objectives if one.kind == "labels"), ObjectivePart(kind="labels"))
    return last.model_copy(
        update={
            "name": "alone",
            "augment": None,
            "mixup": None,
            "masked_lm": None,
            "teacher": "given",
            "self_average": None,
            "objectives": (_labels(1.0, {**own.settings, "target": "gold"}),),
            "train": last.train.model_copy(update={"max_steps": steps}),
        }
    )


def pseudo_labelled(stage: Stage) -> Stage:
    """The stage with the teacher's argmax in the place of its other answers, and nothing from inside it; one on raw text stays."""
    if stage.masked_lm is not None:
        return stage

    def hardened(objectives: tuple[ObjectivePart, ...]) -> tuple[ObjectivePart, ...]:
        made = [(one, one.make()) for one in objectives]
        answers = tuple(
            _labels(one.weight, {"target": "teacher"}) if one.kind != "labels" and term.hears_teacher else one
            for one, term in made
            if not isinstance(term, LayerObjective)
        )
        return answers or (_labels(1.0, {"target": "teacher"}),)

    mixup = stage.mixup and stage.mixup.model_copy(update={"objectives": hardened(stage.mixup.objectives)})
    return stage.model_copy(update={"objectives": hardened(stage.objectives), "mixup": mixup})


def _labels(weight: float, settings: dict[str, Any]) -> ObjectivePart:
    return ObjectivePart(kind="labels", weight=weight, **settings)
