"""Answers of a `transformers` folder to rows, as an export gives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from understudy.data.streams import Row
from understudy.errors import DataError, ModelError
from understudy.machine import find_device
from understudy.models.text_model import TextModel
from understudy.runtime import GIVE_A_PAIR, check_texts, six_digits
from understudy.teachers.capture import logits_of


def stream(model: str, rows: Iterable[Row], *, device: str | None = None) -> list[dict[str, Any]]:
    """Answers of a `transformers` folder to rows, which are read whole first.

    Raises:
        UserError: the model or a row does not fit.
    """
    loaded, rows = TextModel.load(model), list(rows)
    pair = any(second is not None for _, second in rows)
    check_texts([text for text, _ in rows], [second for _, second in rows] if pair else None)
    reads_pairs = getattr(loaded.model.config, "pair", None)
    if rows and reads_pairs is not None and reads_pairs != pair:
        raise DataError(
            f"{model} needs a second text, but only one is given; {GIVE_A_PAIR}"
            if reads_pairs
            else f"{model} reads one text, but a second one is given; remove it"
        )
    return _answers(loaded, rows, device) if rows else []


def _answers(loaded: TextModel, rows: Sequence[Row], device: str | None) -> list[dict[str, Any]]:
    from datasets import Dataset
    from scipy.special import softmax

    columns: dict[str, list[Any]] = {"text": [text for text, _ in rows]}
    if any(second is not None for _, second in rows):
        columns["text_pair"] = [second for _, second in rows]
    logits = logits_of(loaded, Dataset.from_dict(columns), device=find_device(device))
    if not np.isfinite(logits).all():
        row = int(np.argwhere(~np.isfinite(logits))[0][0]) + 1
        raise ModelError(f"the model's output for row {row} is not a finite number; it is damaged or diverged")
    given = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    names = loaded.label_names
    if names is None:
        return [{**one, "value": value} for one, value in zip(given, six_digits(logits[:, 0].tolist()), strict=True)]
    return [
        {
            **one,
            "label": names[top],
            "probability": row[top],
            "probabilities": dict(zip(names, row, strict=True)),
        }
        for one, top, row in zip(
            given, logits.argmax(axis=-1), map(six_digits, softmax(logits, axis=-1).tolist()), strict=True
        )
    ]
