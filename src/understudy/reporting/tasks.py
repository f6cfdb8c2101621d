"""The result of a run of several tasks: a table for the terminal and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from understudy.evaluation.summary import metric_of
from understudy.reporting.table import MODEL_NAMES, gain_is_shown, model_name, p_value, short_count

if TYPE_CHECKING:
    from rich.table import Table

_UNKNOWN = "–"


def table(facts: Mapping[str, Any]) -> Table:
    """A rich table: a row for each task with its metric for each model and the gain over the student alone; the means come last."""
    from rich import box
    from rich.table import Table

    header, *rows = table_cells(facts)
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for place, name in enumerate(header):
        drawn.add_column(name, justify="left" if place < 2 else "right", vertical="bottom")
    for row in rows:
        drawn.add_row(*row, style="bold" if row is rows[-1] else None)
    return drawn


def table_cells(facts: Mapping[str, Any]) -> list[list[str]]:
    """The table as text: a header, a row for each task, and the mean."""
    measured = {model for task_facts in facts["tasks"].values() for model in task_facts["value"]}
    models = [model for model in MODEL_NAMES if model in measured]
    cells = [["", "", *map(model_name, models), "gain over alone", "p"]]
    for task, task_facts in facts["tasks"].items():
        gain = task_facts["gain_over_alone"]
        cells.append(
            [
                task,
                metric_of(task_facts).title,
                *(_number(task_facts["value"].get(model)) for model in models),
                _gain(gain and gain["value"]),
                p_value(gain["p_value"]).removeprefix("p ").removeprefix("= ") if gain else _UNKNOWN,
            ]
        )
    mean = facts["mean"]
    cells.append(["mean", "", *(_number(mean.get(model)) for model in models), _gain(facts["gain_over_alone"]), ""])
    return cells


def warnings(facts: Mapping[str, Any]) -> list[str]:
    """What should be corrected first, task by task, in the words of each task's page."""
    return [
        f"{task}: {finding['text']} {finding['advice']}"
        for task, task_facts in facts["tasks"].items()
        for finding in task_facts.get("findings") or []
        if not finding["good"]
    ]


def verdict(facts: Mapping[str, Any]) -> str:
    """How large the student is, and on which tasks the teachers are shown to have helped or harmed."""
    tasks = facts["tasks"]
    sentence = f"One student of {short_count(facts['parameters'])} parameters for {len(tasks)} tasks"
    gains = {task: task_facts["gain_over_alone"] for task, task_facts in tasks.items() if task_facts["gain_over_alone"]}
    if not gains:
        return f"{sentence}; whether the teachers helped is unknown, as no student was trained without them."
    better = [task for task, gain in gains.items() if gain_is_shown(gain) and gain["value"] > 0]
    worse = [task for task, gain in gains.items() if gain_is_shown(gain) and gain["value"] < 0]
    parts = [f"{word} on {', '.join(which)}" for word, which in (("better", better), ("worse", worse)) if which]
    control = "than the same student on the labels alone"
    if not parts:
        return f"{sentence}; no statistically significant gain over the same student on the labels alone on any of them."
    return f"{sentence}; it is {' and '.join(parts)} {control}."


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.3f}".replace("-", "−")


def _gain(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:+.3f}".replace("-", "−")
