"""Figures of a run without labelled rows: what they are measured against is the teacher, so they are agreement and no quality."""

from __future__ import annotations

from typing import Any


def as_agreement(compared: dict[str, Any]) -> dict[str, Any]:
    """The facts of `compare` on rows that the teacher labelled, with `reference: teacher`, and without all that needs the truth.

    The `quality` of a model is then its agreement with the teacher. The teacher has none; nobody has a calibration.
    """
    needs_truth = {"teacher": ("calibration", "quality", "per_class")}
    models = {
        name: {key: value for key, value in entry.items() if key not in needs_truth.get(name, ("calibration",))}
        for name, entry in compared["models"].items()
    }
    unknown = {key: None for key in compared if key == "kept_fraction" or key.startswith("teacher_gain_")}
    return compared | unknown | {"reference": "teacher", "models": models}
