"""From predictions for single rows to what the page shows of them: rows that flipped, classes, confusion, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from understudy.evaluation.calibration import reliability
from understudy.reporting.plots import nice_ticks, square, thinned
from understudy.reporting.table import model_name, worse_scaled

Line = Mapping[str, Any]
Title = Callable[[str], str]  # a model as a reader calls it

MOST_ROWS = 300  # of each direction on the page; the file beside it holds all
MOST_CHARACTERS = 1000  # of a text on the page
LEAST_ROWS = 5  # of a bin in a calibration plot: of fewer, its accuracy is chance
MOST_CLASSES = 15  # in the heat table
_MOST_PAIRS = 20
_PLOTTED = ("teacher", "student_alone", "student", "student_onnx_int8")


def flipped(lines: Sequence[Line]) -> dict[str, Any] | None:
    """The rows where teacher and student differ: for numbers one is farther off, for all else one is right and the other wrong.

    Of each direction come first the rows where the one that is wrong was surest, or the distance changed most. None where the folder
    does not have the predictions of both.
    """
    lines = [line for line in lines if {"teacher", "student"} <= line["models"].keys()]
    if not lines:
        return None
    numbers = isinstance(_prediction(lines[0], "student"), float)
    lost, won = _numbers_apart(lines) if numbers else _classes_apart(lines)
    return {
        "numbers": numbers,
        "rows": len(lines),
        "lost": len(lost),
        "won": len(won),
        "most": MOST_ROWS,
        "shown": [{**_shown(line), "lost": rows is lost} for rows in (lost, won) for line in rows[:MOST_ROWS]],
        "pair": any("text_pair" in line for line in lines),
    }


def confusion_differences(lines: Sequence[Line]) -> dict[str, Any] | None:
    """How often the student gives a class to the rows of another, less how often the teacher does.

    Returns:
        `cells` over the `classes` that differ most, of `all_classes`; `pairs`, the confusions of two classes that differ most. None
        where nothing is known, or nothing differs.
    """
    lines = [line for line in lines if "label" in (line["models"].get("teacher") or {}) and "student" in line["models"]]
    counts = {name: Counter((line["label"], line["models"][name]["label"]) for line in lines) for name in ("teacher", "student")}
    different = {
        pair: counts["student"][pair] - counts["teacher"][pair]
        for pair in sorted(counts["student"] | counts["teacher"])
        if counts["student"][pair] != counts["teacher"][pair]
    }
    if not different:
        return None
    moved: Counter[str] = Counter()
    for (label, predicted), difference in different.items():
        for name in {label, predicted}:
            moved[name] += abs(difference)
    known = {label for pair in counts["student"] | counts["teacher"] for label in pair}
    classes = sorted(known, key=lambda label: (-moved[label], label))[:MOST_CLASSES]
    most = max(map(abs, different.values()))
    confused = [(pair, difference) for pair, difference in different.items() if pair[0] != pair[1]]
    largest = sorted(confused, key=lambda item: -abs(item[1]))[:_MOST_PAIRS]
    return {
        "classes": classes,
        "all_classes": len(known),
        "cells": [
            {"label": label, "row": [_heat(different.get((label, predicted), 0), most) for predicted in classes]} for label in classes
        ],
        "pairs": [
            {
                "label": label,
                "prediction": predicted,
                "teacher": counts["teacher"][label, predicted],
                "student": counts["student"][label, predicted],
                "difference": difference,
            }
            for (label, predicted), difference in largest
        ],
    }


def class_table(models: Mapping[str, Any], title: Title = model_name) -> dict[str, Any] | None:
    """Precision, recall and F1 of every class for each model; where both are known, those first where student and teacher differ most.

    A class without test rows has none: scikit-learn's 0 would mean that it was not learned.
    """
    measured = {name: entry["per_class"] for name, entry in models.items() if entry.get("per_class")}
    if not measured:
        return None
    by_label = {name: {entry["label"]: entry for entry in classes} for name, classes in measured.items()}
    first = next(iter(measured.values()))
    rows = []
    for entry in first:
        label, measurable = entry["label"], entry["support"] > 0
        student, teacher = ((by_label.get(name) or {}).get(label) for name in ("student", "teacher"))
        rows.append(
            {
                "label": label,
                "support": entry["support"],
                "difference": student["f1"] - teacher["f1"] if measurable and student and teacher else None,
                "models": [by_label[name].get(label) if measurable else None for name in measured],
            }
        )
    rows.sort(key=lambda row: (-abs(row["difference"] or 0), -row["support"]))
    return {
        "models": list(map(title, measured)),
        "rows": rows,
        "compared": {"student", "teacher"} <= measured.keys(),
        "unmeasured": sum(not row["support"] for row in rows),
    }


def calibration_table(models: Mapping[str, Any], title: Title = model_name) -> list[dict[str, Any]]:
    """Each model's calibration, as it is in facts.json."""
    return [
        {"kind": name, "name": title(name), **entry["calibration"], "worse": worse_scaled(entry["calibration"])}
        for name, entry in models.items()
        if entry.get("calibration")
    ]


def reliability_plots(lines: Sequence[Line], title: Title = model_name) -> list[dict[str, Any]]:
    """Accuracy over confidence of the teacher, the student, alone and taught, and its smallest export, before and after scaling."""
    plots = []
    for name in _PLOTTED:
        answered = [(line["models"][name], line["label"]) for line in lines if "probability" in line["models"].get(name, {})]
        if not answered:
            continue
        right = np.array([answer["label"] == label for answer, label in answered])
        series = []
        for key, form in (("probability", "unscaled"), ("scaled_probability", "with its temperature")):
            if not all(key in answer for answer, _ in answered):
                continue
            bins = [bin_ for bin_ in reliability(np.array([answer[key] for answer, _ in answered]), right) if bin_["rows"] >= LEAST_ROWS]
            if not bins:
                continue
            most = max(bin_["rows"] for bin_ in bins)
            series.append((form, [(bin_["confidence"], bin_["accuracy"], bin_["rows"] / most) for bin_ in bins]))
        if series:
            plots.append(square(title(name), name, (0, 0.5, 1), series))
    return plots


def number_plots(lines: Sequence[Line], title: Title = model_name) -> list[dict[str, Any]]:
    """Predictions of teacher and student over the label, where labels are numbers."""
    known = {
        name: [(line["label"], line["models"][name]["value"]) for line in lines if "value" in line["models"].get(name, {})]
        for name in _PLOTTED
    }
    numbers = [number for points in known.values() for point in points for number in point]
    if not numbers:
        return []
    ticks = nice_ticks(min(numbers), max(numbers))
    return [square(title(name), name, ticks, [("", thinned(points))]) for name, points in known.items() if points]


def _classes_apart(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    def right(line: Line, name: str) -> bool:
        return _prediction(line, name) == line["label"]

    def surest(name: str) -> Any:
        return lambda line: -line["models"][name].get("probability", 0)

    lost = [line for line in lines if right(line, "teacher") and not right(line, "student")]
    won = [line for line in lines if right(line, "student") and not right(line, "teacher")]
    return sorted(lost, key=surest("student")), sorted(won, key=surest("teacher"))


def _numbers_apart(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    ordered = sorted(lines, key=_farther)
    return [line for line in reversed(ordered) if _farther(line) > 0], [line for line in ordered if _farther(line) < 0]


def _farther(line: Line) -> float:
    """By how much the student is farther from the label than the teacher."""
    off = {name: abs(_prediction(line, name) - line["label"]) for name in ("teacher", "student")}
    return off["student"] - off["teacher"]


def _shown(line: Line) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "text": _shortened(line["text"]),
        "pair": _shortened(line.get("text_pair")),
        "label": _listed(line["label"]),
        **{name: {**line["models"][name], "prediction": _listed(_prediction(line, name))} for name in ("teacher", "student")},
    }
    if isinstance(shown["student"]["prediction"], float):
        shown["farther"] = _farther(line)
    return shown


def _prediction(line: Line, name: str) -> Any:
    """A model's prediction, comparable with the label: the first entry of its answer."""
    return next(iter(line["models"][name].values()))


def _listed(answer: Any) -> Any:
    return ", ".join(map(str, answer)) if isinstance(answer, list) else answer


def _shortened(text: str | None) -> str | None:
    return f"{text[:MOST_CHARACTERS]} …" if text is not None and len(text) > MOST_CHARACTERS else text


def _heat(difference: int, most: int) -> dict[str, Any]:
    return {"difference": difference, "percent": round(12 + 63 * abs(difference) / most)}
