"""The recipe that `distill`, `plan` and `teach` build from the same options."""

from __future__ import annotations

from typing import Any

from understudy.cli import _options as options
from understudy.errors import RecipeError
from understudy.recipe import Recipe, load_recipe


def recipe_from(
    recipe: str, teacher: list[str] | None, student: str | None, task: str | None, train: str | None, validation: str | None,
    test: str | None, transfer: str | None, column: list[str] | None, set_: list[str] | None, seed: int | None,
    store: str | None = None, control: str | None = None, no_control: bool = False, raw: str | None = None,
    pretrained: str | None = None,
) -> Recipe:  # fmt: skip
    """A recipe with what the command line says set over it."""
    if control and no_control:
        raise RecipeError("--control and --no-control exclude each other; give one of them")
    controls: Any = (
        [] if no_control else [name.strip() for name in control.split(",") if name.strip()] if control else None
    )
    return load_recipe(
        recipe,
        options.overrides(
            task=task, train=train, validation=validation, test=test, column=column, seed=seed, set_=set_,
            **{
                "data.transfer": transfer, "data.raw": raw, "teacher.models": teacher or None, "teacher.pretrained": pretrained,
                "teacher.store": store, "control": controls,
                "student": None if student is None else {"kind": student},
            },
        ),
    )  # fmt: skip
