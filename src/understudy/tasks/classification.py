"""Text classification: one class a row, of a single text or of a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from understudy.tasks.base import Task

if TYPE_CHECKING:
    import numpy as np


class Classification(Task):
    """One class a row; the text may be a pair. Metrics by scikit-learn."""

    label_type = "class"
    primary_metric = "accuracy"
    metric_names = (
        "accuracy", "macro_f1", "macro_precision", "macro_recall", "weighted_f1", "weighted_precision", "weighted_recall",
        "matthews", "f1",
    )  # fmt: skip
    example: ClassVar[dict[str, Any]] = {"text": "a gripping film , and a moving one", "label": "positive"}

    def outputs(self, label_names: tuple[str, ...] | None) -> int:
        return len(label_names or ())

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        return logits.argmax(axis=-1)

    def metrics(self, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Accuracy, macro and weighted precision, recall and F1, Matthews; `f1` of class 1 when there are two classes."""
        from sklearn.metrics import f1_score, matthews_corrcoef, precision_recall_fscore_support

        found = {"accuracy": float((predictions == labels).mean())}
        for average in ("macro", "weighted"):
            # Classes that the labels lack but a model predicts would count as zero; the average is over the labels' classes.
            precision, recall, f1, _ = precision_recall_fscore_support(
                labels, predictions, labels=sorted(set(labels.tolist())), average=average, zero_division=0.0
            )
            found |= {f"{average}_precision": precision, f"{average}_recall": recall, f"{average}_f1": f1}
        found["matthews"] = (
            1.0
            if len(set(labels.tolist())) == 1 and (predictions == labels).all()
            else matthews_corrcoef(labels, predictions)
        )
        if set(labels.tolist()) | set(predictions.tolist()) <= {0, 1}:
            found["f1"] = f1_score(labels, predictions, zero_division=1.0)
        return {name: float(value) for name, value in found.items()}

    def per_class(
        self, predictions: np.ndarray, labels: np.ndarray, label_names: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        """Precision, recall, F1 and support (rows) of every class, in the order of `label_names`."""
        from sklearn.metrics import precision_recall_fscore_support

        columns = precision_recall_fscore_support(
            labels, predictions, labels=range(len(label_names)), zero_division=0.0
        )
        return [
            {
                "label": name,
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "support": int(support),
            }
            for name, precision, recall, f1, support in zip(label_names, *columns, strict=True)
        ]
