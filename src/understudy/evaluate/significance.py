"""Whether one model is better than another, or only lucky on these rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.errors import DataError, did_you_mean
from understudy.evaluate.quality import check_rows, interval95, resampled_metrics

if TYPE_CHECKING:
    from understudy.tasks import Task


def gain(
    task: Task,
    metric: str,
    predictions: np.ndarray,
    other_predictions: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:
    """By how much a model beats another on the same rows: metric(model) − metric(other), with a paired two-sided test.

    The 95 % interval is a bootstrap over rows, each row drawn with both its predictions. The p-value is McNemar's exact
    test for accuracy, and for every other metric twice the smaller share of redraws on either side of zero. Both speak
    of other test rows, not of other training seeds.

    Args:
        metric: a name of `task.metric_names`.
        predictions: of the model, (rows,), as `task.predictions` gives them.
        other_predictions: of the model it is compared with.
        labels: (rows,).

    Raises:
        DataError: a metric that the task does not have for these labels, or arrays that are not of the same rows.

    Source: McNemar 1947; Efron and Tibshirani 1993, chapter 16; Dror et al. 2018 (ACL), The Hitchhiker's Guide to
    Testing Statistical Significance in NLP.
    """
    check_rows(labels, predictions, other_predictions)
    ours, others = task.metrics(predictions, labels), task.metrics(other_predictions, labels)
    if metric not in ours or metric not in others:
        known = [name for name in ours if name in others]
        raise DataError(f"metric '{metric}' cannot be computed for these rows; {did_you_mean(metric, known)}")
    drawn, drawn_other = resampled_metrics(task, labels, predictions, other_predictions, seed=seed, resamples=resamples)
    differences = drawn[metric] - drawn_other[metric]
    if metric == "accuracy":
        right, other_right = predictions == labels, other_predictions == labels
        p_value = mcnemar_p_value(int((right & ~other_right).sum()), int((other_right & ~right).sum()))
    else:
        # One is added on both sides, so that no finite number of redraws claims certainty.
        one_side = min((differences <= 0).sum(), (differences >= 0).sum()) + 1
        p_value = min(1.0, float(2 * one_side / (len(differences) + 1)))
    return {
        "value": ours[metric] - others[metric],
        "ci95": interval95(differences),
        "p_value": p_value,
        "test": "McNemar exact" if metric == "accuracy" else "paired bootstrap",
    }


def mcnemar_p_value(only_first_right: int, only_second_right: int) -> float:
    """Two-sided exact p-value that two classifiers are equally often right, from the rows where just one of them is.

    p = P(|X − n/2| ≥ |only_first_right − n/2|) for X ~ Binomial(n, 1/2) and n = both counts together; 1 when n is 0.

    >>> mcnemar_p_value(1, 5)  # 2 · (C(6,0) + C(6,1)) / 2⁶
    0.21875

    Source: McNemar 1947, Psychometrika 12.
    """
    from scipy.stats import binomtest

    discordant = only_first_right + only_second_right
    return float(binomtest(only_first_right, discordant, 0.5).pvalue) if discordant else 1.0
