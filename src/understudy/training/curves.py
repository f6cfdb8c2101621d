"""What the values of validation tell of a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from understudy.tasks import Metric

RISE = 0.01  # of the validation metric (of a number: of its value): what counts as still getting better
# Rows that a rise must be: the standard error of a gain of k rows is √k rows or more, so fewer are never two of it.
LEAST_ROWS = 4


def is_rising(curve: Sequence[float], rows: int, metric: Metric) -> bool:
    """Whether validation was still getting better at the end.

    The last value must be the best, by a point and by four of the validation rows over all of the first two thirds.

    >>> curves = [[0.5, 0.7, 0.8, 0.85, 0.88, 0.9], [0.5, 0.8, 0.9, 0.905, 0.9, 0.905], [0.5]]
    >>> [is_rising(curve, 400, Metric("f1", "F1")) for curve in curves]
    [True, False, False]
    >>> is_rising([0.8, 0.945, 0.956], 91, Metric("f1", "F1"))  # one row
    False
    >>> is_rising([40.0, 31.0, 25.0], 400, Metric("perplexity", "perplexity", "lower", "number"))
    True
    """
    curve, enough = list(map(metric.signed, curve)), max(RISE, LEAST_ROWS / rows) * metric.scale(curve[-1])
    before = curve[: len(curve) * 2 // 3]
    return bool(before) and curve[-1] == max(curve) and curve[-1] - max(before) > enough - 1e-9


def trainings(
    lines: Iterable[Mapping[str, Any]], metric: Metric, *, rows: int, least: Mapping[str, int | None]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Model → stage → how its training went: updates made, the best value of validation and its update, whether it still rose.

    Args:
        lines: of `metrics.jsonl`; a step that is there again, after a resume, counts as it was last.
        metric: that selected; a stage that was not measured by it has its updates only.
        rows: of validation.
        least: stage → the fewest updates that its kind of model needs, which stands beside those made.

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
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (model, stage), last in steps.items():
        curve = dict(sorted(curves.get((model, stage), {}).items()))
        best = {}
        if curve:
            step = max(curve, key=lambda step: metric.signed(curve[step]))
            best = {"best": curve[step], "best_step": step, "rising": is_rising([*curve.values()], rows, metric)}
        needed = {"least": least[stage]} if least.get(stage) else {}
        found.setdefault(model, {})[stage] = {"steps": last, **needed, **best}
    return found
