"""Whether one model is better than another, or only lucky on these rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.errors import DataError, did_you_mean
from understudy.evaluate.quality import check_rows, resampled_metrics

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

    The interval is that of the test: it leaves out 0 exactly when p < 0.05. For accuracy the test is McNemar's exact one, and the 95 %
    interval holds all differences that this test would not reject, given the number of rows on which just one model is right
    (`paired_interval`). For every other metric both come from one bootstrap over rows, each row drawn with both its predictions: p is
    twice the smaller share of redraws on either side of zero, the interval is cut off where p reaches 0.05. Both are about other test
    rows, not about other training seeds.

    Args:
        metric: a name of `task.metric_names`.
        predictions: of the model, (rows,), as `task.predictions` gives them.
        other_predictions: of the model it is compared with.
        labels: (rows,).

    Raises:
        DataError: a metric that the task does not have for these labels, or arrays that are not of the same rows.

    Source: McNemar 1947; Clopper and Pearson 1934; Efron and Tibshirani 1993, chapter 16; Dror et al. 2018 (ACL), The Hitchhiker's Guide to
    Testing Statistical Significance in NLP.
    """
    check_rows(labels, predictions, other_predictions)
    ours, others = task.metrics(predictions, labels), task.metrics(other_predictions, labels)
    if metric not in ours or metric not in others:
        known = [name for name in ours if name in others]
        raise DataError(f"metric '{metric}' cannot be computed for these rows; {did_you_mean(metric, known)}")
    if metric == "accuracy":
        right, other_right = predictions == labels, other_predictions == labels
        only = int((right & ~other_right).sum()), int((other_right & ~right).sum())
        p_value, interval = mcnemar_p_value(*only), paired_interval(*only, len(labels))
    else:
        drawn, drawn_other = resampled_metrics(
            task, labels, predictions, other_predictions, seed=seed, resamples=resamples
        )
        p_value, interval = bootstrap_test(drawn[metric] - drawn_other[metric])
    return {
        "value": ours[metric] - others[metric],
        "ci95": interval,
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


def paired_interval(only_first_right: int, only_second_right: int, rows: int) -> list[float]:
    """The 95 % interval of accuracy(first) − accuracy(second) that belongs to McNemar's exact test, as `[low, high]`.

    Given n rows on which just one model is right, their number for the first is Binomial(n, q), and the difference is (2q − 1) · n / rows;
    q has the exact (Clopper–Pearson) interval. It leaves out 0, which is q = 1/2, exactly when the test gives p < 0.05. As the test
    does, it takes n as given.

    >>> [round(end, 4) for end in paired_interval(6, 0, 10)]  # q in [0.025^(1/6), 1] = [0.5407, 1]
    [0.0489, 0.6]

    Source: Clopper and Pearson 1934, Biometrika 26.
    """
    from scipy.stats import binomtest

    discordant = only_first_right + only_second_right
    if not discordant:
        return [0.0, 0.0]
    ends = binomtest(only_first_right, discordant, 0.5).proportion_ci(0.95, method="exact")
    return [float((2 * end - 1) * discordant / rows) for end in (ends.low, ends.high)]


def bootstrap_test(differences: np.ndarray) -> tuple[float, list[float]]:
    """The two-sided p-value of redrawn differences, and their 95 % interval, which leaves out 0 exactly when p < 0.05.

    p = 2 · (k + 1) / (B + 1), with k the number of redraws on the rarer side of zero, those at zero counted on both; one is added so that
    no finite number of redraws claims certainty. The ends of the interval are the redraws beyond which just as many lie as p < 0.05
    allows; redraws in which the metric is undefined are left out.

    >>> bootstrap_test(np.arange(1, 2001) - 49.5)  # 49 of 2,000 redraws are below 0, and 50 would be too many
    (0.0499..., [0.5, 1901.5])
    """
    ordered = np.sort(differences[np.isfinite(differences)])
    count = len(ordered)
    if not count:
        return 1.0, [0.0, 0.0]
    rarer = int(min((ordered <= 0).sum(), (ordered >= 0).sum()))
    beyond = -(-(count + 1) // 40) - 2  # the largest k with 2 · (k + 1) / (B + 1) < 0.05
    if beyond < 0:  # so few redraws show nothing
        return min(1.0, 2 * (rarer + 1) / (count + 1)), [min(0.0, float(ordered[0])), max(0.0, float(ordered[-1]))]
    return min(1.0, 2 * (rarer + 1) / (count + 1)), [float(ordered[beyond]), float(ordered[count - 1 - beyond])]
