"""A number for a row: how alike two texts are, or any score of one text."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from understudy.tasks.base import NOTHING, TEXTS, Answer, Column, Fitted, Metric, Task, ratio, schema_of


class Similarity(Task):
    """Regression on a pair of texts, or on one text. Metrics as of scipy.

    They are 0 where a constant makes them undefined.
    """

    columns = (*TEXTS, Column("label", "number"))
    problem_type = "regression"
    reads_output = "logits[0]"
    metrics = (
        Metric("pearson", "Pearson correlation", least=-1.0, hub="pearsonr"),
        Metric("spearman", "Spearman correlation", least=-1.0, hub="spearmanr"),
    )
    example: ClassVar[dict[str, Any]] = {"text": "A man is playing a guitar.", "text_pair": "A man plays the guitar.", "label": 4.8}

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0]

    def alike(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.column_stack([targets, self.predictions(outputs)])

    def alternatives(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.quantile(outputs, np.linspace(0, 1, 11), axis=0)

    def statistics(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """1, the label, the prediction, their squares and their product, both standardised: then squares lose no digits."""
        return np.stack(_moments(_standardised(targets), _standardised(self.predictions(outputs))), axis=1)

    def measured(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        return {"pearson": _correlation(*totals.T)}

    def redrawn(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Spearman is Pearson of ranks, and a row's rank depends on the other rows of the draw."""
        ranks = (_ranks(one, weights) for one in (targets, self.predictions(outputs)))
        totals = [(weights * part).sum(axis=1) for part in _moments(*ranks)]
        return super().redrawn(outputs, targets, weights) | {"spearman": _correlation(*totals)}

    def answers(self, outputs: np.ndarray, fitted: Fitted = NOTHING, *, brief: bool = False) -> list[Answer]:
        return [{"value": value} for value in self.predictions(outputs).tolist()]

    def answer_schema(self) -> dict[str, Any]:
        return schema_of({"value": {"type": "number"}})

    def label(self, target: Any) -> float:
        return float(target)

    def does(self, reads: str) -> str:
        return f"Predicts a number for {reads}."

    def doubt(self, outputs: np.ndarray, targets: np.ndarray) -> str | None:
        pearson = self.agreement(outputs, targets[:, None])
        said = f"its Pearson correlation on the validation rows is {pearson:.3f}; it was not trained for this task"
        return said if pearson <= 0 else None


def _standardised(values: np.ndarray) -> np.ndarray:
    values = values.astype(float)
    return (values - values.mean()) / (values.std() or 1.0)


def _moments(left: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    return [np.ones_like(left), left, right, left * left, right * right, left * right]


def _correlation(
    rows: np.ndarray, left: np.ndarray, right: np.ndarray, left_squares: np.ndarray, right_squares: np.ndarray, products: np.ndarray
) -> np.ndarray:
    """Pearson's, of sums over rows; 0 where a side is constant, which leaves rounding dust instead of zero."""
    left_spread, right_spread = left_squares - left**2 / rows, right_squares - right**2 / rows
    varies = (left_spread > 1e-12 * left_squares) & (right_spread > 1e-12 * right_squares)
    correlation = ratio(products - left * right / rows, np.sqrt(np.where(varies, left_spread * right_spread, 0.0)))
    return np.clip(correlation, -1.0, 1.0)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean ranks of the values within each redraw: (draws, rows). Ties share the middle of their ranks."""
    order = np.argsort(values, kind="stable")
    _, first, inverse = np.unique(values[order], return_index=True, return_inverse=True)
    size = np.add.reduceat(weights[:, order], first, axis=1)
    middle = np.cumsum(size, axis=1) - (size - 1) / 2
    ranks = np.empty((len(weights), len(values)))
    ranks[:, order] = middle[:, inverse]
    return ranks
