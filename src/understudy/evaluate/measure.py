"""A model's entry in facts.json, and the comparison of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.evaluate.fidelity import agreement
from understudy.evaluate.quality import quality
from understudy.evaluate.significance import gain
from understudy.evaluate.speed import measure_all, size
from understudy.evaluate.summary import summarise
from understudy.teachers.capture import logits_of

if TYPE_CHECKING:
    import datasets

    from understudy.tasks import Task
    from understudy.text_model import TextModel


@dataclass(frozen=True)
class Measured:
    """A model to be compared: what it said of the test rows, and what is known of it.

    Args:
        model: None for a black box.
        folder: where it lies, for its size.
        seconds: of its training, where known.
        logits: of the test rows, (rows, outputs), where they are kept already; None asks the model.
    """

    model: TextModel | None
    folder: Path | None = None
    seconds: float | None = None
    logits: np.ndarray | None = None

    def answered(self, test: datasets.Dataset, device: str) -> Measured:
        """With its logits, as far as they can be known."""
        if self.logits is not None or self.model is None:
            return self
        return replace(self, logits=logits_of(self.model, test, device=device))


def compare(
    models: Mapping[str, Measured], test: datasets.Dataset, task: Task, *, metric: str, label_names: tuple[str, ...] | None,
    device: str = "cpu", seed: int = 0, speed: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """The part of facts.json that speaks of models: quality with intervals, size, speed, the gain over the controls, agreement.

    Args:
        models: by their names in facts.json; `student` among them.
        test: labelled rows.
        speed: False leaves latency and throughput out.
    """
    models = {name: one.answered(test, device) for name, one in models.items()}
    labels = np.asarray(test["label"])
    pairs = test["text_pair"] if "text_pair" in test.column_names else [None] * len(test)
    texts = list(zip(test["text"], pairs, strict=True))
    loaded = {name: one.model for name, one in models.items() if one.model is not None}
    timings = measure_all(loaded, texts, device=device) if speed and loaded else {}
    entries = {
        name: _entry(one, task, labels, label_names, seed) | timings.get(name, {}) for name, one in models.items()
    }
    student, teacher = models["student"], models.get("teacher")
    assert student.logits is not None
    said = task.predictions(student.logits)
    facts: dict[str, Any] = {"primary_metric": metric, "models": entries, **summarise(entries, metric)}
    for control in ("alone", "pseudo_labels"):
        other = models.get(f"student_{control}")
        facts[f"gain_over_{control}"] = (
            gain(task, metric, said, task.predictions(other.logits), labels, seed=seed)
            if other and other.logits is not None
            else None
        )
    facts["agreement_with_teacher"] = (
        agreement(task, student.logits, teacher.logits) if teacher and teacher.logits is not None else None
    )
    return facts


def _entry(
    one: Measured, task: Task, labels: np.ndarray, label_names: tuple[str, ...] | None, seed: int
) -> dict[str, Any]:
    entry: dict[str, Any] = size(one.model, one.folder) if one.model else {"parameters": None, "size_mib": None}
    if one.logits is not None:
        entry["quality"] = quality(task, one.logits, labels, seed=seed)
        if label_names and hasattr(task, "per_class"):
            entry["per_class"] = task.per_class(task.predictions(one.logits), labels, label_names)
    return entry | {"seconds": one.seconds}
