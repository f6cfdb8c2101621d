"""Recipes from files, packaged or the user's: read, overridden and validated, with mistakes named by the user's keys."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from understudy.errors import RecipeError, did_you_mean
from understudy.settings.mistakes import messages_of
from understudy.settings.recipe import Recipe
from understudy.settings.stage import LENGTHS

RECIPES = Path(__file__).parents[1] / "recipes"
_LEFT_OUT = object()  # stands for a member of a list that an override removes


def packaged() -> dict[str, str]:
    """Names of the packaged recipes, each with the first comment line of its file."""
    return {path.stem: path.read_text("utf-8").partition("\n")[0].lstrip("# ") for path in sorted(RECIPES.glob("*.yaml"))}


def load_recipe(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A packaged recipe by name, or a YAML file by path, with values set over it.

    Args:
        name: `hinton`, or `./mine.yaml`.
        overrides: dotted keys to values, as in `{"stages.0.train.epochs": 5, "student": {"kind": "bilstm"}}`. A stage is named by
            its number or name; None removes it.

    Raises:
        RecipeError: an unknown recipe, unknown keys or invalid values; all of them in one message.
    """
    return build(Recipe, read_recipe(name), overrides or {}, where=str(name))


def for_several_tasks(name: str | Path) -> bool:
    """Whether a recipe, by name or path, trains one student for several tasks.

    >>> for_several_tasks("bam"), for_several_tasks("hinton")
    (True, False)
    """
    return read_recipe(name).get("tasks") is not None


def task_names(name: str | Path) -> list[str]:
    """Names of the tasks that the file of a recipe, by name or path, lists."""
    tasks = read_recipe(name).get("tasks") or []
    return [str(task.get("name")) for task in tasks if isinstance(task, dict)]


def read_recipe(name: str | Path) -> dict[str, Any]:
    """The values in the file of a recipe, packaged or the user's.

    Raises:
        RecipeError: an unknown name, no such file, not YAML, or rows in place of a file's name.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        if path.parent == RECIPES:
            raise RecipeError(f"recipe '{name}' is unknown; {did_you_mean(str(name), packaged())}")
        raise RecipeError(f"{path}: no such recipe file")
    values = read_mapping(path, "a recipe")
    tasks = values.get("tasks")
    for settings in [values, *(tasks if isinstance(tasks, list) else [])]:
        data = settings.get("data") if isinstance(settings, dict) else None
        for split, source in data.items() if isinstance(data, dict) else ():
            _refuse_rows(f"{path}: data.{split}", split, source)
    return values


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        path: of the file.
        what: what the file should hold, for messages, as `a recipe`.

    Raises:
        RecipeError: not YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: {what} is a YAML mapping, got {type(values).__name__}")
    return values


def build(cls: type[BaseModel], values: dict[str, Any], overrides: Mapping[str, Any], *, where: str) -> Any:
    """Validate values with overrides set over them.

    Args:
        cls: the settings to build.
        values: nested, as in the file.
        overrides: dotted key → value.
        where: the beginning of messages.

    Raises:
        RecipeError: all mistakes together, each with its key as the user wrote it.
    """
    mistakes, values = [], copy.deepcopy(values)
    for key, value in overrides.items():
        try:
            _set(values, key, copy.deepcopy(value))
            place, _, name = key.rpartition(".")
            if place and name in LENGTHS and f"{place}.min_updates" not in overrides:
                _set(values, f"{place}.min_updates", None)
        except RecipeError as error:
            mistakes.append(str(error))
    if not mistakes:
        try:
            return cls(**_kept(values))
        except ValidationError as error:
            mistakes = messages_of(cls, error, values=values)
        except RecipeError as error:
            mistakes = [str(error)]
    raise RecipeError("\n".join(f"{where}: {mistake}" for mistake in mistakes))


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """`["stages.0.train.epochs=5"]` → `{"stages.0.train.epochs": 5}`; values are YAML.

    Raises:
        RecipeError: no equals sign, a value that is not YAML, or rows in place of a file's name.

    >>> parse_overrides(["student.layers=[0, 2]", "seed=3"])
    {'student.layers': [0, 2], 'seed': 3}
    """
    overrides = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {pair}: write it as key=value, for example --set stages.0.train.epochs=5")
        try:
            overrides[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {pair}: the value is not YAML: {error}") from error
        _refuse_rows(f"--set {key}", key.rpartition(".")[2], overrides[key.strip()])
    return overrides


def _refuse_rows(where: str, split: str, source: Any) -> None:
    """Refuse a list of rows as a source: only Python programs give rows themselves, YAML names a file."""
    if split in ("train", "validation", "test", "transfer") and isinstance(source, list):
        raise RecipeError(f"{where}: the name of a file, folder or hub data set is needed, got a list; write rows into a file")


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    """Set one value. A step into a list is a number or the `name` of a member, as in `stages.general.train.epochs`."""
    *path, last = key.split(".")
    where: Any = values
    for depth, step in enumerate(path):
        at = ".".join(path[: depth + 1])
        if isinstance(where, list):
            where = where[_place(where, step, at)]
            continue
        if where.get(step) is None:
            where[step] = {}
        elif not isinstance(where[step], dict | list):
            raise RecipeError(f"{key}: {at} is a value, it has no keys")
        where = where[step]
    if isinstance(where, list):
        # Removed after all overrides are set, so that numbers remain those of the file.
        where[_place(where, last, key)] = _LEFT_OUT if value is None else value
    else:
        where[last] = value


def _place(members: list[Any], step: str, at: str) -> int:
    """Index of a member of a list, by number or name."""
    names = [member.get("name") if isinstance(member, dict) else None for member in members]
    if step in names:
        return names.index(step)
    if not step.isdigit() or int(step) >= len(members):
        named = f", named {', '.join(map(str, names))}" if any(names) else ""
        raise RecipeError(f"{at}: there are {len(members)} here, numbered from 0{named}")
    return int(step)


def _kept(values: Any) -> Any:
    """The values without the members of lists that an override removed."""
    if isinstance(values, dict):
        return {key: _kept(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_kept(value) for value in values if value is not _LEFT_OUT]
    return values
