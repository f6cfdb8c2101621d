"""The course of a training, from its validation values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from understudy.tasks import Metric

RISE = 0.01  # of the validation metric (for a number, of its value): the least rise that counts as still getting better
# Rows that a rise must amount to: a gain of k rows has a standard error of at least √k rows, so fewer than 4 are less than two of it.
LEAST_ROWS = 4


def is_rising(curve: Sequence[float], rows: int, metric: Metric) -> bool:
    """Whether the validation metric was still getting better at the end.

    The last value must be the best, and exceed all values of the first two thirds by one point and by four validation rows.

    Args:
        curve: values of the metric, in the order of the updates.
        rows: number of validation rows.

    >>> curves = [[0.5, 0.7, 0.8, 0.85, 0.88, 0.9], [0.5, 0.8, 0.9, 0.905, 0.9, 0.905], [0.5]]
    >>> [is_rising(curve, 400, Metric("f1", "F1")) for curve in curves]
    [True, False, False]
    >>> is_rising([0.8, 0.945, 0.956], 91, Metric("f1", "F1"))  # one row
    False
    >>> is_rising([40.0, 31.0, 25.0], 400, Metric("perplexity", "perplexity", "lower", "number"))
    True
    """
    curve, enough = list(map(metric.signed, curve)), max(RISE, LEAST_ROWS / rows) * metric.scale(curve[-1])
    earlier = curve[: len(curve) * 2 // 3]
    return bool(earlier) and curve[-1] == max(curve) and curve[-1] - max(earlier) > enough - 1e-9


def trainings(
    lines: Iterable[Mapping[str, Any]], metric: Metric, *, rows: int, least: Mapping[str, int | None]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Model → stage → the course of its training: updates made, best validation value and its update, whether it still rose.

    Args:
        lines: of `metrics.jsonl`; of a step that is repeated after a resume, the last line is taken.
        metric: that selects; for a stage that was not measured by it only the updates are given.
        rows: number of validation rows.
        least: stage → the fewest updates that its kind of model needs; given beside those made.

    >>> curve = [{"model": "student", "stage": "distillation", "step": step, "validation": {"accuracy": step / 10}} for step in (3, 6, 9)]
    >>> trainings(curve, Metric("accuracy", "accuracy"), rows=100, least={"distillation": 300})
    {'student': {'distillation': {'steps': 9, 'least': 300, 'best': 0.9, 'best_step': 9, 'rising': True}}}
    """
    steps: dict[tuple[str, str], int] = {}
    curves: dict[tuple[str, str], dict[int, float]] = {}
    for line in lines:
        place = (line["model"], line["stage"])
        steps[place] = max(steps.get(place, 0), line["step"])
        if metric.name in line.get("validation", ()):
            curves.setdefault(place, {})[line["step"]] = line["validation"][metric.name]
    summaries: dict[str, dict[str, dict[str, Any]]] = {}
    for (model, stage), last in steps.items():
        curve = dict(sorted(curves.get((model, stage), {}).items()))
        best = {}
        if curve:
            step = max(curve, key=lambda step: metric.signed(curve[step]))
            best = {"best": curve[step], "best_step": step, "rising": is_rising([*curve.values()], rows, metric)}
        needed = {"least": least[stage]} if least.get(stage) else {}
        summaries.setdefault(model, {})[stage] = {"steps": last, **needed, **best}
    return summaries
