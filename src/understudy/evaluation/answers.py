"""Answers of a `transformers` folder to rows, as an export gives them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from understudy.data.streams import Row
from understudy.errors import DataError, ModelError
from understudy.machine import find_device
from understudy.models.origin import task_of_model
from understudy.models.text_model import TextModel
from understudy.runtime import GIVE_A_PAIR, check_texts, with_texts
from understudy.tasks import Answer
from understudy.teachers.capture import logits_of


def stream(model: str, rows: Iterable[Row], *, device: str | None = None, task: str | None = None) -> list[Answer]:
    """Answers of a `transformers` folder to rows, which are read whole first.

    Args:
        task: kind of task; None: the one that the run folder around it, or its head, is for.

    Raises:
        UserError: the model or a row does not fit.
    """
    from datasets import Dataset

    loaded = TextModel.load(model)
    kind, rows = task_of_model(model, loaded, task), list(rows)
    texts = [text for text, _ in rows]
    pairs = [str(second) for _, second in rows] if any(second is not None for _, second in rows) else None
    check_texts(texts, None if pairs is None else [second for _, second in rows])
    reads_pairs = getattr(loaded.model.config, "pair", None)
    if not rows:
        return []
    if reads_pairs is not None and reads_pairs != (pairs is not None):
        raise DataError(
            f"{model} needs a second text, but only one is given; {GIVE_A_PAIR}"
            if reads_pairs
            else f"{model} reads one text, but a second one is given; remove it"
        )
    columns = {"text": texts} | ({} if pairs is None else {"text_pair": pairs})
    outputs = logits_of(loaded, Dataset.from_dict(columns), device=find_device(device))
    if not np.isfinite(outputs).all():
        row = int(np.argwhere(~np.isfinite(outputs))[0][0]) + 1
        raise ModelError(f"the model's output for row {row} is not a finite number; it is damaged or diverged")
    return with_texts(kind.answers(outputs, loaded.fitted), texts, pairs)
