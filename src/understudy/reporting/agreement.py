"""What a run without labelled rows found, and what it could not find."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

UNKNOWN = (
    "Quality is unknown: no labelled rows were given, so how often teacher and student are right is unknown. To measure both, label 100 "
    "to 200 texts by hand, drawn at random (200 give about ± 4 points where 90 % are right), and repeat the run with them as --test FILE "
    "(columns text and label). A teacher that is a file of answers is measured where its answers to these texts are in it, too."
)


def by_teacher(facts: Mapping[str, Any]) -> bool:
    """Whether the test rows have the teacher's answers as labels."""
    return facts.get("reference") == "teacher"


def test_rows(facts: Mapping[str, Any]) -> int | None:
    """How many rows the models were measured on, where the facts say so."""
    data = facts.get("data") or {}
    return (data.get("validation" if data.get("test_is_validation") else "test") or {}).get("rows")


def validation_name(labelled_by_teacher: Container[str], metric: str, name: str) -> str:
    """What a metric on validation rows is called, which may have the teacher's answers as labels.

    >>> validation_name((), "accuracy", "accuracy"), validation_name(["validation"], "accuracy", "accuracy")
    ('accuracy', 'agreement with the teacher')
    """
    if "validation" not in labelled_by_teacher:
        return name
    return "agreement with the teacher" if metric == "accuracy" else f"{name} (teacher)"


def agrees(facts: Mapping[str, Any], metric: str, name: str) -> str:
    """How closely the student follows the teacher, with the interval.

    >>> quality = {"accuracy": {"value": 0.934, "ci95": [0.901, 0.962]}}
    >>> agrees({"models": {"student": {"quality": quality}}, "data": {"test": {"rows": 244}}}, "accuracy", "accuracy")
    'gives the same answer as the teacher to 93.4 % of 244 held-out rows (95 % interval 90.1 to 96.2 %)'
    """
    found, count = facts["models"]["student"]["quality"][metric], test_rows(facts)
    rows = f"{count:,} held-out rows" if count else "the held-out rows"
    value, (low, high) = found["value"], found.get("ci95") or (None, None)
    if metric == "accuracy":
        between = "" if low is None or high is None else f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
        return f"gives the same answer as the teacher to {100 * value:.1f} % of {rows}{between}"
    between = "" if low is None else f" (95 % interval {low:.3f} to {high:.3f})"
    return f"follows the teacher with {name} {value:.3f} against its answers to {rows}{between}"
