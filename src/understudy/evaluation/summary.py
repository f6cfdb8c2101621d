"""The few ratios that sum up a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.tasks import Metric, metric_named


def summarise(models: Mapping[str, Mapping[str, Any] | None], metric: Metric) -> dict[str, Any]:
    """What the student keeps of the teacher and what it saves, from the `models` of facts.json.

    Speeds are rows per second in batches of one size. Each ratio is None where a side is unknown or the divisor is not above 0.

    Returns:
        `kept_fraction` = student / teacher of the metric, where higher is better; `times_smaller` = teacher / student MiB on disk,
        `times_faster` = student / teacher, both in torch; `times_faster_exported`, the student's export (int8 where there is one) over the
        teacher in torch; `times_faster_int8`, the student's int8 export over the teacher's; `times_devices`: of each of these three,
        the devices of its two sides, as in `["cpu", "cuda"]`, which an export and an accelerated teacher do not share; `times_ranges`: of
        each its lowest and highest value, from the ranges of both sides over rounds.

    >>> summarise({"teacher": {"size_mib": 80.0}, "student": {"size_mib": 10.0}}, metric_named("accuracy"))["times_smaller"]
    8.0
    """
    teacher, student = models.get("teacher") or {}, models.get("student") or {}
    value = {name: metric_value(model, metric.name) for name, model in (("teacher", teacher), ("student", student))}
    exported = "student_onnx_int8" if models.get("student_onnx_int8") else "student_onnx"
    pairs = {
        "times_faster": ("student", "teacher"),
        "times_faster_exported": (exported, "teacher"),
        "times_faster_int8": ("student_onnx_int8", "teacher_onnx_int8"),
    }
    sides = {fact: [models.get(name) or {} for name in names] for fact, names in pairs.items()}
    return {
        "kept_fraction": _ratio(value["student"], value["teacher"]) if metric.better == "higher" else None,
        "times_smaller": _ratio(teacher.get("size_mib"), student.get("size_mib")),
        **{fact: _ratio(*(side.get("rows_per_second") for side in both)) for fact, both in sides.items()},
        "times_devices": {
            fact: [side["device"] for side in both]
            for fact, both in sides.items()
            if all(side.get("device") and side.get("rows_per_second") for side in both)
        },
        "times_ranges": {
            fact: [student_range[0] / teacher_range[1], student_range[1] / teacher_range[0]]
            for fact, both in sides.items()
            if all(side.get("rows_per_second_range") for side in both)
            for student_range, teacher_range in [[side["rows_per_second_range"] for side in both]]
        },
    }


def summarise_tasks(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a student of several tasks achieved, from the facts of each.

    Returns:
        `tasks`: of each its `task`, `primary_metric`, the `value` of it for each model, `kept_fraction`, the gains
        and the findings; `mean`: of the
        models that every task has, the mean value; `gain_over_…`: of the student's mean over the control's. That one carries no
        test: the tests are those of the tasks.
    """
    tasks = {}
    for name, task_facts in facts.items():
        metric = task_facts["primary_metric"]
        values = {model: metric_value(entry, metric) for model, entry in task_facts["models"].items()}
        kept = ("kept_fraction", "gain_over_alone", "gain_over_pseudo_labels", "gain_over_ngrams", "findings")
        tasks[name] = {
            "task": task_facts["task"],
            "primary_metric": metric,
            "value": {model: value for model, value in values.items() if value is not None},
            **{key: task_facts.get(key) for key in kept},
        }
    everywhere = [model for model in next(iter(tasks.values()))["value"] if all(model in task["value"] for task in tasks.values())]
    mean = {model: sum(task["value"][model] for task in tasks.values()) / len(tasks) for model in everywhere}
    gains = {
        f"gain_over_{control}": mean["student"] - mean[f"student_{control}"] if f"student_{control}" in mean else None
        for control in ("alone", "pseudo_labels")
    }
    return {"tasks": tasks, "mean": mean, **gains}


def metric_of(facts: Mapping[str, Any], name: str | None = None) -> Metric:
    """A metric of a run, its primary one where none is named. A task in a file of the user's is described in the facts."""
    name = name or str(facts["primary_metric"])
    described = (facts.get("metrics") or {}).get(name)
    return Metric(**described) if described else metric_named(name, facts.get("task"))


def metric_value(model: Mapping[str, Any] | None, metric: str) -> float | None:
    """The value of a metric in a model's entry of facts.json; None where it was not measured."""
    return (((model or {}).get("quality") or {}).get(metric) or {}).get("value")


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below is not None and below > 0 else None
