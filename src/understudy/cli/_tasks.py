"""Options that may name a task, as in `--train sst2=train.csv`: their values in a recipe with several tasks, and with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.cli import _options as options
from understudy.errors import RecipeError, did_you_mean
from understudy.settings.loading import task_names
from understudy.settings.recipe import check_task_name

# Option → its key in a task, and the form of its value, which follows NAME=.
_KEYS = {
    "task": ("task", "KIND"),
    "teacher": ("teacher.models", "FOLDER"),
    "train": ("data.train", "FILE"),
    "validation": ("data.validation", "FILE"),
    "test": ("data.test", "FILE"),
    "transfer": ("data.transfer", "FILE"),
    "column": ("data.columns", "OURS=THEIRS"),
    "store": ("teacher.store", "FOLDER"),
}
_REPEATED = ("teacher", "column")
Options = Mapping[str, Sequence[str] | str | None]  # name → values


def name_tasks(train: Sequence[str] | str | None) -> bool:
    """Whether `--train` is given for several tasks, as `a=a.csv` and `b=b.csv`: then any recipe trains one student for all of them."""
    values = [] if train is None or isinstance(train, str) else train
    return len(values) > 1 and all(_split(value)[0] and not Path(value).exists() for value in values)


def for_one_task(given: Options) -> dict[str, Any]:
    """The values of options for a recipe with one task. Each may be given once, except `teacher` and `column`.

    Raises:
        RecipeError: an option is given twice, or names a task.
    """
    settings: dict[str, Any] = {}
    for option, value_or_values in given.items():
        values = [value_or_values] if isinstance(value_or_values, str) else list(value_or_values or [])
        for value in values:
            name = value.partition("=")[0]
            if "=" in value and option not in {"column", "store"} and _is_name(name) and not Path(value).exists():
                raise RecipeError(
                    f"--{option} {value} names a task '{name}' (there is no file of this name), but this is a run of one task: leave "
                    f"{name}= out, or give --train NAME=FILE for each of several tasks"
                )
        if option in _REPEATED:
            settings[option] = values or None
            continue
        if len(values) > 1:
            raise RecipeError(f"--{option} is given {len(values)} times ({', '.join(values)}), but this is a run of one task")
        settings[option] = values[0] if values else None
    return settings


def for_tasks(recipe: str, given: Options) -> dict[str, Any]:
    """Options as dotted keys of a recipe with tasks. The tasks are those in the recipe, else those that `--train` names.

    Raises:
        RecipeError: an option without the name of a task, or with an unknown one; all mistakes together.
    """
    pairs = {option: [_split(value) for value in values or []] for option, values in given.items()}
    in_recipe = task_names(recipe)
    known = in_recipe or list(dict.fromkeys(name for name, _ in pairs["train"] if _is_name(name)))
    mistakes = [mistake for option, values in pairs.items() for name, value in values if (mistake := _mistake(option, name, value, known))]
    mistakes += [
        f"--{option} is given {count} times for task {name}; give it once"
        for option, values in pairs.items()
        if option not in _REPEATED
        for name in known
        if (count := sum(task == name for task, _ in values)) > 1
    ]
    if mistakes:
        raise RecipeError("\n".join(mistakes))
    settings: dict[str, Any] = {} if in_recipe else {"tasks": [{"name": name} for name in known]} if known else {}
    for option, values in pairs.items():
        for place, name in enumerate(known):
            of_task = [value for task, value in values if task == name]
            if of_task:
                value: Any = options.columns(of_task) if option == "column" else of_task if option == "teacher" else of_task[0]
                settings[f"tasks.{place}.{_KEYS[option][0]}"] = value
    return settings


def _split(value: str) -> tuple[str, str]:
    """`sst2=a.csv` → `("sst2", "a.csv")`; the name is empty where there is none that could be a task's."""
    name, equals, rest = value.partition("=")
    return (name, rest) if equals and "/" not in name and "." not in name else ("", value)


def _mistake(option: str, name: str, value: str, known: Sequence[str]) -> str | None:
    """A message where an option names no known task; None where it is correct."""
    form = _KEYS[option][1]
    if option == "column" and "=" not in value and name not in known:  # `text=review`
        name, value = "", "=".join(part for part in (name, value) if part)
    if not name:
        which = f", one of {', '.join(known)}" if known else f", for example --{option} first={value}"
        return f"--{option} {value} names no task; write it as NAME={form}{which}"
    try:
        check_task_name(name)
    except ValueError as error:
        return f"--{option} {name}={value}: {error}"
    if name in known:
        return None if value else f"--{option} {name}= is empty; write it as {name}={form}"
    if not known:
        return f"--{option} {name}={value}: task '{name}' has no training rows; give --train {name}=FILE"
    return f"--{option} {name}={value}: no --train names task '{name}'; {did_you_mean(name, known)}"


def _is_name(name: str) -> bool:
    """Whether a task may have this name."""
    try:
        check_task_name(name)
    except ValueError:
        return False
    return True
