"""Messages for invalid settings: pydantic's errors with the user's keys and the allowed values."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from understudy.errors import did_you_mean
from understudy.settings.listing import keys_named

_ONE_TYPE = re.compile(r"(list|literal)\[.*\]")  # the step that pydantic adds to the key of a setting of several types
_LISTS = {"list[int]": "[0, 2]", "list[tuple[int, int]]": "[[1, 2], [2, 4]]"}


def messages_of(
    cls: type[BaseModel], error: ValidationError, known: Iterable[str] = (), values: Mapping[str, Any] | None = None
) -> list[str]:
    """One message for each mistake.

    Args:
        cls: the settings that were to be built.
        error: pydantic's.
        known: settings beside those of `cls`, for near misses.
        values: the refused values, for near misses elsewhere in them.
    """
    items = _joined(error.errors())
    # A list with invalid members is also reported as too short, or as none of the allowed words; only the members matter.
    return [
        _mistake(cls, item, known, values)
        for item in items
        if item["type"] not in ("too_short", "literal_error") or not _within(item, items)
    ]


def _joined(items: Iterable[Any]) -> list[Any]:
    """Errors with those of one setting joined: where a list or a word is allowed, pydantic reports an error for each type."""
    joined: list[Any] = []
    for item in items:
        kind = next((step for step in item["loc"] if isinstance(step, str) and _ONE_TYPE.fullmatch(step)), None)
        place, message = tuple(step for step in item["loc"] if step != kind), item["msg"]
        if item["type"] == "list_type" and kind in _LISTS:
            message = f"Input should be a list such as {_LISTS[kind]}"
        if kind and joined and joined[-1]["loc"] == place:
            message = f"{joined.pop()['msg']}, or {message.removeprefix('Input should be ')}"
        joined.append(item | {"loc": place, "msg": message})
    return joined


def _mistake(cls: type[BaseModel], item: Any, known: Iterable[str] = (), values: Mapping[str, Any] | None = None) -> str:
    """The message for one error of pydantic's: the key as the user wrote it, and what is allowed."""
    key = ".".join(str(step) for step in item["loc"])
    if item["type"] == "extra_forbidden":
        written = _deepest(key, item["input"])
        if values is not None and (near := keys_named(written, cls, values)):
            return f"{written} is not a setting here. Did you mean {' or '.join(map(repr, near))}?"
        known = [*known, *_fields_at(cls, item["loc"][:-1])]
        return f"{key} is not a setting" + (f"; {did_you_mean(str(item['loc'][-1]), known)}" if known else "")
    if item["type"] == "missing":
        return f"{key} is missing"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} is {item['input']!r}: {message[0].lower()}{message[1:]}"


def _deepest(key: str, value: Any) -> str:
    """The whole dotted key that the user wrote, where pydantic refuses its beginning."""
    while isinstance(value, Mapping) and len(items := [item for item in value.items() if item[1] is not None]) == 1:
        name, value = items[0]
        key = f"{key}.{name}"
    return key


def _within(item: Any, items: Sequence[Any]) -> bool:
    """Whether another error is deeper in the same place."""
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
        at = next((model for model in candidates if isinstance(model, type) and issubclass(model, BaseModel)), None)
        if at is None:
            return []
    return list(at.model_fields)
