"""The few ratios that say what a run achieved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summarise(models: Mapping[str, Mapping[str, Any] | None], primary_metric: str) -> dict[str, float | None]:
    """What the student keeps of the teacher and what it saves, from the `models` of facts.json.

    Returns:
        `kept_fraction` = student / teacher of the primary metric, `times_smaller` = teacher / student MiB on disk,
        `times_faster` = student / teacher rows per second, both in torch; `times_faster_exported`, the student's export (int8 where
        there is one) over the teacher in torch; `times_faster_int8`, the student's int8 export over the teacher's. Each None where a
        side is unknown or the divisor is not above 0.

    >>> summarise({"teacher": {"size_mib": 80.0}, "student": {"size_mib": 10.0}}, "accuracy")["times_smaller"]
    8.0
    """
    teacher, student = models.get("teacher") or {}, models.get("student") or {}
    value = {name: metric_value(model, primary_metric) for name, model in (("teacher", teacher), ("student", student))}
    exports = ("student_onnx", "student_onnx_int8", "teacher_onnx_int8")
    speed = {name: (models.get(name) or {}).get("rows_per_second") for name in ("teacher", "student", *exports)}
    return {
        "kept_fraction": _ratio(value["student"], value["teacher"]),
        "times_smaller": _ratio(teacher.get("size_mib"), student.get("size_mib")),
        "times_faster": _ratio(speed["student"], speed["teacher"]),
        "times_faster_exported": _ratio(speed["student_onnx_int8"] or speed["student_onnx"], speed["teacher"]),
        "times_faster_int8": _ratio(speed["student_onnx_int8"], speed["teacher_onnx_int8"]),
    }


def summarise_tasks(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a student of several tasks achieved, from the facts of each.

    Returns:
        `tasks`: of each its `task`, `primary_metric`, the `value` of it for each model, `kept_fraction` and the gains; `mean`: of the
        models that every task has, the mean value; `gain_over_…`: of the student's mean over the control's. That one carries no
        test: the tests are those of the tasks.
    """
    tasks = {}
    for name, own in facts.items():
        metric = own["primary_metric"]
        values = {model: metric_value(entry, metric) for model, entry in own["models"].items()}
        kept = ("kept_fraction", "gain_over_alone", "gain_over_pseudo_labels")
        tasks[name] = {
            "task": own["task"], "primary_metric": metric,
            "value": {model: value for model, value in values.items() if value is not None}, **{key: own[key] for key in kept},
        }  # fmt: skip
    everywhere = [
        model for model in next(iter(tasks.values()))["value"] if all(model in one["value"] for one in tasks.values())
    ]
    mean = {model: sum(one["value"][model] for one in tasks.values()) / len(tasks) for model in everywhere}
    gains = {
        f"gain_over_{control}": mean["student"] - mean[f"student_{control}"] if f"student_{control}" in mean else None
        for control in ("alone", "pseudo_labels")
    }
    return {"tasks": tasks, "mean": mean, **gains}


def metric_value(model: Mapping[str, Any] | None, metric: str) -> float | None:
    """The value of a metric in a model's entry of facts.json; None where it was not measured."""
    return (((model or {}).get("quality") or {}).get(metric) or {}).get("value")


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below is not None and below > 0 else None
