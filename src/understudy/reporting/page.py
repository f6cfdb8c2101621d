"""One self-contained page from a run folder: no network, readable on a phone, in the dark, on paper and without its script."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from understudy.errors import RunFolderError, near_folder
from understudy.evaluation.predictions import PREDICTIONS, read_predictions
from understudy.evaluation.summary import metric_of
from understudy.files import json_lines, write_text
from understudy.reporting import advice, rows, tasks
from understudy.reporting.agreement import by_teacher
from understudy.reporting.headline import figures, headline
from understudy.reporting.plots import Choice, line_chart, trade_off
from understudy.reporting.speeds import busy
from understudy.reporting.table import (
    MODEL_NAMES,
    called,
    figure_name,
    gain_is_shown,
    measured_models,
    model_name,
    p_value,
    points,
    table_cells,
    verdict,
)

PAGE = "report.html"
COSTS = {"latency": "latency of one row, ms (p50)", "size": "size, MiB"}


def write_page(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run from what is in its folder and nothing else.

    `facts.json` must be there; `recipe.yaml`, `metrics.jsonl`, `environment.json` and `predictions.jsonl.gz` are shown where they exist.

    Args:
        folder: of a run; one of several tasks gets a page that sums up, and each of its tasks has its own.
        out: where to write the page; None: `report.html` in the folder.

    Returns:
        the page.

    Raises:
        RunFolderError: no facts.json, or files in the folder that cannot be read.
    """
    folder = Path(folder)
    page = Path(out or folder / PAGE)
    facts = read_facts(folder)
    metrics = read_metrics(folder / "metrics.jsonl")
    recipe, environment = _read(folder / "recipe.yaml"), read_environment(folder)
    predictions = read_predictions(folder / PREDICTIONS)
    try:
        if "tasks" in facts:
            links = {task: os.path.relpath(folder / task / PAGE, page.parent) for task in facts["tasks"]}
            content, template = tasks_content(facts, metrics, links), "tasks.html"
        else:
            content, template = page_content(facts, metrics, predictions), "run.html"
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(f"{folder / 'facts.json'}: not the facts of a run ({error!r}); measure it again") from error
    write(page, template, {"facts": facts, "recipe": recipe, "environment": environment, **content})
    return page


def write(page: Path, template: str, content: Mapping[str, Any]) -> None:
    """Fill a template, and write the page whole."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup, escape

    loader = PackageLoader("understudy", "reporting")
    templates = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.filters["breakable"] = lambda name: Markup(re.sub(r"([_/.-])", r"\1<wbr>", str(escape(name))))
    # The page allows this very script and no other, so that no text in it can ever run.
    script = files("understudy.reporting").joinpath("page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = templates.get_template(template).render({**content, "script": Markup(script), "script_digest": digest})
    write_text(page, text)


def page_content(
    facts: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]] = (), predictions: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """What the template shows of one task, as plain values; what a run does not have is None or empty."""
    metric, models, data = metric_of(facts), measured_models(facts), facts.get("data") or {}
    title = partial(called, facts)
    return {
        "title": " · ".join(str(facts[key]) for key in ("recipe", "task") if facts.get(key)),
        "headline": headline(facts),
        "figures": figures(facts),
        "findings": advice.findings(facts),
        "verdict": verdict(facts),
        "table": table_cells(facts, spread=True),
        "bulk": ", ".join(
            f"{called(facts, name)} {entry['rows_per_second_bulk']:,.0f} rows/s"
            for name, entry in models.items()
            if entry.get("rows_per_second_bulk")
        ),
        "busy": busy(facts),
        "metric": figure_name(facts, metric.name),
        "upwards": metric.better == "higher",
        "trade_offs": list(
            filter(None, (trade_off(title, model_choices(models, metric.name, cost), metric) for cost, title in COSTS.items()))
        ),
        "charts": _charts(
            metrics,
            metric.name,
            "agreement with the teacher on validation rows"
            if "validation" in data.get("labelled_by_teacher", ())
            else f"{metric.title} on validation rows",
        ),
        "classes": rows.class_table(models, title),
        "confusion": rows.confusion_differences(predictions),
        "calibration": rows.calibration_table(models, title),
        "reliability": rows.reliability_plots(predictions, title),
        "number_plots": rows.number_plots(predictions, title),
        "flipped": rows.flipped(predictions),
        "by_teacher": by_teacher(facts),
        "predictions": PREDICTIONS,
        "gains": [
            {
                "over": control_title,
                "text": f"{points(gain, metric)}, {p_value(gain['p_value'])}",
                "test": gain.get("test"),
                "shown": gain_is_shown(gain),
            }
            for fact, control_title in (
                ("gain_over_alone", "the student alone"),
                ("gain_over_pseudo_labels", "the student on the teacher's labels"),
                ("gain_over_ngrams", "the n-gram baseline"),
            )
            if (gain := facts.get(fact))
        ],
        "controls": [
            {
                "name": model_name(f"student_{control}"),
                "has": ", ".join(
                    [*control_entry["kept"], *([f"the start from the {control_entry['start']}"] if control_entry.get("start") else [])]
                )
                or "nothing but labels",
            }
            for control, control_entry in (facts.get("controls") or {}).items()
        ],
        "agreement": facts.get("agreement_with_teacher"),
        "test_is_validation": data.get("test_is_validation"),
        "data": [{"split": split} | data[split] for split in ("train", "validation", "test", "transfer", "raw") if data.get(split)],
        "notes": data.get("notes") or [],
    }


def tasks_content(facts: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], links: Mapping[str, str]) -> dict[str, Any]:
    """What the template shows of a run of several tasks."""
    charts = []
    for task, task_facts in facts["tasks"].items():
        title = f"{task}: {metric_of(task_facts).title} on validation rows"
        chart = _chart(title, metrics, f"validation/{task}/{task_facts['primary_metric']}")
        charts += [chart] if chart else []
    charts += _charts(metrics, "mean", "mean of the tasks on validation rows")
    return {
        "title": f"{facts.get('recipe')} · {len(facts['tasks'])} tasks",
        "verdict": tasks.verdict(facts),
        "warnings": tasks.warnings(facts),
        "table": tasks.table_cells(facts),
        "links": links,
        "charts": charts,
    }


def model_choices(models: Mapping[str, Any], metric: str, cost: str) -> list[Choice]:
    """The models of a run whose quality and cost are known, numbered as in the table."""
    choices = []
    for number, (name, entry) in enumerate(models.items(), start=1):
        quality, spent = (entry.get("quality") or {}).get(metric), cost_of(entry, cost)
        if quality and spent:
            choices.append(Choice(str(number), model_name(name), name, spent, quality["value"], quality.get("ci95") or ()))
    return choices


def cost_of(entry: Mapping[str, Any], cost: str) -> float | None:
    """What a model of facts.json takes: `latency` in ms, or `size` in MiB."""
    return (entry.get("latency_ms") or {}).get("p50") if cost == "latency" else entry.get("size_mib")


def _charts(metrics: Sequence[Mapping[str, Any]], metric: str, title: str) -> list[dict[str, Any]]:
    """Validation first, then every term of the loss; the whole loss only where no terms were logged."""
    terms = sorted({key for line in metrics for key in line if key.startswith("loss/")}) or ["loss"]
    titles = {f"validation/{metric}": title, "validation/masked_accuracy": "share of hidden words found in held-out text"}
    titles |= {term: term.replace("/", ": ").replace("_", " ") for term in terms}
    charts = [_chart(title, metrics, key) for key, title in titles.items()]
    return [chart for chart in charts if chart]


def _chart(title: str, metrics: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any] | None:
    return line_chart(title, {name: _points(metrics, name, key) for name in MODEL_NAMES})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl in order, validation flattened; a step logged again after a resume counts once, as it was logged last."""
    entries: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in json_lines(path):
        if "model" in entry and "step" in entry:
            validation = entry.pop("validation", None) or {}
            key = (entry["model"], entry.get("stage"), entry["step"], bool(validation))
            entries[key] = entry | {f"validation/{name}": value for name, value in validation.items()}
    return list(entries.values())


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


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts of a run.

    Raises:
        RunFolderError: none, or a file that cannot be read.
    """
    facts = _read_json(folder / "facts.json")
    if facts is None and not folder.exists():
        raise RunFolderError(f"{folder}: no such run folder{near_folder(folder)}")
    if facts is None:
        raise RunFolderError(f"{folder}: no facts.json in it: not a run folder, or a run that is not finished (continue it with --resume)")
    return facts


def read_environment(folder: Path) -> dict[str, Any]:
    """The machine and the versions of a run; empty where the folder does not hold them."""
    return _read_json(folder / "environment.json") or {}


def read_teacher(folder: Path) -> str | None:
    """The hash of what decides the outputs of a run's teacher; None where the folder does not hold it."""
    inputs = _read_json(folder / "inputs.json")
    teacher = inputs.get("teacher") if isinstance(inputs, dict) else None
    return teacher.get("sha256") if isinstance(teacher, dict) else None


def read_recipe(folder: Path) -> dict[str, Any]:
    """The resolved recipe of a run; empty where the folder does not hold it.

    Raises:
        RunFolderError: a file that is no YAML.
    """
    import yaml

    try:
        recipe = yaml.safe_load(_read(folder / "recipe.yaml") or "")
    except yaml.YAMLError as error:
        raise RunFolderError(f"{folder / 'recipe.yaml'}: damaged: {error}") from error
    return recipe if isinstance(recipe, dict) else {}


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
        content = json.loads(text)
    except ValueError as error:
        raise RunFolderError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path}: must hold one JSON object, got {type(content).__name__}")
    return content
