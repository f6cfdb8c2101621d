"""Settings from the arguments of a call in Python: paths, tables in memory and keywords instead of files and dotted keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.errors import RecipeError
from understudy.settings.finetune import FinetuneSettings, PretrainSettings
from understudy.settings.listing import short_forms
from understudy.settings.loading import build, read_recipe
from understudy.settings.recipe import Recipe

Source = Any  # a file, folder or hub data set by name; or a DataFrame, a datasets.Dataset or a list of dictionaries


def recipe_of(
    recipe: str | Path | Recipe,
    *,
    teacher: Any = None,
    student: str | Mapping[str, Any] | None = None,
    train: Source = None,
    validation: Source = None,
    test: Source = None,
    transfer: Source = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    task: str | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Recipe:
    """A recipe with the arguments of `understudy.distill` set over it.

    Raises:
        RecipeError: all invalid arguments, in one message.
    """
    values = recipe.model_dump() if isinstance(recipe, Recipe) else read_recipe(recipe)
    teachers = [teacher] if isinstance(teacher, str | Path) else teacher
    short = short_forms(
        values,
        {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "max_length": max_length, "temperature": temperature},
    )
    changes = {
        **short,
        **_rows(train, validation, test, transfer, text, text_pair, label),
        **_without_none(task=task, seed=seed, student={"kind": student} if isinstance(student, str) else student),
        **_without_none(**{"teacher.models": None if teachers is None else [str(model) for model in teachers]}),
        **(settings or {}),
    }
    if isinstance(recipe, Recipe) and not changes:
        return recipe
    changed = build(Recipe, values, changes, where=values.get("name") or str(recipe))
    assert isinstance(changed, Recipe)
    return changed


def finetune_settings(
    model: str | Path | FinetuneSettings,
    *,
    train: Source = None,
    validation: Source = None,
    test: Source = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    task: str | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> FinetuneSettings:
    """Settings of a fine-tuning with the arguments of `understudy.finetune` set over them.

    Raises:
        RecipeError: all invalid arguments, in one message.
    """
    values = model.model_dump() if isinstance(model, FinetuneSettings) else {"model": str(model), "objective": {"kind": "labels"}}
    short = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "max_length": max_length}
    changes = {
        **short_forms({}, short),
        **_rows(train, validation, test, None, text, text_pair, label),
        **_without_none(task=task, seed=seed),
        **(settings or {}),
    }
    if isinstance(model, FinetuneSettings) and not changes:
        return model
    changed = build(FinetuneSettings, values, changes, where="finetune")
    assert isinstance(changed, FinetuneSettings)
    return changed


def pretrain_settings(
    model: str | Path | PretrainSettings,
    *,
    raw: str | Path | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> PretrainSettings:
    """Settings of a pretraining with the arguments of `understudy.pretrain` set over them.

    Raises:
        RecipeError: all invalid arguments, in one message.
    """
    changes = {**_without_none(**{"data.raw": None if raw is None else str(raw)}, seed=seed), **(settings or {})}
    if isinstance(model, PretrainSettings):
        if not changes:
            return model
        values = model.model_dump()
    else:
        values = {"model": str(model), "objective": {"kind": "labels"}}
    changed = build(PretrainSettings, values, changes, where="pretrain")
    assert isinstance(changed, PretrainSettings)
    return changed


def named_columns(text: str | None, text_pair: str | None, label: str | None) -> dict[str, str]:
    """Our name → the table's name, of the columns that are given.

    Raises:
        RecipeError: a name is not text.
    """
    columns = _without_none(text=text, text_pair=text_pair, label=label)
    if not all(isinstance(name, str) for name in columns.values()):
        raise RecipeError("text, text_pair and label are names of columns")
    return columns


def silent(line: str) -> None:
    """Show nothing of a line of progress."""


def _rows(
    train: Source, validation: Source, test: Source, transfer: Source, text: str | None, text_pair: str | None, label: str | None
) -> dict[str, Any]:
    """Sources and columns of the rows, by dotted key."""
    rows = {"train": train, "validation": validation, "test": test, "transfer": transfer}
    columns = named_columns(text, text_pair, label)
    return {
        **{f"data.{name}": value for name, value in rows.items() if value is not None},
        **({"data.columns": columns} if columns else {}),
    }


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
