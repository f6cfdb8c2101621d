"""What every model of a run said of each test row, as a file: whoever doubts a figure can count again."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.errors import RunFolderError
from understudy.evaluation.calibration import probabilities_of
from understudy.files import whole

if TYPE_CHECKING:
    import datasets

    from understudy.evaluation.measure import Measured

PREDICTIONS = "predictions.jsonl.gz"
_DIGITS = 6


def predictions(
    rows: datasets.Dataset,
    models: Mapping[str, Measured],
    label_names: tuple[str, ...] | None,
    facts: Mapping[str, Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """A line for each row: `identity`, `text`, `text_pair` (of pairs), `label`, and `models`, name → what it said.

    A model says a `label`, its `probability`, and where a temperature was fitted the `scaled_probability`; for numbers, a `value`.

    Args:
        rows: labelled.
        models: answered; those without logits are left out.
        label_names: classes in the order of the logits; None for numbers.
        facts: the entries of these models in facts.json, for their temperatures.
    """
    said = {
        name: _said(one.logits, label_names, (facts[name].get("calibration") or {}).get("temperature"))
        for name, one in models.items()
        if one.logits is not None
    }
    for place, row in enumerate(rows):
        label = row["label"]
        yield {
            **{key: row[key] for key in ("identity", "text", "text_pair") if key in row},
            "label": float(label) if label_names is None else label_names[int(label)],
            "models": {name: answers[place] for name, answers in said.items()},
        }


def write_predictions(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write them as gzipped JSON Lines, whole; the same lines give the same bytes."""
    # Neither a time nor a name goes into the file's head, or no two runs would be alike.
    with (
        whole(path) as new,
        new.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
    ):
        for line in lines:
            packed.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """The lines of such a file; none where there is no file.

    Raises:
        RunFolderError: a damaged file.
    """
    if not path.is_file():
        return []
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            lines = [json.loads(line) for line in file]
        for line in lines:
            if not isinstance(line["models"], dict) or "text" not in line or "label" not in line:
                raise ValueError("not a line of predictions")
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise RunFolderError(
            f"{path}: damaged ({error}); delete it, and the page is written without the rows"
        ) from error
    return lines


def _said(logits: np.ndarray, label_names: tuple[str, ...] | None, temperature: float | None) -> list[dict[str, Any]]:
    if label_names is None:
        return [{"value": round(float(value), _DIGITS)} for value in logits[:, 0]]
    columns = {"probability": probabilities_of(logits).max(axis=-1)}
    if temperature is not None:
        columns["scaled_probability"] = probabilities_of(logits, temperature).max(axis=-1)
    return [
        {"label": label_names[place], **{name: round(float(column[row]), _DIGITS) for name, column in columns.items()}}
        for row, place in enumerate(logits.argmax(axis=-1))
    ]
