"""What a run would do, from its settings and a few measured steps."""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy.machine import find_device
from understudy.runs.folder import Say
from understudy.runs.plan import Plan, StagePlan, TaskPlan
from understudy.runs.preparation import prepare, resolve
from understudy.runs.training import copies, train_stage
from understudy.settings.calling import recipe_of, silent
from understudy.settings.recipe import Recipe
from understudy.settings.stage import Stage
from understudy.teachers.capture import logits_of
from understudy.teachers.store import MARKER, bytes_needed
from understudy.teachers.teacher import ModelTeacher

STEPS = 8  # measured of each training
TAUGHT = 64  # rows measured of teaching


def plan(
    recipe: str | Path | Recipe = "hinton", *, device: str | None = None, say: Say | None = print, **arguments: Any
) -> dict[str, Any]:
    """Rows, updates, bytes of the store, parameters, and an estimate of time and memory.

    Time is extrapolated from a few real updates and teacher batches in this process, so it carries this machine's noise; memory is
    the most that this process held.

    Args:
        recipe: as in `distill`, whose other arguments are taken too.

    Returns:
        what would be done, in numbers; units are in the names.

    Raises:
        UserError: what `distill` would refuse.
    """
    recipe, device, say = recipe_of(recipe, **arguments), find_device(device), say or silent
    found = prepare(resolve(recipe), say, device=device)
    plans = found.tasks.values()
    with tempfile.TemporaryDirectory() as folder:
        to_teach = [_rows_to_teach(one) for one in plans]
        teaching = sum(_seconds_to_teach(one, rows, device) for one, rows in zip(plans, to_teach, strict=True))
        seconds = [_seconds_of_an_update(found, stage, Path(folder), device) for stage in found.stages]
    updates = [stage.length.updates for stage in found.stages]
    trainings = 1 + len(found.recipe.control)
    training = trainings * sum(count * each for count, each in zip(updates, seconds, strict=True))
    rows = {
        f"{split}_rows": sum(len(rows) for one in plans if (rows := getattr(one.rows, split)) is not None)
        for split in ("train", "validation", "test", "transfer")
    }
    store = sum(
        bytes_needed(rows, one.outputs, one.recipe.teacher.dtype) for one, rows in zip(plans, to_teach, strict=True)
    )
    first, several = found.first, recipe.tasks is not None
    teachers = [model.parameters for one in plans for model in one.teacher.models]
    return {
        "recipe": found.recipe.name,
        **({"tasks": ", ".join(found.tasks)} if several
           else {"task": found.recipe.task, "metric": found.recipe.selection_metric}),
        "student": found.recipe.student.kind, **rows,
        **({} if several else {"classes": len(first.rows.label_names or ()) or None}),
        "teacher_parameters": sum(teachers) or None,
        "student_parameters": found.parameters, "updates_of_the_student": sum(updates), "trainings": trainings,
        "rows_to_teach": sum(to_teach), "store_mib": store / 2**20, "teaching_seconds": teaching,
        "seconds_an_update": training / trainings / sum(updates), "training_seconds": training,
        "total_minutes": (teaching + training) / 60, "peak_memory_mib": _peak_memory_mib(),
    }  # fmt: skip


def _rows_to_teach(found: TaskPlan) -> int:
    """Rows whose outputs are not kept yet, each text once."""
    store = Path(found.recipe.teacher.store or "")
    if (store / MARKER).is_file():
        kept = found.store(store)
        return len({rows[place]["identity"] for rows in found.taught_rows() for place in kept.missing(rows)})
    return len({identity for rows in found.taught_rows() for identity in rows["identity"]})


def _seconds_to_teach(found: TaskPlan, rows: int, device: str) -> float:
    if not isinstance(found.teacher, ModelTeacher) or not rows:
        return 0.0
    sample = found.taught_rows()[0]
    sample = sample.select(range(min(TAUGHT, len(sample))))
    started = time.perf_counter()
    for model in found.teacher.models:
        logits_of(model, sample, device=device, remember=False)
    return (time.perf_counter() - started) / len(sample) * rows


def _seconds_of_an_update(found: Plan, stage: StagePlan, folder: Path, device: str) -> float:
    """Median of a few updates of a stage, on rows drawn as in training, with stand-ins for the teacher's kept outputs."""
    plans = {task: one.at(stage.stage) for task, one in found.tasks.items()}
    parts = {task: replace(part, stage=_shortened(part.stage)) for task, part in stage.parts.items()}
    stand_ins = {
        task: np.zeros((len(part.rows), part.plan.outputs), np.float32)
        for task, part in parts.items()
        if part.keeps_logits
    }
    started: list[float] = []
    train_stage(
        replace(stage, parts=parts), plans, copies({task: one.student for task, one in plans.items()}), stand_ins,
        folder / stage.stage.name, "plan", device, write=lambda line: started.append(time.perf_counter()),
    )  # fmt: skip
    return float(np.median(np.diff(started[: STEPS - 1])))


def _shortened(stage: Stage) -> Stage:
    return stage.model_copy(update={"train": stage.train.model_copy(update={"max_steps": STEPS, "evaluations": 1})})


def _peak_memory_mib() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 2**10
