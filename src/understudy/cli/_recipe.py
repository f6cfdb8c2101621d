"""The recipe that `distill`, `plan` and `teach` build from the same options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.cli import _options as options
from understudy.cli._tasks import name_tasks, of_one_task, of_tasks
from understudy.errors import RecipeError
from understudy.settings.listing import short_forms
from understudy.settings.loading import for_several_tasks, load_recipe, read_recipe
from understudy.settings.recipe import Recipe

Given = Sequence[str] | str | None


def recipe_from(
    recipe: str, teacher: list[str] | None, student: str | None, task: Given, train: Given, validation: Given,
    test: Given, transfer: Given, column: list[str] | None, set_: list[str] | None, seed: int | None,
    store: Given = None, control: str | None = None, no_control: bool = False, raw: str | None = None,
    pretrained: str | None = None, no_export: bool = False, no_baseline: bool = False,
    short: Mapping[str, Any] | None = None,
) -> Recipe:  # fmt: skip
    """A recipe with what the command line says set over it.

    Args:
        short: short forms of settings, as `epochs`.
    """
    if control and no_control:
        raise RecipeError("--control and --no-control exclude each other; give one of them")
    controls: Any = (
        [] if no_control else [name.strip() for name in control.split(",") if name.strip()] if control else None
    )
    given = {"task": task, "teacher": teacher, "train": train, "validation": validation, "test": test, "transfer": transfer,
             "column": column, "store": store}  # fmt: skip
    shared = short_forms(read_recipe(recipe), short or {})
    shared |= {"data.raw": raw, "teacher.pretrained": pretrained, "control": controls, "export": [] if no_export else None,
              "baseline": False if no_baseline else None,
              "student": None if student is None else {"kind": student}}  # fmt: skip
    if for_several_tasks(recipe) or name_tasks(train):
        set_over = options.overrides(column=None, seed=seed, set_=set_, **of_tasks(recipe, given), **shared)
        return load_recipe(recipe, set_over)
    own = of_one_task(given)
    return load_recipe(
        recipe,
        options.overrides(
            seed=seed, set_=set_, **{name: own[name] for name in ("task", "train", "validation", "test", "column")},
            **{"data.transfer": own["transfer"], "teacher.models": own["teacher"], "teacher.store": own["store"], **shared},
        ),
    )  # fmt: skip
