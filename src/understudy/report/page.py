"""One self-contained page from a run folder: no network, no script, readable on a phone, in the dark and on paper."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.errors import RunFolderError
from understudy.report.table import (
    MODEL_NAMES,
    gain_is_shown,
    measured_models,
    metric_name,
    model_name,
    p_value,
    points,
    short_count,
    table_cells,
    verdict,
)

# Charts are drawn in a fixed box; the page scales them. The template draws, here are only the coordinates.
_WIDTH, _HEIGHT = 440, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 10, 26
_ROW = 46  # of the dot plot: a model's name above its dot
_MAX_POINTS = 400


def write_page(folder: str | Path) -> Path:
    """Write `report.html` into a run folder, from what lies there and nothing else.

    `facts.json` must be there; `recipe.yaml`, `metrics.jsonl` and `environment.json` are told where they are.

    Returns:
        the page.

    Raises:
        RunFolderError: no facts.json, or files in the folder that cannot be read.
    """
    from jinja2 import Environment, PackageLoader

    folder = Path(folder)
    facts = _read_json(folder / "facts.json")
    if facts is None:
        raise RunFolderError(
            f"{folder}: no facts.json in it: not a run folder, or the run is not finished; go on with --resume"
        )
    metrics, environment = read_metrics(folder / "metrics.jsonl"), _read_json(folder / "environment.json")
    recipe = _read(folder / "recipe.yaml")
    try:
        content = page_content(facts, metrics, environment, recipe)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{folder / 'facts.json'}: not the facts of a run ({error!r}); measure it again"
        ) from error
    loader = PackageLoader("understudy", "report")
    templates = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = folder / "report.html"
    beside = page.with_suffix(".html.new")
    beside.write_text(templates.get_template("page.html").render(content), "utf-8")
    os.replace(beside, page)
    return page


def page_content(
    facts: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]] = (),
    environment: Mapping[str, Any] | None = None,
    recipe: str | None = None,
) -> dict[str, Any]:
    """Everything the template shows, as plain values; what a run does not have is None or empty."""
    metric, models, data = facts["primary_metric"], measured_models(facts), facts.get("data") or {}
    return {
        "facts": facts,
        "title": " · ".join(str(facts[key]) for key in ("recipe", "task") if facts.get(key)),
        "verdict": verdict(facts),
        "table": table_cells(facts),
        "metric": metric_name(metric),
        "dots": dot_plot(models, metric),
        "charts": _charts(metrics, metric),
        "classes": _classes(models),
        "gains": [
            {"over": other, "said": f"{points(gain)}, {p_value(gain['p_value'])}", "test": gain.get("test"),
             "shown": gain_is_shown(gain)}
            for fact, other in (
                ("gain_over_alone", "the student alone"),
                ("gain_over_pseudo_labels", "the student on the teacher's labels"),
            )
            if (gain := facts.get(fact))
        ],
        "agreement": facts.get("agreement_with_teacher"),
        "data": [
            {"split": split} | data[split] for split in ("train", "validation", "test", "transfer", "raw") if data.get(split)
        ],
        "notes": data.get("notes") or [],
        "recipe": recipe,
        "environment": environment or {},
    }  # fmt: skip


def _charts(metrics: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Validation first, then every term of the loss; the whole loss only where no terms were logged."""
    flat = [
        {**line, **{f"validation/{name}": value for name, value in (line.get("validation") or {}).items()}}
        for line in metrics
    ]
    terms = sorted({key for line in flat for key in line if key.startswith("loss/")}) or ["loss"]
    titles = {f"validation/{metric}": f"{metric_name(metric)} on validation rows"}
    titles["validation/masked_accuracy"] = "share of hidden words found in held-out text"
    titles |= {term: term.replace("/", ": ").replace("_", " ") for term in terms}
    charts = [
        line_chart(title, {name: _points(flat, name, key) for name in MODEL_NAMES}) for key, title in titles.items()
    ]
    return [chart for chart in charts if chart]


def dot_plot(models: Mapping[str, Any], metric: str) -> dict[str, Any] | None:
    """Coordinates of one dot a model, with its 95 % interval as a line; None when nothing was measured."""
    measured = {name: (entry.get("quality") or {}).get(metric) for name, entry in models.items()}
    rows = [(name, quality) for name, quality in measured.items() if quality]
    if not rows:
        return None
    ends = [number for _, quality in rows for number in (quality["value"], *(quality.get("ci95") or ()))]
    ticks = nice_ticks(min(ends), max(ends))
    bottom = _TOP + _ROW * len(rows)
    return {
        "width": _WIDTH,
        "height": bottom + _BOTTOM,
        "bottom": bottom,
        "ticks": [{"at": _scale(tick, ticks, _RIGHT, _WIDTH - _RIGHT), "text": f"{tick:g}"} for tick in ticks],
        "rows": [
            {
                "kind": name,
                "name": model_name(name),
                "y": _TOP + _ROW * (index + 0.6),
                "x": _scale(quality["value"], ticks, _RIGHT, _WIDTH - _RIGHT),
                "ends": [_scale(end, ticks, _RIGHT, _WIDTH - _RIGHT) for end in quality.get("ci95") or ()],
                "said": f"{model_name(name)}: {quality['value']:.3f}",
            }
            for index, (name, quality) in enumerate(rows)
        ],
    }


def line_chart(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any] | None:
    """Coordinates of one line a model over training steps; None when no line has a point."""
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return None
    steps = [step for curve in curves.values() for step, _ in curve]
    values = [value for curve in curves.values() for _, value in curve]
    across, up = nice_ticks(0, max(steps)), nice_ticks(min(values), max(values))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return _scale(point[0], across, _LEFT, _WIDTH - _RIGHT), _scale(point[1], up, _HEIGHT - _BOTTOM, _TOP)

    return {
        "title": title,
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "bottom": _HEIGHT - _BOTTOM,
        "across": [{"at": _scale(tick, across, _LEFT, _WIDTH - _RIGHT), "text": short_count(tick)} for tick in across],
        "up": [{"at": _scale(tick, up, _HEIGHT - _BOTTOM, _TOP), "text": f"{tick:g}"} for tick in up],
        "lines": [
            {
                "kind": name,
                "name": model_name(name),
                "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, _thinned(curve))),
                "last": place(curve[-1]),
            }
            for name, curve in curves.items()
        ],
    }


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers that span a range, about five.

    >>> nice_ticks(0.83, 0.91)
    [0.82, 0.84, 0.86, 0.88, 0.9, 0.92]
    """
    spread = (high - low) or abs(high) / 10 or 1.0
    unit = 10 ** math.floor(math.log10(spread / 4))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit * 4.5 >= spread)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl in order; a step logged again after a resume counts once, as it was logged last."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in (_read(path) or "").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a run that was killed may leave half a line
        if isinstance(entry, dict) and "model" in entry and "step" in entry:
            found[entry["model"], entry.get("stage"), entry["step"], "validation" in entry] = entry
    return list(found.values())


def _points(metrics: Iterable[Mapping[str, Any]], model: str, key: str) -> list[tuple[float, float]]:
    """(step, value) of one model; the steps of a later stage follow on those of the one before."""
    points: list[tuple[float, float]] = []
    stage, offset, last = None, 0, 0
    for line in metrics:
        if line["model"] != model:
            continue
        if line.get("stage") != stage:
            stage, offset = line.get("stage"), last
        last = max(last, offset + line["step"])
        value = line.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            points.append((offset + line["step"], value))
    return sorted(points)


def _classes(models: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The student's numbers of every class, with the teacher's F1 beside them where it is known."""
    per_class = {name: (models.get(name) or {}).get("per_class") or [] for name in ("teacher", "student")}
    teacher_f1 = {entry["label"]: entry["f1"] for entry in per_class["teacher"]}
    return [entry | {"teacher_f1": teacher_f1.get(entry["label"])} for entry in per_class["student"]]


def _scale(value: float, ticks: Sequence[float], start: float, end: float) -> float:
    return round(start + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (end - start), 1)


def _thinned(curve: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Every n-th point and the last one: a page needs no more than the eye can tell apart."""
    every = -(-len(curve) // _MAX_POINTS)
    return [*curve[:-1:every], curve[-1]]


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path}: cannot be read: {error}") from error


def _read_json(path: Path) -> dict[str, Any] | None:
    text = _read(path)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RunFolderError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{path}: must hold one JSON object, got {type(found).__name__}")
    return found
