"""A search: its table, its sentence, and one self-contained page with the front of quality over cost."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.evaluation.summary import metric_of
from understudy.reporting.page import PAGE, read_environment, read_facts, write
from understudy.reporting.plots import log_ticks, nice_ticks, scale
from understudy.reporting.table import figure_name

if TYPE_CHECKING:
    from rich.table import Table

    Facts = Mapping[str, Any]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 440, 240, 48, 16, 12, 28
_AXES = {"latency_ms": "milliseconds per row", "size_mib": "MiB on disk"}
FORMS = {"onnx_int8": "int8", "onnx": "ONNX", "torch": "torch"}


def table(facts: Facts) -> Table:
    """The trials of the front, the best first, each with the form that its costs are of."""
    from rich import box
    from rich.table import Table

    header, *rows = (
        row[:-1] for row in cells(facts, [trial for trial in ranked(facts) if trial["number"] in facts["front"]])
    )  # the page has room for all columns
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for number, name in enumerate(header):
        wide = number in (1, 2)
        drawn.add_column(name, justify="left" if wide else "right", overflow="fold", no_wrap=not wide)
    for row in rows:
        drawn.add_row(*row, style="bold" if row[0] == str(facts["best"]["trial"]) else None)
    return drawn


def cells(facts: Facts, trials: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Trials as text: a header, then a row for each."""
    metric = figure_name(facts, facts["primary_metric"])
    rows = [["trial", "student", "recipe and training", metric, "ms (p50)", "MiB", "ships as", "s"]]
    for trial in trials:
        value = trial["ended"] if trial["value"] is None else f"{trial['value']:.3f}"
        costs = (_number(trial.get("latency_ms"), 2), _number(trial.get("size_mib"), 1), FORMS.get(trial["form"], "–"))
        rows.append([str(trial["number"]), *words_of(trial["tried"]), value, *costs, _number(trial["seconds"], 0)])
    return rows


def words_of(tried: Mapping[str, Any]) -> tuple[str, str]:
    """What a trial tries: its student, and its training.

    >>> words_of({"student": "bilstm", "shape": "hidden 64", "recipe": "hinton", "settings": {"epochs": 5, "learning_rate": 0.00123}})
    ('bilstm, hidden 64', 'hinton, epochs 5, learning rate 0.00123')
    """
    settings = (
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in tried["settings"].items()
    )
    return f"{tried['student']}, {tried['shape']}", ", ".join([tried["recipe"], *settings])


def ranked(facts: Facts) -> list[Mapping[str, Any]]:
    """All trials, the best first; those without a value come last."""
    metric = metric_of(facts)
    return sorted(facts["trials"], key=lambda trial: (trial["value"] is None, -metric.signed(trial["value"] or 0.0), trial["number"]))


def verdict(facts: Facts) -> str:
    """The result of the search, in two or three sentences."""
    best, metric = facts["best"], figure_name(facts, facts["primary_metric"])
    teacher = f", the teacher {best['teacher_test']['value']:.3f}" if best["teacher_test"] else ""
    low, high = best["test"]["ci95"]
    within = "within the budget" if best["within_budget"] else "over budget, as measured now"
    sentences = (
        f"Trial {best['trial']} of {len(facts['trials'])} is the best within the budget ({budget(facts)}): {best['student']}, "
        f"{best['shape']}, by recipe {best['recipe']}, with {metric} {best['validation']:.3f} on validation. Distilled again and measured "
        f"once on the test rows it reaches {best['test']['value']:.3f} (95 % interval {low:.3f}–{high:.3f}){teacher}, at "
        f"{amount(best['latency_ms'], 2)} ms per row and {amount(best['size_mib'], 1)} MiB ({FORMS[best['form']]}): {within}."
    )
    if facts["data"]["test_is_validation"]:
        sentences += " No test rows were given: these are the validation rows, which also chose it, so the figure is too good."
    return sentences


def budget(facts: Facts) -> str:
    """The limits, in words."""
    return " and ".join(f"{name} ≤ {limit:g}" for name, limit in facts["budget"].items())


def write_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a search from its folder: `report.html` there, unless `out` names another place."""
    facts, page = read_facts(folder), out or folder / PAGE
    kinds = list(dict.fromkeys(student["kind"] for student in facts["students"]))
    write(
        page,
        "search.html",
        {
            "title": "search",
            "facts": facts,
            "recipe": None,
            "environment": read_environment(folder),
            "verdict": verdict(facts),
            "budget": budget(facts),
            "metric": figure_name(facts, facts["primary_metric"]),
            "kinds": kinds,
            "best_page": os.path.relpath(folder / facts["best"]["folder"] / PAGE, page.parent),
            "plots": [plot for measure in _AXES if (plot := scatter(facts, measure, kinds)) is not None],
            "trials": cells(facts, ranked(facts)),
            "best": str(facts["best"]["trial"]),
            "front": [str(number) for number in facts["front"]],
            "beyond": [student for student in facts["students"] if not student["within_budget"]],
            "forms": FORMS,
        },
    )
    return page


def scatter(facts: Facts, measure: str, kinds: Sequence[str]) -> dict[str, Any] | None:
    """Coordinates of quality over a cost, which is drawn by its logarithm; None where no trial came to its end."""
    done = [trial for trial in facts["trials"] if trial["value"] is not None]
    if not done:
        return None
    limit = facts["budget"].get(measure)
    values = [trial["value"] for trial in done]
    across, up = log_ticks([trial[measure] for trial in done]), nice_ticks(min(values), max(values))

    def x(cost: float) -> float:
        return scale(math.log(cost), [math.log(tick) for tick in across], _LEFT, _WIDTH - _RIGHT)

    def y(value: float) -> float:
        return scale(value, up, _HEIGHT - _BOTTOM, _TOP)

    # The line is the best that can be had for at most so much of this one cost.
    metric = metric_of(facts)
    stairs: list[tuple[float, float]] = []
    reached = up[0 if metric.better == "higher" else -1]
    for trial in sorted(done, key=lambda trial: (trial[measure], -metric.signed(trial["value"]))):
        if metric.lead(trial["value"], reached) > 0 or not stairs:
            stairs += [(x(trial[measure]), y(reached)), (x(trial[measure]), y(trial["value"]))]
            reached = trial["value"]
    stairs.append((_WIDTH - _RIGHT, y(reached)))
    return {
        "title": f"{figure_name(facts, facts['primary_metric'])} over {_AXES[measure]}",
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "top": _TOP,
        "bottom": _HEIGHT - _BOTTOM,
        "up": [{"at": y(value), "text": f"{value:g}"} for value in up],
        "across": [{"at": x(cost), "text": f"{cost:g}"} for cost in across],
        "limit": x(limit) if limit and across[0] <= limit <= across[-1] else None,
        "line": " ".join(f"{a:.1f},{b:.1f}" for a, b in stairs[1:]),
        "dots": [
            {
                "x": x(trial[measure]),
                "y": y(trial["value"]),
                "kind": kinds.index(trial["tried"]["student"]),
                "front": trial["number"] in facts["front"],
                "best": trial["number"] == facts["best"]["trial"],
                "description": f"trial {trial['number']}: {', '.join(words_of(trial['tried']))}: {trial['value']:.3f}",
            }
            for trial in sorted(done, key=lambda trial: trial["number"] in facts["front"])  # the front is drawn over the others
        ],
    }


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}" if value >= 1 else amount(value, digits)


def amount(value: float, digits: int) -> str:
    """A cost in so many decimals, in more where they would all be 0.

    >>> amount(0.1234, 2), amount(0.00012, 2), amount(9.876, 1)
    ('0.12', '0.0001', '9.9')
    """
    rounded = f"{value:.{digits}f}"
    return rounded if float(rounded) or not value else f"{value:.1g}"
