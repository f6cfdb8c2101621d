"""Text classification: one class a row, of a single text or of a pair."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from understudy.tasks.base import Metric, Task, ratio


class Classification(Task):
    """One class a row; the text may be a pair. Metrics as scikit-learn has them, macro averages over the classes that labels have."""

    label_type = "class"
    metrics = (
        Metric("accuracy", "accuracy", counts_rows=True),
        Metric("macro_f1", "macro F1", hub="f1"),
        Metric("macro_precision", "macro precision"),
        Metric("macro_recall", "macro recall"),
        Metric("weighted_f1", "weighted F1", hub="f1"),
        Metric("weighted_precision", "weighted precision"),
        Metric("weighted_recall", "weighted recall"),
        Metric("matthews", "Matthews correlation", least=-1.0, hub="matthews_correlation"),
        Metric("f1", "F1"),  # of class 1, where there are two
    )
    example: ClassVar[dict[str, Any]] = {"text": "a gripping film , and a moving one", "label": "positive"}

    def outputs(self, label_names: tuple[str, ...] | None) -> int:
        return len(label_names or ())

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        return outputs.argmax(axis=-1)

    def alike(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.column_stack([targets, self.predictions(outputs)])

    def alternatives(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        classes = np.union1d(targets, self.predictions(outputs))
        if len(classes) == 1:
            classes = np.append(classes, (classes + 1) % outputs.shape[-1])
        return np.eye(outputs.shape[-1], dtype=outputs.dtype)[classes]

    def statistics(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Of each class: is it the row's label, is it the prediction, is it both."""
        classes = np.arange(outputs.shape[-1])
        label, predicted = targets[:, None] == classes, self.predictions(outputs)[:, None] == classes
        return np.concatenate([label, predicted, label & predicted], axis=1)

    def measured(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Accuracy, macro and weighted precision, recall and F1, Matthews; `f1` of class 1 where no other than 0 and 1 occurs."""
        support, predicted, hits = np.split(totals, 3, axis=1)
        rows, right = support.sum(axis=1), hits.sum(axis=1)
        scores = {
            "precision": ratio(hits, predicted),
            "recall": ratio(hits, support),
            "f1": ratio(2 * hits, support + predicted),
        }
        # A class that the labels lack has no hits, so it adds nothing to the sum and must not count in the mean.
        found = {"accuracy": right / rows}
        found |= {f"macro_{name}": one.sum(axis=1) / (support > 0).sum(axis=1) for name, one in scores.items()}
        found |= {f"weighted_{name}": (one * support).sum(axis=1) / rows for name, one in scores.items()}
        covariance = right * rows - (support * predicted).sum(axis=1)
        spread = (rows**2 - (support**2).sum(axis=1)) * (rows**2 - (predicted**2).sum(axis=1))
        all_right_of_one_class = ((support > 0).sum(axis=1) == 1) & (right == rows)
        found["matthews"] = np.where(all_right_of_one_class, 1.0, ratio(covariance, np.sqrt(spread)))
        if not (support + predicted)[:, 2:].any():
            either = support[:, 1] + predicted[:, 1]
            found["f1"] = np.where(either == 0, 1.0, ratio(2 * hits[:, 1], either))
        return found

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
