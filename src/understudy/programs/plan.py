"""What a run would do, from its settings and a few measured steps."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from understudy.machine import find_device
from understudy.runs.folder import Say
from understudy.runs.multitask import Together, copies, prepare_tasks, resolve_tasks
from understudy.runs.multitask import train_stage as train_stage_of_tasks
from understudy.runs.plan import Plan
from understudy.runs.preparation import prepare, resolve
from understudy.runs.training import train_stage
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
    if recipe.tasks is not None:
        return _plan_of_tasks(recipe, device, say)
    found = prepare(resolve(recipe), say, device=device)
    rows = found.rows
    updates = {stage.name: found.updates(stage) for stage in found.recipe.stages}
    with tempfile.TemporaryDirectory() as folder:
        to_teach = _rows_to_teach(found)
        teaching = _seconds_to_teach(found, to_teach, device)
        seconds = {
            stage.name: _seconds_of_an_update(found, stage, Path(folder), device) for stage in found.recipe.stages
        }
    trainings = 1 + len(found.recipe.control)
    training = trainings * sum(updates[name] * seconds[name] for name in updates)
    return {
        "recipe": found.recipe.name, "task": found.recipe.task, "metric": found.recipe.selection_metric,
        "student": found.recipe.student.kind,
        "train_rows": len(rows.train), "validation_rows": len(rows.validation), "test_rows": len(rows.test),
        "transfer_rows": len(rows.transfer) if rows.transfer is not None else 0, "classes": len(rows.label_names or ()) or None,
        "teacher_parameters": found.teacher.model.parameters if found.teacher.model else None,
        "student_parameters": found.student.parameters, "updates_of_the_student": sum(updates.values()), "trainings": trainings,
        "rows_to_teach": to_teach, "store_mib": bytes_needed(to_teach, found.outputs, recipe.teacher.dtype) / 2**20,
        "teaching_seconds": teaching, "seconds_an_update": training / trainings / sum(updates.values()), "training_seconds": training,
        "total_minutes": (teaching + training) / 60, "peak_memory_mib": _peak_memory_mib(),
    }  # fmt: skip


def _plan_of_tasks(recipe: Recipe, device: str, say: Say) -> dict[str, Any]:
    """The same for a student of several tasks: rows and teachers are those of all tasks together."""
    together = prepare_tasks(resolve_tasks(recipe), say, device=device)
    plans = together.plans.values()
    numbers = range(len(together.recipe.stages))
    with tempfile.TemporaryDirectory() as folder:
        to_teach = [_rows_to_teach(one) for one in plans]
        teaching = sum(_seconds_to_teach(one, rows, device) for one, rows in zip(plans, to_teach, strict=True))
        seconds = [_seconds_of_an_update_of_tasks(together, number, Path(folder), device) for number in numbers]
    updates = [together.updates(number) for number in numbers]
    trainings = 1 + len(together.recipe.control)
    training = trainings * sum(one * each for one, each in zip(updates, seconds, strict=True))
    counted = {
        f"{split}_rows": sum(len(rows) for one in plans if (rows := getattr(one.rows, split)) is not None)
        for split in ("train", "validation", "test", "transfer")
    }
    teachers = [model.parameters for one in plans for model in one.teacher.models]
    store = sum(
        bytes_needed(rows, one.outputs, one.recipe.teacher.dtype) for one, rows in zip(plans, to_teach, strict=True)
    )
    return {
        "recipe": together.recipe.name, "tasks": ", ".join(together.plans), "student": together.recipe.student.kind, **counted,
        "teacher_parameters": sum(teachers) or None, "student_parameters": together.parameters, "updates_of_the_student": sum(updates),
        "trainings": trainings, "rows_to_teach": sum(to_teach), "store_mib": store / 2**20, "teaching_seconds": teaching,
        "seconds_an_update": training / trainings / sum(updates), "training_seconds": training,
        "total_minutes": (teaching + training) / 60, "peak_memory_mib": _peak_memory_mib(),
    }  # fmt: skip


def _rows_to_teach(found: Plan) -> int:
    """Rows whose outputs are not kept yet, each text once."""
    store = Path(found.recipe.teacher.store or "")
    if (store / MARKER).is_file():
        kept = found.store(store)
        return len({rows[place]["identity"] for rows in found.taught_rows() for place in kept.missing(rows)})
    return len({identity for rows in found.taught_rows() for identity in rows["identity"]})


def _seconds_to_teach(found: Plan, rows: int, device: str) -> float:
    if not isinstance(found.teacher, ModelTeacher) or not rows:
        return 0.0
    sample = found.taught_rows()[0]
    sample = sample.select(range(min(TAUGHT, len(sample))))
    started = time.perf_counter()
    for model in found.teacher.models:
        logits_of(model, sample, device=device, remember=False)
    return (time.perf_counter() - started) / len(sample) * rows


def _seconds_of_an_update(found: Plan, stage: Stage, folder: Path, device: str) -> float:
    """Median of a few updates of a stage, on rows drawn as in training, with stand-ins for the teacher's kept outputs."""
    rows = found.stage_rows(stage)
    started: list[float] = []
    at = found.at(stage)
    train_stage(
        at, at.student, _shortened(stage), rows, np.zeros((len(rows), found.outputs), np.float32), folder / stage.name, "plan", device,
        write=lambda line: started.append(time.perf_counter()),
    )  # fmt: skip
    return float(np.median(np.diff(started[: STEPS - 1])))


def _seconds_of_an_update_of_tasks(together: Together, number: int, folder: Path, device: str) -> float:
    of_tasks = {task: (_shortened(stage), rows) for task, (stage, rows) in together.stages[number].items()}
    stand_ins = {
        task: np.zeros((len(rows), together.plans[task].outputs), np.float32)
        for task, (stage, rows) in of_tasks.items()
        if together.plans[task].keeps_logits(stage)
    }
    started: list[float] = []
    train_stage_of_tasks(
        together, copies(together), of_tasks, stand_ins, together.shares(number), folder / str(number), "plan", device,
        write=lambda line: started.append(time.perf_counter()),
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
