"""How good the predictions are, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.errors import DataError, ModelError

if TYPE_CHECKING:
    from understudy.tasks import Task

    Metrics = dict[str, np.ndarray]
    # (labels, predictions, weights of shape (resamples, distinct rows)) → one value a resample of every metric
    WeightedMetrics = Callable[[np.ndarray, np.ndarray, np.ndarray], Metrics]

_BLOCK_CELLS = 4_000_000  # 32 MiB of weights at a time
Z95 = 1.959963984540054  # the normal deviate of 95 %
_ROUNDING = 1e-12
_BELOW_ZERO = ("matthews", "pearson", "spearman")
_SLOW_RESAMPLES = 200  # for metrics that must be called row set by row set


def quality(
    task: Task, logits: np.ndarray, labels: np.ndarray, *, seed: int = 0, resamples: int = 1000
) -> dict[str, dict[str, Any]]:
    """Every metric of the task over all rows, with its 95 % interval, in the metric's own unit (1.0 is perfect).

    The interval tells how far another draw of test rows could move the value, not how far another training seed could. Of accuracy it is
    Wilson's, of every other metric the percentile bootstrap over rows; where no redraw differs, as at a perfect score, that one is
    widened by `unseen`. For the difference of two models on the same rows take `significance.gain`: two intervals that overlap say little.

    Args:
        logits: (rows, outputs).
        labels: (rows,).
        resamples: redraws of the rows; tasks with metrics of their own kind are resampled at most 200 times.

    Raises:
        DataError: no rows, or not as many labels as logits.
        ModelError: logits that are not finite numbers.

    Source: Wilson 1927, JASA 22; Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    check_rows(labels, logits)
    predictions = task.predictions(logits)
    values = task.metrics(predictions, labels)
    (drawn,) = resampled_metrics(task, labels, predictions, seed=seed, resamples=resamples)
    found = {}
    for name, value in values.items():
        if name == "accuracy":
            interval = wilson_interval(int((predictions == labels).sum()), len(labels))
        else:
            least, most = bounds(name)
            drawn95 = interval95(drawn[name])
            interval = with_width(name, value, drawn95, task, labels, predictions, least=least, most=most)
        found[name] = {"value": value, "ci95": interval}
    return found


def wilson_interval(right: int, rows: int) -> list[float]:
    """Wilson's 95 % score interval of a share, as `[low, high]`; it has a width at 0 and at 1, too.

    >>> [round(end, 3) for end in wilson_interval(20, 20)]
    [0.839, 1.0]
    """
    from scipy.stats import binomtest

    ends = binomtest(right, rows).proportion_ci(0.95, method="wilson")
    return [min(float(ends.low), right / rows), max(float(ends.high), right / rows)]


def with_width(
    name: str, value: float, interval: list[float], task: Task, labels: np.ndarray, *predictions: np.ndarray, least: float, most: float
) -> list[float]:  # fmt: skip
    """A bootstrap interval within bounds that holds the value and is no point: where no redraw differs, `unseen` widens it."""
    low, high = interval
    if max(high, value) - min(low, value) <= _ROUNDING:
        width = max(unseen(name, task, labels, one) for one in predictions)
        low, high = value - width, value + width
    return [min(max(low, least), value), max(min(high, most), value)]


def bounds(name: str) -> tuple[float, float]:
    """The lowest and the highest value that a metric can have."""
    return (-1.0 if name in _BELOW_ZERO else 0.0), 1.0


def unseen(name: str, task: Task, labels: np.ndarray, predictions: np.ndarray) -> float:
    """How far a metric could lie from its value if rows of a kind that is not among these had their largest share (`unseen_share`).

    That share of every row gets other predictions, evenly over those that occur. The least is the share itself, by which accuracy moves;
    F1 of a class of few rows moves by more.
    """
    share, measure = unseen_share(len(labels)), _weighted_metrics(task)
    if measure not in (_class_metrics, _correlations):
        return share
    pairs, counts = np.unique(np.column_stack([labels, predictions]), axis=0, return_counts=True)
    values = np.unique(pairs) if task.label_type == "class" else np.quantile(predictions, np.linspace(0, 1, 11))
    if len(values) < 2:
        values = np.append(values, values[-1] + 1)
    label, kept = np.repeat(pairs, len(values), axis=0).T
    shown, rows = np.tile(values, len(pairs)), np.repeat(counts, len(values)) / (len(values) - 1)
    weights = np.concatenate([(1 - share) * counts, share * rows * (shown != kept)])
    moved = measure(np.append(pairs[:, 0], label), np.append(pairs[:, 1], shown), weights[None])
    return max(share, abs(float(moved[name][0]) - task.metrics(predictions, labels)[name])) if name in moved else share


def unseen_share(rows: int) -> float:
    """The largest share, at 95 %, of a kind of row of which there is none among `rows`: z² / (rows + z²), by Wilson's interval."""
    return Z95**2 / (rows + Z95**2)


def resampled_metrics(
    task: Task, labels: np.ndarray, *predictions: np.ndarray, seed: int = 0, resamples: int = 1000
) -> list[Metrics]:
    """Every metric on bootstrap redraws of the rows, of one or several models: the same rows are drawn for all of them.

    Equal rows are interchangeable, so a redraw is a multinomial count of each distinct (label, predictions) row, and
    metrics are computed from these counts for all redraws at once.

    Returns:
        for each model, metric name → (resamples,).
    """
    distinct, counts = np.unique(np.column_stack([labels, *predictions]), axis=0, return_counts=True)
    measure = _weighted_metrics(task)
    resamples = resamples if measure in (_class_metrics, _correlations) else min(resamples, _SLOW_RESAMPLES)
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // len(distinct))
    found: list[list[Metrics]] = [[] for _ in predictions]
    for start in range(0, resamples, block):
        weights = random.multinomial(len(labels), counts / len(labels), size=min(block, resamples - start))
        for model, column in zip(found, distinct.T[1:], strict=True):
            model.append(measure(distinct[:, 0], column, weights.astype(float)))
    return [{name: np.concatenate([part[name] for part in model]) for name in model[0]} for model in found]


def interval95(drawn: np.ndarray) -> list[float]:
    """The 2.5 % and 97.5 % percentiles, as `[low, high]`."""
    return [float(bound) for bound in np.nanpercentile(drawn, [2.5, 97.5])]


def check_rows(labels: np.ndarray, *logits: np.ndarray) -> None:
    """Refuse what cannot be measured.

    Raises:
        DataError: no rows, or not as many labels as outputs.
        ModelError: outputs that are not finite numbers.
    """
    if not len(labels):
        raise DataError("no rows to measure on; give a file with at least one labelled row")
    for outputs in logits:
        if len(outputs) != len(labels):
            raise DataError(f"{len(outputs)} model outputs for {len(labels)} labels; both must be of the same rows")
        if not np.isfinite(outputs).all():
            row = int(np.argwhere(~np.isfinite(outputs))[0][0]) + 1
            raise ModelError(f"output for row {row} is not a finite number; the model is damaged or diverged")


def _weighted_metrics(task: Task) -> WeightedMetrics:
    """How to compute a task's metrics on redraws: all at once where the metrics are known here, else one by one."""
    names = set(task.metric_names)
    averages = {f"{average}_{name}" for average in ("macro", "weighted") for name in ("precision", "recall", "f1")}
    if task.label_type == "class" and names <= averages | {"accuracy", "matthews", "f1"}:
        return _class_metrics
    if task.label_type == "number" and names <= {"pearson", "spearman"}:
        return _correlations

    def one_by_one(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> Metrics:
        redraws = [np.repeat(np.arange(len(labels)), row.astype(int)) for row in weights]
        values = [task.metrics(predictions[rows], labels[rows]) for rows in redraws]
        return {name: np.array([value.get(name, np.nan) for value in values]) for name in task.metric_names}

    return one_by_one


def _class_metrics(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> Metrics:
    """The metrics of `tasks.classification`, in its conventions, for all redraws at once."""
    classes = np.union1d(labels, predictions)
    is_label, is_predicted = labels[:, None] == classes, predictions[:, None] == classes
    support, predicted, hits = (weights @ one_hot for one_hot in (is_label, is_predicted, is_label & is_predicted))
    rows = support.sum(axis=1)
    scores = {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
    }
    found = {"accuracy": hits.sum(axis=1) / rows}
    for name, score in scores.items():
        # A class that a redraw's labels lack has no hits, so it adds nothing to the sum and must not count in the mean.
        found[f"macro_{name}"] = score.sum(axis=1) / (support > 0).sum(axis=1)
        found[f"weighted_{name}"] = (score * support).sum(axis=1) / rows
    covariance = hits.sum(axis=1) * rows - (support * predicted).sum(axis=1)
    spread = (rows**2 - (support**2).sum(axis=1)) * (rows**2 - (predicted**2).sum(axis=1))
    one_class_and_right = ((support > 0).sum(axis=1) == 1) & (hits.sum(axis=1) == rows)
    found["matthews"] = np.where(one_class_and_right, 1.0, _ratio(covariance, np.sqrt(spread)))
    if set(classes.tolist()) <= {0, 1}:
        one = classes == 1
        asked = (support + predicted)[:, one].sum(axis=1)
        found["f1"] = np.where(asked == 0, 1.0, _ratio(2 * hits[:, one].sum(axis=1), asked))
    return found


def _correlations(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> Metrics:
    """Pearson and Spearman for all redraws at once; 0 where a constant makes them undefined."""
    return {
        "pearson": _correlation(_standardised(labels)[None], _standardised(predictions)[None], weights),
        "spearman": _correlation(_ranks(labels, weights), _ranks(predictions, weights), weights),
    }


def _correlation(left: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    rows = weights.sum(axis=1, keepdims=True)
    left = left - (weights * left).sum(axis=1, keepdims=True) / rows
    right = right - (weights * right).sum(axis=1, keepdims=True) / rows
    covariance, left_square, right_square = (
        (weights * product).sum(axis=1) for product in (left * right, left**2, right**2)
    )
    varies = np.minimum(left_square, right_square) > 1e-12  # a constant leaves rounding dust instead of zero
    return np.where(varies, _ratio(covariance, np.sqrt(left_square * right_square)), 0.0)


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() or 1.0)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean ranks of the values within each redraw: (resamples, distinct rows). Ties share the middle of their ranks."""
    order = np.argsort(values, kind="stable")
    _, first, inverse = np.unique(values[order], return_index=True, return_inverse=True)
    size = np.add.reduceat(weights[:, order], first, axis=1)
    middle = np.cumsum(size, axis=1) - (size - 1) / 2
    ranks = np.empty((len(weights), len(values)))
    ranks[:, order] = middle[:, inverse]
    return ranks


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, and 0 where below is 0."""
    return np.divide(above, below, out=np.zeros_like(above, dtype=float), where=below > 0)
