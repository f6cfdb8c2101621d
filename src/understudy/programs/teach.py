"""The program `teach`: keeps a teacher's outputs for all rows in a folder that runs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.errors import RecipeError
from understudy.machine import find_device
from understudy.runs.folder import Say
from understudy.runs.preparation import prepare, resolve
from understudy.settings.calling import recipe_of, silent
from understudy.settings.recipe import Recipe


def teach(
    recipe: str | Path | Recipe, store: str | Path, *, device: str | None = None, say: Say | None = print, **arguments: Any
) -> dict[str, int]:
    """Fill a store with the teacher's outputs for every row of a recipe's data.

    Args:
        recipe: as in `distill`, whose other arguments are allowed too.
        store: the folder, which is made or completed.

    Returns:
        `computed`: the number of rows computed now; `kept`: the number of rows in the store.

    Raises:
        UserError: as in `distill`, or a recipe with several tasks.
    """
    recipe, say = recipe_of(recipe, **arguments), say or silent
    if recipe.tasks is not None:
        raise RecipeError(
            f"{recipe.name} has several tasks; fill a store for each, with the data and the teacher of one at a time, then give "
            "distill --store NAME=FOLDER"
        )
    device = find_device(device)
    plan = prepare(resolve(recipe), say, device=device).first
    kept = plan.store(Path(store))
    computed = sum(kept.fill(plan.teacher, rows, device=device) for rows in plan.taught_rows())
    return {"computed": computed, "kept": len(kept)}
