"""The predictions of every model of a run for each test row, as a file, from which each figure can be computed again."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.errors import RunFolderError
from understudy.files import whole

if TYPE_CHECKING:
    import datasets

    from understudy.evaluation.measure import ModelResult
    from understudy.tasks import Answer, Fitted, Task

PREDICTIONS = "predictions.jsonl.gz"
_DIGITS = 6


def predictions(
    rows: datasets.Dataset, models: Mapping[str, ModelResult], task: Task, facts: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """A line for each row: `identity`, `text`, `text_pair` (of pairs), `label`, and `models`, name → the task's answer in short.

    An answer has a `label` and its `probability`, or `labels`; for numbers, a `value`. Where a temperature was fitted,
    `scaled_probability` is the number after it.

    Args:
        rows: labelled.
        models: with their logits (`ModelResult.answered`); those without are left out.
        facts: the entries of these models in facts.json, for their temperatures.
    """
    answers_of = {
        name: _answers(task, result.decided, facts[name].get("calibration") or {})
        for name, result in models.items()
        if result.decided is not None
    }
    for place, row in enumerate(rows):
        yield {
            **{key: row[key] for key in ("identity", "text", "text_pair") if key in row},
            "label": task.label(row["label"]),
            "models": {name: answers[place] for name, answers in answers_of.items()},
        }


def write_predictions(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write them as gzipped JSON Lines, whole; the same lines give the same bytes."""
    # Neither a time nor a name goes into the file's header, or no two runs would be alike.
    with whole(path) as unfinished, unfinished.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
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
        raise RunFolderError(f"{path}: damaged ({error}); delete it, and the page is written without the rows") from error
    return lines


def _answers(task: Task, outputs: np.ndarray, fitted: Fitted) -> list[Answer]:
    outputs = outputs.astype(np.float64)
    answers = task.answers(outputs, brief=True)
    if fitted.get("fitted_on"):
        for answer, scaled in zip(answers, task.answers(outputs, fitted, brief=True), strict=True):
            answer |= {f"scaled_{key}": value for key, value in scaled.items() if isinstance(value, float)}
    return [{key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in answer.items()} for answer in answers]
