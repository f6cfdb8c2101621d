"""Several labels a row, or none: each is decided by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from understudy.tasks.base import NOTHING, TEXTS, Answer, Column, Fitted, Metric, Task, ratio, schema_of

if TYPE_CHECKING:
    from torch import Tensor

_FARTHEST = 20.0  # of a threshold from 0, as a logit: beyond it a probability is 0 or 1 to the last digit
_EQUAL = 1e-4  # outputs nearer than this are one: another order of words, or an export, moves them by as much
_CHANCE = 0.55  # of the area under the ROC curve: a model that ranks no better than this has not learned the labels


class Multilabel(Task):
    """Several labels a row, or none; the text may be a pair. Metrics as of scikit-learn.

    An output is a logit: its sigmoid is the probability of the label. A label is given where that is above its threshold, which is 1/2
    until validation rows say better: then it is where F1 of the label is best. Macro averages are over the labels that the rows have.
    """

    columns = (*TEXTS, Column("labels", "classes"))
    problem_type = "multi_label_classification"
    reads_output = (
        '[name for name, logit, least in zip(about["labels"], logits, about.get("fitted", {}).get("thresholds", [0.5] * len(logits)))'
        " if 1 / (1 + numpy.exp(-logit)) > least]"
    )
    metrics = (
        Metric("macro_f1", "macro F1", hub="f1"),
        Metric("micro_f1", "micro F1", hub="f1"),
        Metric("accuracy", "exact-match accuracy", counts_rows=True),
    )
    example: ClassVar[dict[str, Any]] = {"text": "Thank you so much, that made my day!", "labels": ["gratitude", "joy"]}

    def logits(self, outputs: Tensor) -> Tensor:
        """Of every label "does not hold" and "holds", so that the softmax is the sigmoid: (rows, labels, 2)."""
        import torch

        return torch.stack([torch.zeros_like(outputs), outputs], dim=-1)

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        return (outputs > 0).astype(np.int64)

    def fit(self, outputs: np.ndarray, targets: np.ndarray) -> Fitted:
        """`thresholds`: of each label the probability above which it is given, such that its F1 on these rows is highest."""
        found = [_best_threshold(*label) for label in zip(outputs.T.astype(np.float64), targets.T == 1, strict=True)]
        return {"thresholds": _sigmoid(np.array(found)).tolist()}

    def decided(self, outputs: np.ndarray, fitted: Fitted) -> np.ndarray:
        if "thresholds" not in fitted:
            return outputs
        thresholds = np.array(fitted["thresholds"])
        return outputs - np.log(thresholds / (1 - thresholds))

    def alike(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.packbits(np.concatenate([targets == 1, outputs > 0], axis=1), axis=1)

    def statistics(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """1; are all labels right; of each label: does it hold, is it given, is it both."""
        holds, given = targets == 1, outputs > 0
        right = (holds == given).all(axis=1, keepdims=True)
        return np.concatenate([np.ones_like(right), right, holds, given, holds & given], axis=1)

    def measured(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        rows, right = totals[:, 0], totals[:, 1]
        support, given, hits = np.split(totals[:, 2:], 3, axis=1)
        # A label that no row has adds nothing to the sum, and must not count in the mean.
        macro = ratio(ratio(2 * hits, support + given).sum(axis=1), (support > 0).sum(axis=1))
        micro = ratio(2 * hits.sum(axis=1), (support + given).sum(axis=1))
        return {"macro_f1": macro, "micro_f1": micro, "accuracy": right / rows}

    def per_class(self, outputs: np.ndarray, targets: np.ndarray) -> list[dict[str, Any]]:
        support, given, hits = np.split(self.statistics(outputs, targets).sum(axis=0)[2:], 3)
        columns = ratio(hits, given), ratio(hits, support), ratio(2 * hits, support + given)
        rows = zip(self.names, *(one.tolist() for one in columns), support.tolist(), strict=True)
        return [dict(zip(("label", "precision", "recall", "f1", "support"), row, strict=True)) for row in rows]

    def answers(self, outputs: np.ndarray, fitted: Fitted = NOTHING, *, brief: bool = False) -> list[Answer]:
        """The labels that hold, in the order of the outputs, and the probabilities of all."""
        answers: list[Answer] = [{"labels": self.label(row)} for row in self.predictions(self.decided(outputs, fitted))]
        if not brief:
            for answer, row in zip(answers, _sigmoid(outputs).tolist(), strict=True):
                answer["probabilities"] = dict(zip(self.names, row, strict=True))
        return answers

    def answer_schema(self) -> dict[str, Any]:
        share = {"type": "number", "minimum": 0, "maximum": 1}
        labels = {"type": "array", "items": {"type": "string", "enum": list(self.names)}}
        return schema_of({"labels": labels, "probabilities": schema_of(dict.fromkeys(self.names, share))})

    def label(self, target: Any) -> list[str]:
        return [name for name, holds in zip(self.names, target, strict=True) if holds]

    def does(self, reads: str) -> str:
        names = ", ".join(f"`{name}`" for name in self.names[:20])
        more = ", …" if len(self.names) > 20 else ""
        return f"Finds which of {len(self.names)} labels hold for {reads}, any number of them: {names}{more}."

    def doubt(self, outputs: np.ndarray, targets: np.ndarray) -> str | None:
        areas = [_area(*label) for label in zip(outputs.T, targets.T == 1, strict=True) if 0 < label[1].sum() < len(outputs)]
        if not areas or np.mean(areas) >= _CHANCE:
            return None
        return (
            f"on the validation rows its outputs hardly tell rows with a label from rows without (area under the ROC curve "
            f"{np.mean(areas):.3f} on average; 0.5 is chance). Is it fine-tuned on this task, with the labels {', '.join(self.names)} in "
            "this order?"
        )


def _sigmoid(outputs: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -outputs.astype(np.float64)))


def _best_threshold(outputs: np.ndarray, holds: np.ndarray) -> float:
    """The logit above which to give a label so that its F1 is best, midway between two rows; 0 where no row has the label."""
    if not holds.any():
        return 0.0
    order = np.argsort(-outputs, kind="stable")
    ordered, hits = outputs[order], np.cumsum(holds[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + hits[-1])
    f1[:-1][ordered[:-1] - ordered[1:] < _EQUAL] = -1.0  # such rows are given the label together
    last = int(f1.argmax())
    below = ordered[last + 1] if last + 1 < len(order) else ordered[last] - 2.0
    return float(np.clip((ordered[last] + below) / 2, -_FARTHEST, _FARTHEST))


def _area(outputs: np.ndarray, holds: np.ndarray) -> float:
    """Under the ROC curve: how often a row with the label has a higher output than one without."""
    from scipy.stats import rankdata

    positives = int(holds.sum())
    above = rankdata(outputs)[holds].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(holds) - positives)))
