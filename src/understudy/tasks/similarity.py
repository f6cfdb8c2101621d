"""A number for a row: how alike two texts are, or any score of one text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from understudy.tasks.base import Task

if TYPE_CHECKING:
    import numpy as np


class Similarity(Task):
    """Regression on a pair of texts, or on one text. Metrics by scipy."""

    label_type = "number"
    primary_metric = "pearson"
    metric_names = ("pearson", "spearman")
    example: ClassVar[dict[str, Any]] = {
        "text": "A man is playing a guitar.",
        "text_pair": "A man plays the guitar.",
        "label": 4.8,
    }

    def outputs(self, label_names: tuple[str, ...] | None) -> int:
        return 1

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        return logits[:, 0]

    def metrics(self, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Pearson and Spearman correlation; 0 where a constant makes them undefined."""
        import numpy as np
        from scipy.stats import pearsonr, spearmanr

        if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
            return {"pearson": 0.0, "spearman": 0.0}
        return {
            "pearson": float(pearsonr(predictions, labels).statistic),
            "spearman": float(spearmanr(predictions, labels).statistic),
        }
