"""Text classification: one class a row, of a single text or of a pair."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from understudy.tasks.base import NOTHING, TEXTS, Answer, Column, Fitted, Metric, Task, ratio, schema_of
from understudy.tasks.probabilities import probabilities_of


class Classification(Task):
    """One class a row; the text may be a pair. Metrics as of scikit-learn.

    Macro averages are over the classes that the labels have.
    """

    columns = (*TEXTS, Column("label", "class"))
    problem_type = "single_label_classification"
    reads_output = 'about["labels"][logits.argmax()]'
    calibrated = True
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
        scores = {"precision": ratio(hits, predicted), "recall": ratio(hits, support), "f1": ratio(2 * hits, support + predicted)}
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

    def per_class(self, outputs: np.ndarray, targets: np.ndarray) -> list[dict[str, Any]] | None:
        if not self.names:
            return None
        places, counts = self.distinct(targets, outputs)
        support, predicted, hits = np.split(counts @ self.statistics(outputs[places], targets[places]), 3)
        columns = ratio(hits, predicted), ratio(hits, support), ratio(2 * hits, support + predicted)
        rows = zip(self.names, *(one.tolist() for one in columns), support.tolist(), strict=True)
        return [dict(zip(("label", "precision", "recall", "f1", "support"), row, strict=True)) for row in rows]

    def answers(self, outputs: np.ndarray, fitted: Fitted = NOTHING, *, brief: bool = False) -> list[Answer]:
        """The likeliest class with its probability, and the probabilities of all."""
        probabilities = probabilities_of(outputs, fitted.get("temperature") or 1.0)
        best = self.predictions(outputs)
        sure = np.take_along_axis(probabilities, best[:, None], axis=1)[:, 0]
        answers: list[Answer] = [
            {"label": self.names[top], "probability": probability} for top, probability in zip(best.tolist(), sure.tolist(), strict=True)
        ]
        if not brief:
            for answer, row in zip(answers, probabilities.tolist(), strict=True):
                answer["probabilities"] = dict(zip(self.names, row, strict=True))
        return answers

    def answer_schema(self) -> dict[str, Any]:
        share = {"type": "number", "minimum": 0, "maximum": 1}
        every = schema_of(dict.fromkeys(self.names, share))
        label = {"type": "string", "enum": list(self.names)}
        return schema_of({"label": label, "probability": share, "probabilities": every})

    def label(self, target: Any) -> str:
        return self.names[int(target)]

    def does(self, reads: str) -> str:
        names = ", ".join(f"`{name}`" for name in self.names[:20])
        return f"Classifies {reads} into {len(self.names)} classes: {names}{', …' if len(self.names) > 20 else ''}."

    def doubt(self, outputs: np.ndarray, targets: np.ndarray) -> str | None:
        accuracy, majority = (self.predictions(outputs) == targets).mean(), np.bincount(targets).max() / len(targets)
        if accuracy >= majority:
            return None
        return (
            f"its accuracy on the validation rows is {accuracy:.3f}, below that of always predicting the most frequent label "
            f"({majority:.3f}). Is it fine-tuned on this task, with the labels {', '.join(self.names)} in this order?"
        )
