"""What the values of validation tell of a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RISE = 0.01  # of the validation metric: what counts as still getting better


def is_rising(curve: Sequence[float]) -> bool:
    """Whether validation was still getting better at the end: the last value is the best, by a point over all of the first two thirds.

    >>> is_rising([0.5, 0.7, 0.8, 0.85, 0.88, 0.9]), is_rising([0.5, 0.8, 0.9, 0.905, 0.9, 0.905]), is_rising([0.5])
    (True, False, False)
    """
    before = curve[: len(curve) * 2 // 3]
    return bool(before) and curve[-1] == max(curve) and curve[-1] - max(before) >= RISE


def trainings(lines: Iterable[Mapping[str, Any]], metric: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Model → stage → how its training went: updates made, the best value of validation and its update, whether it still rose.

    Args:
        lines: of `metrics.jsonl`; a step that is there again, after a resume, counts as it was last.
        metric: that selected; a stage that was not measured by it has its updates only.

    >>> curve = [{"model": "student", "stage": "distillation", "step": step, "validation": {"accuracy": step / 10}} for step in (3, 6, 9)]
    >>> trainings(curve, "accuracy")
    {'student': {'distillation': {'steps': 9, 'best': 0.9, 'best_step': 9, 'rising': True}}}
    """
    steps: dict[tuple[str, str], int] = {}
    curves: dict[tuple[str, str], dict[int, float]] = {}
    for line in lines:
        place = (line["model"], line["stage"])
        steps[place] = max(steps.get(place, 0), line["step"])
        if metric in line.get("validation", ()):
            curves.setdefault(place, {})[line["step"]] = line["validation"][metric]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (model, stage), last in steps.items():
        curve = dict(sorted(curves.get((model, stage), {}).items()))
        best = {} if not curve else {
            "best": max(curve.values()), "best_step": max(curve, key=lambda step: curve[step]), "rising": is_rising([*curve.values()])
        }  # fmt: skip
        found.setdefault(model, {})[stage] = {"steps": last, **best}
    return found
