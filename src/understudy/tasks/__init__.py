"""One file a task: its columns, its head, its metrics, one real example row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from understudy import parts
from understudy.errors import ModelError
from understudy.tasks.base import NOTHING, TEXTS, Answer, Column, Fitted, Metric, Task, schema_of

__all__ = [
    "NOTHING",
    "TEXTS",
    "Answer",
    "Column",
    "Fitted",
    "Metric",
    "Task",
    "check_head",
    "column_names",
    "main_metrics",
    "metric_named",
    "own_task",
    "schema_of",
    "task_of",
]

_HEADS = {
    "regression": "regression",
    "single_label_classification": "classification",
    "multi_label_classification": "multi-label classification",
}


def task_of(label_names: Sequence[str] | None, kind: str | None = None, problem_type: str | None = None) -> Task:
    """A task with these classes, None where it has none.

    Args:
        kind: None takes the one that heads of this `problem_type` are for; where that is not known either, classification or a number.
    """
    if kind is None:
        head = problem_type or ("regression" if label_names is None else "single_label_classification")
        kind = next(one for one in parts.kinds("tasks") if parts.part("tasks", one).problem_type == head)
    task: Task = parts.part("tasks", kind)(label_names)
    return task


def metric_named(name: str, kind: str | None = None) -> Metric:
    """A metric of a task; where that has none of this name, or is unknown, of the first that has one, or else a fraction.

    >>> metric_named("macro_f1").title, metric_named("masked_accuracy").title
    ('macro F1', 'masked accuracy')
    """
    every = (metric for task in _tasks(kind) for metric in task.metrics if metric.name == name)
    return next(every, Metric(name, name.replace("_", " ")))


def check_head(task: Task, problem_type: str, where: str) -> None:
    """Refuse a model whose head is for something else.

    Raises:
        ModelError: with both.
    """
    if problem_type != task.problem_type:
        kind = next((kind for kind in parts.kinds("tasks") if parts.part("tasks", kind).problem_type == problem_type), None)
        way = f"; for this model give --task {kind}" if kind else ""
        raise ModelError(f"{where}: a {_HEADS.get(problem_type, problem_type)} model, but --task is {task.kind()}{way}")


def own_task(folder: Any, kind: str) -> str:
    """What to say where a folder names a task that is code in a file: such code runs only where the user names it."""
    return f"{folder}: its task, {kind}, is code in a file, which runs only where you name it: --task ./mine.py:MyTask (in Python, task=…)"


def column_names() -> tuple[str, ...]:
    """The names of the columns of all tasks here.

    >>> column_names()
    ('text', 'text_pair', 'label', 'labels')
    """
    return tuple(dict.fromkeys(column.name for task in _tasks(None) for column in task.columns))


def main_metrics(kind: str | None = None) -> list[str]:
    """What is shown of a task where not all metrics are: its first two; then those of all other tasks, which it may have, too."""
    return list(dict.fromkeys(metric.name for task in _tasks(kind) for metric in task.metrics[:2]))


@cache
def _tasks(kind: str | None) -> list[type[Task]]:
    """All tasks here, this one first where it is one of them."""
    here = sorted(parts.kinds("tasks"), key=lambda one: one != kind)
    return [parts.part("tasks", one) for one in here]
