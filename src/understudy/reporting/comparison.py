"""Several runs on one page: which to take, and what was different about them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import RunFolderError
from understudy.evaluation.summary import metric_of, metric_value
from understudy.reporting.advice import ships
from understudy.reporting.page import COSTS, cost_of, read_environment, read_facts, read_recipe, read_teacher, write
from understudy.reporting.plots import Choice, pareto_front, trade_off
from understudy.reporting.table import figure_name, gain_is_shown, model_name, p_value, short_count, signed_points, size_of

if TYPE_CHECKING:
    from rich.table import Table

_TEACHERS = {"teacher": "T", "teacher_onnx_int8": "T8"}
_UNKNOWN = "–"


@dataclass(frozen=True)
class Compared:
    """A run beside others.

    Args:
        name: its folder, as far as it differs from the others'.
        form: of the student, in facts.json, that it ships: the export where there is one.
        teacher: hash of what decides the teacher's outputs; None where the run does not name it.
    """

    name: str
    facts: Mapping[str, Any]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    form: str
    teacher: str | None = None

    @property
    def shipped(self) -> Mapping[str, Any]:
        """Its entry in facts.json."""
        return self.facts["models"].get(self.form) or {}

    @property
    def value(self) -> float:
        return metric_value(self.shipped, self.facts["primary_metric"]) or 0.0


def read_runs(folders: Sequence[Path]) -> list[Compared]:
    """Runs that measure the same, by the quality of what they ship, the best first.

    Raises:
        RunFolderError: a folder that is no finished run, has several tasks or no student, or another task or metric than the first.
    """
    by_folder: dict[Path, Compared] = {}
    common = os.path.commonpath([folder.resolve().parent for folder in folders])
    for folder in folders:
        facts = read_facts(folder)
        if "tasks" in facts:
            raise RunFolderError(
                f"{folder}: a run of several tasks; give the folder of one, as in {folder / next(iter(facts['tasks']), 'TASK')}"
            )
        metric, models = facts.get("primary_metric"), facts.get("models") or {}
        form = (ships(facts) if metric else None) or "student"
        if metric is None or metric_value(models.get(form), metric) is None:
            raise RunFolderError(f"{folder}: no student was measured in it; give run folders of `understudy distill`")
        settings = flattened(read_recipe(folder))
        place = folder.resolve()
        by_folder.setdefault(
            place, Compared(os.path.relpath(place, common), facts, settings, read_environment(folder), form, read_teacher(folder))
        )
    runs = list(by_folder.values())
    first = runs[0]
    for run in runs[1:]:
        measured = [
            f"{figure_name(compared.facts, compared.facts['primary_metric'])} of {compared.facts.get('task')}" for compared in (first, run)
        ]
        if measured[0] != measured[1]:
            raise RunFolderError(f"{first.name} measures {measured[0]}, {run.name} {measured[1]}; compare runs of one task with one metric")
    return sorted(runs, key=lambda run: (-metric_of(run.facts).signed(run.value), run.name))


def write_comparison(runs: Sequence[Compared], page: Path) -> Path:
    """Write the page of several runs.

    Args:
        runs: as `read_runs` gives them.
        page: the file.

    Returns:
        the page.
    """
    metric = metric_of(runs[0].facts)
    different = differences(runs)
    write(
        page,
        "runs.html",
        {
            "title": f"{len(runs)} runs · {runs[0].facts.get('task')}",
            "verdict": verdict(runs),
            "metric": figure_name(runs[0].facts, metric.name),
            "upwards": metric.better == "higher",
            "in_points": metric.unit == "fraction",
            "table": table_cells(runs),
            "trade_offs": list(filter(None, (trade_off(title, choices(runs, cost), metric) for cost, title in COSTS.items()))),
            "names": [run.name for run in runs],
            "differences": different,
            "notes": notes(runs),
            "commands": [(run.name, run.facts.get("command")) for run in runs],
        },
    )
    return page


def facts(runs: Sequence[Compared], page: Path) -> dict[str, Any]:
    """The content of the page, for `--json`."""
    metric = runs[0].facts["primary_metric"]
    fronts = {cost: [run.name for run in front_by(runs, cost)] for cost in COSTS}
    return {
        "page": str(page),
        "primary_metric": metric,
        "runs": [
            {
                "run": run.name,
                "recipe": run.facts.get("recipe"),
                "seed": run.facts.get("seed"),
                "ships": run.form,
                **run.shipped,
                **{key: run.facts.get(key) for key in ("kept_fraction", "gain_over_alone", "agreement_with_teacher")},
            }
            for run in runs
        ],
        "pareto_front": fronts,
        "differences": [
            {"key": difference["key"], "values": dict(zip((run.name for run in runs), difference["values"], strict=True))}
            for difference in differences(runs)
        ],
        "notes": notes(runs),
    }


def verdict(runs: Sequence[Compared]) -> str:
    """Which run is best, and which a reader may prefer to it because it is cheaper."""
    best, name = runs[0], figure_name(runs[0].facts, runs[0].facts["primary_metric"])
    sentence = f"The best of {len(runs)} runs is {best.name}: {name} {best.value:.3f} as it ships ({model_name(best.form)})."
    others, latency = [run for run in front_by(runs, "latency") if run is not best], cost_of(best.shipped, "latency")
    if others and latency is not None:
        fastest = others[0]
        sentence += (
            f" The fastest on the Pareto front is {fastest.name}: {fastest.value:.3f}, "
            f"{cost_of(fastest.shipped, 'latency'):.2f} ms per row against {latency:.2f}."
        )
    worse = [run for run in runs if (gain := run.facts.get("gain_over_alone")) and gain["value"] < 0 and gain_is_shown(gain)]
    for run in worse:
        lost = size_of(run.facts["gain_over_alone"]["value"], metric_of(run.facts))
        sentence += f" {run.name} is {lost} worse than its own student without a teacher: ship that one instead."
    return sentence


def choices(runs: Sequence[Compared], cost: str) -> list[Choice]:
    """What each run ships, numbered as in the table, and then their teachers, each once."""
    metric = runs[0].facts["primary_metric"]
    drawn: dict[tuple[Any, ...], Choice] = {}
    for number, run in enumerate(runs, start=1):
        if spent := cost_of(run.shipped, cost):
            quality, label = run.shipped["quality"][metric], f"{run.name}, {model_name(run.form)}"
            drawn[(number,)] = Choice(str(number), label, run.form, spent, quality["value"], quality.get("ci95") or ())
    # Its speed is measured anew in every run; it is one model all the same, and both its forms come from one run.
    numbers = {key: number for number, key in enumerate(dict.fromkeys(map(teacher_of, runs)), start=1)}
    for run in sorted(runs, key=lambda run: "teacher_onnx_int8" not in run.facts["models"]):
        ordinal = str(numbers[teacher_of(run)]) if len(numbers) > 1 else ""
        for name, mark in _TEACHERS.items():
            entry = run.facts["models"].get(name) or {}
            quality, spent = (entry.get("quality") or {}).get(metric), cost_of(entry, cost)
            if quality and spent:
                label = f"{model_name(name)}, of {run.name}" if ordinal else model_name(name)
                short = f"{mark[0]}{ordinal}{'q' if ordinal and len(mark) > 1 else mark[1:]}"
                choice = Choice(short, label, name, spent, quality["value"], quality.get("ci95") or ())
                drawn.setdefault((name, ordinal), choice)
    return list(drawn.values())


def teacher_of(run: Compared) -> str:
    """What identifies a run's teacher: its hash; of a run without one its settings, and its value of the metric on the test rows."""
    if run.teacher:
        return run.teacher
    settings = {key: value for key, value in run.settings.items() if key.startswith(("teacher.models", "teacher.combine"))}
    value = metric_value(run.facts["models"].get("teacher"), run.facts["primary_metric"])
    return json.dumps([settings if value is None else None, value])


def front_by(runs: Sequence[Compared], cost: str) -> list[Compared]:
    """The runs on the Pareto front among what runs ship, from cheap to dear."""
    known = {str(number): run for number, run in enumerate(runs) if cost_of(run.shipped, cost) is not None}
    ranked = [Choice(mark, run.name, run.form, cost_of(run.shipped, cost) or 0.0, run.value) for mark, run in known.items()]
    return [known[choice.mark] for choice in pareto_front(ranked, metric_of(runs[0].facts))]


def table_cells(runs: Sequence[Compared]) -> list[list[str]]:
    """The table as text: a header, then a row for each run, the best first."""
    described = metric_of(runs[0].facts)
    metric = described.name
    fronts = [front_by(runs, cost) for cost in COSTS]
    cells = [
        [
            "run",
            "ships",
            figure_name(runs[0].facts, metric),
            "95 % interval",
            "of the teacher",
            "gain over alone",
            "p",
            "params",
            "MiB",
            "ms (p50)",
            "rows/s",
            "on a front",
        ]
    ]
    for run in runs:
        interval = run.shipped["quality"][metric].get("ci95")
        teacher = metric_value(run.facts["models"].get("teacher"), metric)
        gain = run.facts.get("gain_over_alone")
        cells.append(
            [
                run.name,
                model_name(run.form),
                f"{run.value:.3f}".replace("-", "−"),
                "–".join(f"{end:.3f}" for end in interval) if interval else _UNKNOWN,
                f"{100 * run.value / teacher:.0f} %" if teacher and teacher > 0 and described.better == "higher" else _UNKNOWN,
                signed_points(gain["value"], described) if gain else _UNKNOWN,
                p_value(gain["p_value"]).removeprefix("p ").removeprefix("= ") if gain else _UNKNOWN,
                short_count(run.shipped.get("parameters")),
                _number(run.shipped.get("size_mib"), 1),
                _number(cost_of(run.shipped, "latency"), 2),
                _number(run.shipped.get("rows_per_second"), 0),
                ", ".join(cost for cost, front in zip(COSTS, fronts, strict=True) if run in front),
            ]
        )
    return cells


def table(runs: Sequence[Compared]) -> Table:
    """A rich table of the runs."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    header, *rows = table_cells(runs)
    shown = [header.index(name) for name in header if name not in ("95 % interval", "params", "rows/s", "p")]
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for place in shown:
        drawn.add_column(header[place], justify="left" if place < 2 else "right", vertical="bottom", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(row[place]) for place in shown))
    return drawn


def differences(runs: Sequence[Compared]) -> list[dict[str, Any]]:
    """The settings of the recipes that are not the same in all runs: their dotted key, and the value in each run.

    One that a recipe does not have is off, as `null` is.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    different = []
    for key in keys:
        values = [_UNKNOWN if run.settings.get(key) is None else json.dumps(run.settings[key], ensure_ascii=False) for run in runs]
        if len(set(values)) > 1:
            different.append({"key": key, "values": [value.strip('"') for value in values]})
    return different


def notes(runs: Sequence[Compared]) -> list[str]:
    """What makes a comparison unfair: other test rows, or another machine."""
    remarks = []
    teachers = {teacher_of(run): run for run in runs}
    if len(teachers) > 1:
        metric = figure_name(runs[0].facts, runs[0].facts["primary_metric"])
        values = [
            (run.name, metric_value(run.facts["models"].get("teacher"), runs[0].facts["primary_metric"])) for run in teachers.values()
        ]
        listed = ", ".join(f"of {name} {'unknown' if value is None else f'{value:.3f}'}" for name, value in values)
        remarks.append(
            f"These runs have different teachers ({metric}: {listed}): what a run keeps of its teacher cannot be compared between them."
        )
    tests = {json.dumps(((run.facts.get("data") or {}).get("test") or {}).get("sha256")) for run in runs}
    if len(tests) > 1:
        remarks.append("These runs were measured on different test rows: their quality cannot be compared.")
    machines = {json.dumps([run.environment.get(key) for key in ("processor", "cores", "threads", "device")]) for run in runs}
    if len(machines) > 1:
        remarks.append("These runs were measured on different machines, or with other threads: their speed cannot be compared.")
    if any((run.facts.get("data") or {}).get("test_is_validation") for run in runs):
        remarks.append("The test rows of a run here are its validation rows, which also chose its checkpoints.")
    return remarks


def flattened(settings: Any, at: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys, as `--set` takes them; a list of plain values is one.

    >>> flattened({"seed": 0, "stages": [{"name": "one", "rows": ["train"]}]})
    {'seed': 0, 'stages.0.name': 'one', 'stages.0.rows': ['train']}
    """
    inside: dict[Any, Any] = {}
    if isinstance(settings, Mapping):
        inside = dict(settings)
    elif isinstance(settings, list) and any(isinstance(item, Mapping) for item in settings):
        inside = dict(enumerate(settings))
    if not inside:
        return {at: settings} if at else {}
    return {
        key: value for name, setting in inside.items() for key, value in flattened(setting, f"{at}.{name}" if at else str(name)).items()
    }


def _number(value: float | None, digits: int) -> str:
    return _UNKNOWN if value is None else f"{value:,.{digits}f}"
