"""Every setting by its dotted key: for the list of settings, for near misses, and for short forms such as `--epochs`."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from understudy import parts
from understudy.errors import RecipeError

# Names of settings in other tools → names here.
_ALIASES = {
    "lr": "learning_rate",
    "rate": "learning_rate",
    "epoch": "epochs",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "batch": "batch_size",
    "bs": "batch_size",
    "train_batch_size": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "max_len": "max_length",
    "max_seq_length": "max_length",
    "seq_length": "max_length",
    "steps": "max_steps",
    "wd": "weight_decay",
    "warmup": "warmup_fraction",
    "warmup_ratio": "warmup_fraction",
    "t": "temperature",
    "temp": "temperature",
    "early_stopping": "patience",
    "early_stopping_patience": "patience",
    "gradient_accumulation_steps": "accumulation",
    "max_grad_norm": "clip_norm",
    "lr_scheduler_type": "schedule",
    "fp16": "precision",
    "bf16": "precision",
}


@dataclass(frozen=True)
class Setting:
    """One setting: its dotted key, its type, its default (None: no default, or off) and its meaning."""

    key: str
    type: str
    default: Any
    description: str


def settings_of(cls: type[BaseModel], values: Any = None, at: str = "") -> Iterator[Setting]:
    """All settings of a model, including those of its parts.

    Args:
        cls: whose settings are listed.
        values: the settings' values as far as known; they decide the number of stages and objectives, and their kinds. None lists one
            of each, with N for its number, and no settings of kinds.
        at: the beginning of the keys, as `stages.0.`.
    """
    general = values is None
    values = values if isinstance(values, Mapping) else {}
    for name, field in cls.model_fields.items():
        key, inner, value = f"{at}{name}", _model_in(field.annotation), values.get(name)
        if inner is None:
            yield Setting(key, _type(field.annotation), _default(field), field.description or "")
        elif _is_list(field.annotation):
            members = [None] if general else value if isinstance(value, list | tuple) else []
            for place, member in enumerate(members):
                yield from settings_of(inner, member, f"{key}.{'N' if general else place}.")
        elif general or value or type(None) not in typing.get_args(field.annotation):
            yield from settings_of(inner, None if general else value or {}, f"{key}.")
    if hasattr(cls, "folder") and isinstance(values.get("kind"), str):
        yield from _of_kind(cls.folder, values["kind"], at)


def _of_kind(folder: str, kind: str, at: str = "") -> list[Setting]:
    """Settings of a kind of part; none where the kind is unknown."""
    try:
        model = parts.settings_of(parts.part(folder, kind))
    except RecipeError:
        return []
    described = _arguments(parts.part(folder, kind).__doc__ or "")
    return [
        Setting(f"{at}{name}", _type(field.annotation), _default(field), field.description or described.get(name, ""))
        for name, field in model.model_fields.items()
    ]


def _arguments(docstring: str) -> dict[str, str]:
    '''The description of each argument in a docstring.

    >>> _arguments("""One line.
    ...
    ...     Args:
    ...         width: how wide,
    ...             in units.
    ...         depth: how deep.
    ... """)
    {'width': 'how wide, in units.', 'depth': 'how deep.'}
    '''
    lines = inspect.cleandoc(docstring).partition("Args:\n")[2].partition("\n\n")[0].splitlines()
    descriptions: dict[str, str] = {}
    for line in lines:
        if match := re.match(r" {4}(\w+): (.*)", line):
            descriptions[match[1]] = match[2]
        elif descriptions:
            descriptions[next(reversed(descriptions))] += f" {line.strip()}"
    return descriptions


def keys_named(key: str, cls: type[BaseModel], values: Mapping[str, Any]) -> list[str]:
    """Dotted keys that end in the same name as `key`, or in our name for it: those beside `key`, else all; at most three.

    >>> from understudy.settings.finetune import FinetuneSettings
    >>> keys_named("epochs", FinetuneSettings, {}), keys_named("train.lr", FinetuneSettings, {}), keys_named("epoc", FinetuneSettings, {})
    (['train.epochs'], ['train.learning_rate'], [])
    """
    place, _, last = key.rpartition(".")
    wanted = _ALIASES.get(last.lower(), last)
    keys = [setting.key for setting in settings_of(cls, values) if setting.key.rpartition(".")[2] == wanted]
    beside = [key for key in keys if key.rpartition(".")[0] == place]
    return (beside or keys)[:3]


def short_forms(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Short forms as dotted keys: of a recipe for all its stages and objectives, else for the single training.

    Args:
        values: of the recipe, or of the settings of a training.
        given: epochs, learning_rate, batch_size, max_length or temperature; None is not given.

    Raises:
        RecipeError: a temperature is given, but no objective has one.

    >>> short_forms({"stages": [{}, {}]}, {"epochs": 3, "max_length": 64, "batch_size": None})
    {'stages.0.train.epochs': 3, 'stages.1.train.epochs': 3, 'data.max_length': 64}
    """
    given = {name: value for name, value in given.items() if value is not None}
    stages = values.get("stages")
    places = ["train"] if stages is None else [f"stages.{place}.train" for place in range(len(stages))]
    settings: dict[str, Any] = {}
    for name in ("epochs", "learning_rate", "batch_size"):
        if name in given:
            settings |= {f"{place}.{name}": given[name] for place in places}
    if "epochs" in given:  # a number of updates would override it
        settings |= {
            f"{place}.max_steps": None
            for place, stage in zip(places, stages or [values], strict=True)
            if isinstance(stage, Mapping) and (stage.get("train") or {}).get("max_steps")
        }
    if "max_length" in given:
        settings["data.max_length"] = given["max_length"]
    if "temperature" in given:
        keys = temperatures(values)
        if not keys:
            raise RecipeError(f"--temperature: no objective of {values.get('name', 'this recipe')} has a temperature")
        settings |= dict.fromkeys(keys, given["temperature"])
    return settings


def temperatures(values: Mapping[str, Any]) -> list[str]:
    """Dotted keys of the temperatures in a recipe's values."""
    from understudy.settings.recipe import Recipe

    keys = [setting.key for setting in settings_of(Recipe, {"stages": values.get("stages") or []})]
    return [key for key in keys if key.rpartition(".")[2] == "temperature"]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model in a type, as in `Model | None` or `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in typing.get_args(annotation) if (model := _model_in(inner))), None)


def _is_list(annotation: Any) -> bool:
    return any(origin in (tuple, list) for origin in map(typing.get_origin, [annotation, *typing.get_args(annotation)]))


def _default(field: Any) -> Any:
    if field.default_factory is not None:
        return "labels"
    return None if field.default is PydanticUndefined else field.default


def _type(annotation: Any) -> str:
    """A type as the list of settings shows it.

    >>> _type(int | None), _type(tuple[str, ...]), _type(typing.Literal["a", "b"]), _type(dict[str, str])
    ('int', 'list of str', 'a | b', 'mapping')
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(map(str, inner))
    if origin in (tuple, list):
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return "mapping"
    if origin is typing.Annotated:
        return _type(inner[0])
    if inner:
        types = dict.fromkeys(_type(member) for member in inner if member is not type(None))
        return " | ".join(name for name in types if name != "InMemory")  # rows that a Python program holds
    return getattr(annotation, "__name__", str(annotation))


def all_settings() -> dict[str, list[Setting]]:
    """Title → settings: of recipes, of `finetune` and `pretrain`, and of every kind of part."""
    from understudy.settings.finetune import FinetuneSettings, PretrainSettings
    from understudy.settings.recipe import Recipe

    recipe = list(settings_of(Recipe))
    keys = {setting.key for setting in recipe}

    def beside_recipe(cls: type[BaseModel]) -> list[Setting]:
        return [setting for setting in settings_of(cls) if setting.key not in keys]

    titles = {
        "A recipe (distill, plan, teach, search); stages, objectives and tasks are numbered from 0": recipe,
        "finetune, beside data, task, metric, seed and report_to of a recipe": beside_recipe(FinetuneSettings),
        "pretrain, beside data, seed and report_to of a recipe": beside_recipe(PretrainSettings),
    }
    places = {"students": "student", "objectives": "stages.N.objectives.N", "augmenters": "stages.N.augment.steps.N"}
    for folder, place in places.items():
        for kind in parts.kinds(folder):
            titles[f"{place} of kind {kind}"] = _of_kind(folder, kind, f"{place}.")
    return {title: settings for title, settings in titles.items() if settings}


def shown(default: Any) -> str:
    """A default as it is written in YAML; empty where there is none.

    >>> shown(("train", "transfer")), shown(None), shown(True), shown({}), shown(0.1)
    ('[train, transfer]', '', 'true', '', '0.1')
    """
    if default is None or default in ({}, ()):
        return ""
    if isinstance(default, tuple | list):
        return f"[{', '.join(map(str, default))}]"
    return str(default).lower() if isinstance(default, bool) else str(default)


_INTRODUCTION = """\
Made by `python -m understudy.settings.listing > docs/settings.md`; `understudy list settings` prints the same. Set any of them with
`--set KEY=VALUE`, in a recipe's YAML file, or from Python. `N` is a number counted from 0; a stage's name may stand in its place. The
usual ones have short forms: `--epochs`, `--learning-rate`, `--batch-size`, `--max-length`, `--temperature`. A setting without a default
is off, or taken from the model or the kind of student."""


def page() -> str:
    """The text of docs/settings.md."""
    lines = ["# Every setting", "", _INTRODUCTION]
    for title, settings in all_settings().items():
        lines += [
            "",
            f"## {title if '.' in title.split()[0] else title[0].upper() + title[1:]}",
            "",
            "| Key | Type | Default | |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{setting.key}` | {setting.type.replace('|', 'or')} | {shown(setting.default)} | {setting.description.replace('|', '/')} |"
            for setting in settings
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
