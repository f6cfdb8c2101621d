"""The few ratios that say what a run achieved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summarise(models: Mapping[str, Mapping[str, Any] | None], primary_metric: str) -> dict[str, float | None]:
    """What the student keeps of the teacher and what it saves, from the `models` of facts.json.

    Returns:
        `kept_fraction` = student / teacher of the primary metric, `times_smaller` = teacher / student MiB on disk,
        `times_faster` = student / teacher rows per second; each None where a side is unknown or the divisor is not
        above 0.

    >>> summarise({"teacher": {"size_mib": 80.0}, "student": {"size_mib": 10.0}}, "accuracy")
    {'kept_fraction': None, 'times_smaller': 8.0, 'times_faster': None}
    """
    teacher, student = models.get("teacher") or {}, models.get("student") or {}
    value = {name: metric_value(model, primary_metric) for name, model in (("teacher", teacher), ("student", student))}
    return {
        "kept_fraction": _ratio(value["student"], value["teacher"]),
        "times_smaller": _ratio(teacher.get("size_mib"), student.get("size_mib")),
        "times_faster": _ratio(student.get("rows_per_second"), teacher.get("rows_per_second")),
    }


def metric_value(model: Mapping[str, Any] | None, metric: str) -> float | None:
    """The value of a metric in a model's entry of facts.json; None where it was not measured."""
    return (((model or {}).get("quality") or {}).get(metric) or {}).get("value")


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below is not None and below > 0 else None
