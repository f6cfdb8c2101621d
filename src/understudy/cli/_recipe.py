"""The recipe that `distill`, `plan` and `teach` build from the same options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.cli import _options as options
from understudy.cli._tasks import for_one_task, for_tasks, name_tasks
from understudy.errors import RecipeError
from understudy.settings.listing import short_forms
from understudy.settings.loading import for_several_tasks, load_recipe, read_recipe
from understudy.settings.recipe import Recipe

Values = Sequence[str] | str | None  # of an option that may be given once for each task


def recipe_from(
    recipe: str,
    teacher: list[str] | None,
    student: str | None,
    task: Values,
    train: Values,
    validation: Values,
    test: Values,
    transfer: Values,
    column: list[str] | None,
    set_: list[str] | None,
    seed: int | None,
    store: Values = None,
    control: str | None = None,
    no_control: bool = False,
    raw: str | None = None,
    pretrained: str | None = None,
    no_export: bool = False,
    no_baseline: bool = False,
    short: Mapping[str, Any] | None = None,
) -> Recipe:
    """A recipe with the options of the command line set over it.

    Args:
        short: short forms of settings, as `epochs`.

    Raises:
        RecipeError: options that exclude each other, or invalid settings; all of them in one message.
    """
    if control and no_control:
        raise RecipeError("--control and --no-control exclude each other; give one of them")
    controls: Any = [] if no_control else [name.strip() for name in control.split(",") if name.strip()] if control else None
    options_of_tasks = {
        "task": task,
        "teacher": teacher,
        "train": train,
        "validation": validation,
        "test": test,
        "transfer": transfer,
        "column": column,
        "store": store,
    }
    shared = short_forms(read_recipe(recipe), short or {})
    shared |= {
        "data.raw": raw,
        "teacher.pretrained": pretrained,
        "control": controls,
        "export": [] if no_export else None,
        "baseline": False if no_baseline else None,
        "student": None if student is None else {"kind": student},
    }
    if for_several_tasks(recipe) or name_tasks(train):
        by_task = for_tasks(recipe, options_of_tasks)
        return load_recipe(recipe, options.overrides(column=None, seed=seed, set_=set_, **by_task, **shared))
    values = for_one_task(options_of_tasks)
    return load_recipe(
        recipe,
        options.overrides(
            seed=seed,
            set_=set_,
            **{name: values[name] for name in ("task", "train", "validation", "test", "column")},
            **{"data.transfer": values["transfer"], "teacher.models": values["teacher"], "teacher.store": values["store"], **shared},
        ),
    )
