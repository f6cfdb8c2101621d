"""What a task is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import numpy as np


class Task(ABC):
    """What the rows mean: the type of a label, the width of the head, the metrics.

    A task holds no data and no model. Arrays come in as numpy: `logits` is (rows, outputs) and `labels` is (rows,).
    """

    label_type: ClassVar[Literal["class", "number"]]
    primary_metric: ClassVar[str]
    metric_names: ClassVar[tuple[str, ...]]
    example: ClassVar[dict[str, Any]]

    @abstractmethod
    def outputs(self, label_names: tuple[str, ...] | None) -> int:
        """Width of the head."""

    @abstractmethod
    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """What the model says of each row, comparable with the labels: (rows,)."""

    @abstractmethod
    def metrics(self, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Every metric of `metric_names` that applies; 1.0 is perfect for each."""
