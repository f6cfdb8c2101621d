"""What pydantic holds against settings, in the user's spelling and with what is allowed."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from understudy.errors import did_you_mean
from understudy.settings.listing import keys_named

_ONE_TYPE = re.compile(r"(list|literal)\[.*\]")  # what pydantic puts into the key of a setting of several types
_LISTS = {"list[int]": "[0, 2]", "list[tuple[int, int]]": "[[1, 2], [2, 4]]"}


def told(
    cls: type[BaseModel], error: ValidationError, known: Iterable[str] = (), values: Mapping[str, Any] | None = None
) -> list[str]:
    """Each mistake in a sentence.

    Args:
        cls: whose settings they are.
        known: settings beside those of `cls`, for near misses.
        values: what was refused, for near misses in other places.
    """
    items = _joined(error.errors())
    # A list whose members are refused also counts as too short, or as none of the words allowed; that says nothing new.
    return [
        _mistake(cls, item, known, values)
        for item in items
        if item["type"] not in ("too_short", "literal_error") or not _within(item, items)
    ]


def _joined(items: Iterable[Any]) -> list[Any]:
    """One mistake of a setting that may be a list or a word, where pydantic has one for each."""
    found: list[Any] = []
    for item in items:
        kind = next((step for step in item["loc"] if isinstance(step, str) and _ONE_TYPE.fullmatch(step)), None)
        place, message = tuple(step for step in item["loc"] if step != kind), item["msg"]
        if item["type"] == "list_type" and kind in _LISTS:
            message = f"Input should be a list such as {_LISTS[kind]}"
        if kind and found and found[-1]["loc"] == place:
            message = f"{found.pop()['msg']}, or {message.removeprefix('Input should be ')}"
        found.append(item | {"loc": place, "msg": message})
    return found


def _mistake(
    cls: type[BaseModel], item: Any, known: Iterable[str] = (), values: Mapping[str, Any] | None = None
) -> str:
    """One mistake of pydantic's, in the user's spelling, with what is allowed."""
    key = ".".join(str(step) for step in item["loc"])
    if item["type"] == "extra_forbidden":
        written = _deepest(key, item["input"])
        if values is not None and (near := keys_named(written, cls, values)):
            return f"{written} is not a setting here. Did you mean {' or '.join(repr(one) for one in near)}?"
        known = [*known, *_fields_at(cls, item["loc"][:-1])]
        return f"{key} is not a setting" + (f"; {did_you_mean(str(item['loc'][-1]), known)}" if known else "")
    if item["type"] == "missing":
        return f"{key} is missing"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} is {item['input']!r}: {message[0].lower()}{message[1:]}"


def _deepest(key: str, value: Any) -> str:
    """The key that was written, where only its beginning is refused."""
    while isinstance(value, Mapping) and len(given := [one for one in value.items() if one[1] is not None]) == 1:
        name, value = given[0]
        key = f"{key}.{name}"
    return key


def _within(item: Any, items: Sequence[Any]) -> bool:
    """Whether another mistake lies deeper in the same place."""
    place = item["loc"]
    return any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in items)


def _fields_at(cls: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Names of the settings at a place in a model, for near misses."""
    at: Any = cls
    for step in location:
        if isinstance(step, int):
            continue
        field = at.model_fields.get(step) if hasattr(at, "model_fields") else None
        if field is None:
            return []
        candidates = [field.annotation, *typing.get_args(field.annotation)]
        at = next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)
        if at is None:
            return []
    return list(at.model_fields)
