"""Augmented rows of stages, made once and kept in the run folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from understudy import __version__
from understudy.augmenters.augmentation import augmented
from understudy.data.rows import facts_of, read_rows, write_rows
from understudy.errors import RecipeError
from understudy.runs.folder import Say
from understudy.runs.inputs import contents
from understudy.runs.plan import TaskPlan
from understudy.settings.stage import Stage

if TYPE_CHECKING:
    from datasets import Dataset


def made_rows(plan: TaskPlan, run_folder: Path | None, say: Say) -> dict[str, Dataset]:
    """Stage → its augmented rows, made now or by an earlier start of the run; stages with the same augmentation share them."""
    by_key: dict[str, Dataset] = {}
    stages: dict[str, Dataset] = {}
    for stage in plan.recipe.stages:
        if stage.augment is None:
            continue
        rows, key = plan.stage_rows(stage), _made_rows_key(plan, stage)
        if key not in by_key:
            file = _made_rows_file(run_folder, key) if run_folder else None
            by_key[key] = read_rows(file, rows) if file and file.is_file() else augmented_rows(plan, stage, rows)
            if not len(by_key[key]):
                raise RecipeError(f"stage {stage.name}: augment changes none of {len(rows):,} rows; give other steps")
            say(f"Stage {stage.name}: {len(by_key[key]):,} rows made from {len(rows):,}")
        stages[stage.name] = by_key[key]
    return stages


def augmented_rows(plan: TaskPlan, stage: Stage, rows: Dataset, *, keep_labels: bool = False) -> Dataset:
    """The augmented rows of a stage.

    Args:
        keep_labels: give each row the label of its original; else rows have no label, and the teacher labels them.
    """
    assert stage.augment is not None
    return augmented(
        rows,
        [step.make() for step in stage.augment.steps],
        copies=stage.augment.copies,
        seed=plan.recipe.seed,
        teacher=plan.teacher.model,
        words=stage.augment.words,
        keep_labels=keep_labels,
        leave_out={*plan.rows.validation["identity"], *plan.rows.test["identity"]},
    )


def keep_made_rows(plan: TaskPlan, run_folder: Path) -> None:
    """Write augmented rows into the run's folder, where `prepare` reads them when the run is resumed."""
    for name, rows in plan.augmented.items():
        stage = next(stage for stage in plan.recipe.stages if stage.name == name)
        file = _made_rows_file(run_folder, _made_rows_key(replace(plan, augmented={}), stage))
        if not file.is_file():
            write_rows(file, rows)


def _made_rows_file(run_folder: Path, key: str) -> Path:
    return run_folder / "made_rows" / f"{key}.parquet"


def _made_rows_key(plan: TaskPlan, stage: Stage) -> str:
    """A name for all that a stage's augmented rows depend on."""
    assert stage.augment is not None
    described = [
        __version__,
        plan.recipe.seed,
        plan.teacher.fingerprint,
        stage.augment.model_dump(mode="json"),
        contents([stage.augment]),
        facts_of(plan.stage_rows(stage)),
        facts_of(plan.rows.validation),
        facts_of(plan.rows.test),
    ]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
