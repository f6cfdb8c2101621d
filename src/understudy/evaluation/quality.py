"""How good the predictions are, with 95 % intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.tasks.base import check_rows, equal

if TYPE_CHECKING:
    from understudy.tasks import Metric, Task

    Metrics = dict[str, np.ndarray]  # name → one value a redraw

_BLOCK_CELLS = 4_000_000  # 32 MiB of weights at a time
Z95 = 1.959963984540054  # the normal deviate of 95 %
_ROUNDING = 1e-12


def quality(task: Task, outputs: np.ndarray, targets: np.ndarray, *, seed: int = 0, resamples: int = 1000) -> dict[str, dict[str, Any]]:
    """Every metric of the task over all rows, with its 95 % interval, in the metric's own unit.

    The interval shows how far another draw of test rows could move the value, not how far another training seed could. Of a fraction of
    rows (accuracy) it is Wilson's, of every other metric the percentile bootstrap over rows; where no redraw differs, as at a perfect
    score, `unseen` widens this interval. For the difference of two models on the same rows take `significance.gain`: two intervals that
    overlap show little.

    Args:
        outputs: of the model, (rows, …).
        targets: (rows, …).
        resamples: redraws of the rows.

    Raises:
        DataError: no rows, or not as many targets as outputs.
        ModelError: outputs that are not finite numbers.

    Source: Wilson 1927, JASA 22; Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    check_rows(targets, outputs)
    (drawn,) = redraws(task, targets, outputs, seed=seed, resamples=resamples)
    measured = {}
    for name, value in task.measure(outputs, targets).items():
        metric = task.metric(name)
        if metric.counts_rows:
            interval = wilson_interval(round(value * len(targets)), len(targets))
        else:
            interval95 = np.nanpercentile(drawn[name], [2.5, 97.5]).tolist()
            interval = with_width(metric, value, interval95, metric.bounds, task, targets, outputs)
        measured[name] = {"value": value, "ci95": interval}
    return measured


def wilson_interval(right: int, rows: int) -> list[float]:
    """Wilson's 95 % score interval of a share, as `[low, high]`; it has a width at 0 and at 1, too.

    >>> [round(end, 3) for end in wilson_interval(20, 20)]
    [0.839, 1.0]
    """
    from scipy.stats import binomtest

    ends = binomtest(right, rows).proportion_ci(0.95, method="wilson")
    return [min(float(ends.low), right / rows), max(float(ends.high), right / rows)]


def with_width(
    metric: Metric, value: float, interval: list[float], bounds: tuple[float, float], task: Task, targets: np.ndarray, *outputs: np.ndarray
) -> list[float]:
    """A bootstrap interval within bounds that holds the value and is no point: where no redraw differs, `unseen` widens it."""
    low, high = interval
    if max(high, value) - min(low, value) <= _ROUNDING:
        width = max(unseen(metric, task, targets, model_outputs) for model_outputs in outputs)
        low, high = value - width, value + width
    return [min(max(low, bounds[0]), value), max(min(high, bounds[1]), value)]


def unseen(metric: Metric, task: Task, targets: np.ndarray, outputs: np.ndarray) -> float:
    """How far a metric could lie from its value if rows of a kind that is not among these had their largest share (`unseen_share`).

    That share of every row gets other predictions, evenly over the task's `alternatives`. The least is the share itself, by which accuracy
    moves; F1 of a class of few rows moves by more.
    """
    share = unseen_share(len(targets))
    rows, counts = task.distinct(targets, outputs)
    alternatives = task.alternatives(outputs, targets)
    row, alternative = np.repeat(rows, len(alternatives)), np.tile(np.arange(len(alternatives)), len(rows))
    changed = ~equal(task.predictions(outputs[row]), task.predictions(alternatives[alternative]))
    weights = share * (np.repeat(counts, len(alternatives)) / (len(alternatives) - 1)) * changed
    moved = task.redrawn(
        np.concatenate([outputs[rows], alternatives[alternative]]),
        np.concatenate([targets[rows], targets[row]]),
        np.concatenate([(1 - share) * counts, weights])[None],
    )
    value = task.measure(outputs, targets)[metric.name]
    least = share * metric.scale(value)
    return max(least, abs(float(moved[metric.name][0]) - value)) if metric.name in moved else least


def unseen_share(rows: int) -> float:
    """The largest share, at 95 %, of a kind of row of which there is none among `rows`: z² / (rows + z²), by Wilson's interval."""
    return Z95**2 / (rows + Z95**2)


def redraws(task: Task, targets: np.ndarray, *outputs: np.ndarray, seed: int = 0, resamples: int = 1000) -> list[Metrics]:
    """Every metric on bootstrap redraws of the rows, of one or several models: the same rows are drawn for all of them.

    Rows that are alike are interchangeable, so a redraw is a multinomial count of each distinct row, and metrics are computed from these
    counts for all redraws at once.

    Returns:
        for each model, metric name → (resamples,).
    """
    rows, counts = task.distinct(targets, *outputs)
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // len(rows))
    by_model: list[list[Metrics]] = [[] for _ in outputs]
    for start in range(0, resamples, block):
        drawn = random.multinomial(len(targets), counts / len(targets), size=min(block, resamples - start))
        for model, model_outputs in zip(by_model, outputs, strict=True):
            model.append(task.redrawn(model_outputs[rows], targets[rows], drawn.astype(float)))
    return [{name: np.concatenate([part[name] for part in model]) for name in model[0]} for model in by_model]
