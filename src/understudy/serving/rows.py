"""The rows of a request: the schema of a body, and its check."""

from __future__ import annotations

import json
from typing import Any

from fastapi import HTTPException

from understudy.errors import did_you_mean
from understudy.runtime import Predictor
from understudy.serving.batching import Row
from understudy.serving.limits import Limits

# A text with at least one character that is not white space, and no null character. Python's white space is written out, since \s
# differs between dialects of regular expressions.
_BLANK = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_WRITTEN = rf"^[^\x00]*[^\x00{_BLANK}][^\x00]*$"


def request_schema(export: Predictor, limits: Limits) -> dict[str, Any]:
    """The JSON schema of a body that `read_rows` accepts."""
    text = {"type": "string", "minLength": 1, "maxLength": limits.max_characters, "pattern": _WRITTEN}
    row = {
        "type": "object",
        "properties": dict.fromkeys(_names(export), text),
        "required": list(_names(export)),
        "additionalProperties": False,
    }
    return {"anyOf": [row, {"type": "array", "items": row, "maxItems": limits.max_rows}]}


def answer_schema(export: Predictor) -> dict[str, Any]:
    """The JSON schema of a response."""
    answer = export.task.answer_schema()
    return {"anyOf": [answer, {"type": "array", "items": answer}]}


def read_rows(body: bytes, export: Predictor, limits: Limits) -> tuple[list[Row], bool]:
    """The rows of a body, valid for the model.

    Returns:
        The rows, and whether the body is a list.

    Raises:
        HTTPException: 400 where it is not JSON, 422 where it is not a row or a text cannot be predicted, 413 where it is too large.
    """
    value = _parsed(body)
    if isinstance(value, dict):
        return [_row(value, "", export, limits)], False
    if not isinstance(value, list):
        raise HTTPException(422, f"the body must be a row like {_example(export)}, or a list of rows")
    if len(value) > limits.max_rows:
        raise HTTPException(413, f"{len(value)} rows; at most {limits.max_rows} in a request")
    return [_row(row, f"row {number}: ", export, limits) for number, row in enumerate(value, 1)], True


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the body is not UTF-8 (byte {error.start + 1})") from None
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None


def _row(row: Any, where: str, export: Predictor, limits: Limits) -> Row:
    names = _names(export)
    if not isinstance(row, dict):
        raise HTTPException(422, f"{where}a row must be an object like {_example(export)}")
    for name in row:
        if name == "text_pair" and not export.pair:
            raise HTTPException(422, f"{where}this model reads one text; remove text_pair")
        if name not in names:
            raise HTTPException(422, f"{where}unknown key '{_shown(name)}'; {did_you_mean(_shown(name), names)}")
    for name in names:
        if name not in row:
            raise HTTPException(422, f"{where}{name} is missing; a row is an object like {_example(export)}")
        _check_text(row[name], f"{where}{name}", limits)
    return row["text"], row.get("text_pair")


def _check_text(text: Any, what: str, limits: Limits) -> None:
    if not isinstance(text, str):
        raise HTTPException(422, f"{what} must be text")
    if not text or text.isspace():
        raise HTTPException(422, f"{what} is empty; give some words")
    if len(text) > limits.max_characters:
        raise HTTPException(413, f"{what} has {len(text)} characters; at most {limits.max_characters}")
    if "\0" in text:
        raise HTTPException(422, f"{what}: character {text.index(chr(0)) + 1} is null; repair the text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise HTTPException(422, f"{what}: character {error.start + 1} is half a character; repair the text") from None


def _names(export: Predictor) -> tuple[str, ...]:
    return ("text", "text_pair") if export.pair else ("text",)


def _example(export: Predictor) -> str:
    return json.dumps(dict.fromkeys(_names(export), "…"), ensure_ascii=False)


def _shown(name: str) -> str:
    """A name for a message: shortened, and without lone surrogates, which a response in UTF-8 cannot hold."""
    return name.encode("utf-8", "replace").decode()[:40]
