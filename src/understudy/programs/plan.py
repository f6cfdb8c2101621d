"""The program `plan`: what a run would do, from its settings and a few measured updates."""

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

STEPS = 8  # updates that are measured of each training
TAUGHT = 64  # rows on which the teacher is timed


def plan(recipe: str | Path | Recipe = "hinton", *, device: str | None = None, say: Say | None = print, **arguments: Any) -> dict[str, Any]:
    """The number of rows, updates and parameters of a run, the size of its store, and an estimate of time and memory.

    Time is extrapolated from a few updates and teacher batches in this process, so its error is that of the machine's timing; memory is
    the peak of this process.

    Args:
        recipe: as in `distill`, whose other arguments are allowed too.

    Returns:
        name → number; units are in the names.

    Raises:
        UserError: as in `distill`.
    """
    recipe, device, say = recipe_of(recipe, **arguments), find_device(device), say or silent
    planned = prepare(resolve(recipe), say, device=device)
    tasks = planned.tasks.values()
    with tempfile.TemporaryDirectory() as folder:
        to_teach = [_rows_to_teach(task) for task in tasks]
        teaching = sum(_seconds_to_teach(task, rows, device) for task, rows in zip(tasks, to_teach, strict=True))
        seconds = [_seconds_of_an_update(planned, stage, Path(folder), device) for stage in planned.stages]
    updates = [stage.length.updates for stage in planned.stages]
    trainings = 1 + len(planned.recipe.control)
    training = trainings * sum(count * each for count, each in zip(updates, seconds, strict=True))
    rows = {
        f"{split}_rows": sum(len(rows) for task in tasks if (rows := getattr(task.rows, split)) is not None)
        for split in ("train", "validation", "test", "transfer")
    }
    store = sum(bytes_needed(rows, task.outputs, task.recipe.teacher.dtype) for task, rows in zip(tasks, to_teach, strict=True))
    first, several = planned.first, recipe.tasks is not None
    teachers = [model.parameters for task in tasks for model in task.teacher.models]
    return {
        "recipe": planned.recipe.name,
        **({"tasks": ", ".join(planned.tasks)} if several else {"task": planned.recipe.task, "metric": planned.recipe.selection_metric}),
        "student": planned.recipe.student.kind,
        **rows,
        **({} if several else {"classes": len(first.rows.label_names or ()) or None}),
        "teacher_parameters": sum(teachers) or None,
        "student_parameters": planned.parameters,
        "updates_of_the_student": sum(updates),
        "trainings": trainings,
        "rows_to_teach": sum(to_teach),
        "store_mib": store / 2**20,
        "teaching_seconds": teaching,
        "seconds_an_update": training / trainings / sum(updates),
        "training_seconds": training,
        "total_minutes": (teaching + training) / 60,
        "peak_memory_mib": _peak_memory_mib(),
    }


def _rows_to_teach(task_plan: TaskPlan) -> int:
    """How many distinct rows have no kept outputs of the teacher yet."""
    store = Path(task_plan.recipe.teacher.store or "")
    if (store / MARKER).is_file():
        opened = task_plan.store(store)
        return len({rows[place]["identity"] for rows in task_plan.taught_rows() for place in opened.missing(rows)})
    return len({identity for rows in task_plan.taught_rows() for identity in rows["identity"]})


def _seconds_to_teach(task_plan: TaskPlan, rows: int, device: str) -> float:
    """Seconds to run the teacher on so many rows, extrapolated from a sample."""
    if not isinstance(task_plan.teacher, ModelTeacher) or not rows:
        return 0.0
    sample = task_plan.taught_rows()[0]
    sample = sample.select(range(min(TAUGHT, len(sample))))
    started = time.perf_counter()
    for model in task_plan.teacher.models:
        logits_of(model, sample, device=device, remember=False)
    return (time.perf_counter() - started) / len(sample) * rows


def _seconds_of_an_update(planned: Plan, stage: StagePlan, folder: Path, device: str) -> float:
    """Median seconds of a few updates of a stage, on rows drawn as in training, with zeros for the teacher's kept outputs."""
    plans = {task: task_plan.at(stage.stage) for task, task_plan in planned.tasks.items()}
    parts = {task: replace(part, stage=_shortened(part.stage)) for task, part in stage.parts.items()}
    stand_ins = {task: np.zeros((len(part.rows), part.plan.outputs), np.float32) for task, part in parts.items() if part.keeps_logits}
    started: list[float] = []
    train_stage(
        replace(stage, parts=parts),
        plans,
        copies({task: task_plan.student for task, task_plan in plans.items()}),
        stand_ins,
        folder / stage.stage.name,
        "plan",
        device,
        write=lambda line: started.append(time.perf_counter()),
    )
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
