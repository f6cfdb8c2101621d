"""The result of a run without labelled rows: agreement with the teacher, and what stays unknown."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from understudy.evaluation.summary import metric_of
from understudy.tasks import Metric

UNKNOWN = (
    "Quality is unknown: no labelled rows were given, so how often teacher and student are right is unknown. To measure both, label 100 "
    "to 200 texts by hand, drawn at random (200 give about ± 4 points where 90 % are right), and repeat the run with them as --test FILE "
    "(columns text and label). A teacher that is a file of answers is measured where its answers to these texts are in it, too."
)


def by_teacher(facts: Mapping[str, Any]) -> bool:
    """Whether the test rows have the teacher's answers as labels."""
    return facts.get("reference") == "teacher"


def test_rows(facts: Mapping[str, Any]) -> int | None:
    """How many rows the models were measured on, where the facts hold it."""
    data = facts.get("data") or {}
    return (data.get("validation" if data.get("test_is_validation") else "test") or {}).get("rows")


def validation_name(labelled_by_teacher: Container[str], metric: Metric, name: str) -> str:
    """What a metric on validation rows is called, which may have the teacher's answers as labels."""
    return against_teacher(metric, name) if "validation" in labelled_by_teacher else name


def against_teacher(metric: Metric, name: str) -> str:
    """What a metric is called where the labels are the teacher's answers.

    >>> against_teacher(Metric("accuracy", "accuracy", counts_rows=True), "accuracy"), against_teacher(Metric("f1", "F1"), "F1")
    ('agreement with the teacher', 'F1 (teacher)')
    """
    return "agreement with the teacher" if metric.counts_rows else f"{name} (teacher)"


def agrees(facts: Mapping[str, Any]) -> str:
    """How closely the student follows the teacher, with the interval.

    >>> quality = {"accuracy": {"value": 0.934, "ci95": [0.901, 0.962]}}
    >>> agrees({"primary_metric": "accuracy", "models": {"student": {"quality": quality}}, "data": {"test": {"rows": 244}}})
    'gives the same answer as the teacher to 93.4 % of 244 held-out rows (95 % interval 90.1 to 96.2 %)'
    """
    metric = metric_of(facts)
    quality, count = facts["models"]["student"]["quality"][metric.name], test_rows(facts)
    rows = f"{count:,} held-out rows" if count else "the held-out rows"
    value, (low, high) = quality["value"], quality.get("ci95") or (None, None)
    if metric.counts_rows:
        between = "" if low is None or high is None else f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
        return f"gives the same answer as the teacher to {100 * value:.1f} % of {rows}{between}"
    between = "" if low is None else f" (95 % interval {low:.3f} to {high:.3f})"
    return f"follows the teacher with {metric.title} {value:.3f} against its answers to {rows}{between}"
