"""One file a task: its columns, its head, its metrics, one real example row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from understudy import parts
from understudy.errors import RecipeError
from understudy.tasks.base import Answer, Fitted, Metric, Task

__all__ = ["Answer", "Fitted", "Metric", "Task", "main_metrics", "metric_named", "task_of"]


def task_of(label_names: Sequence[str] | None, kind: str | None = None) -> Task:
    """The task of a model with these classes, None for a number; of one that does not say, classification or a number."""
    task: Task = parts.part("tasks", kind or ("similarity" if label_names is None else "classification"))(label_names)
    return task


def metric_named(name: str, kind: str | None = None) -> Metric:
    """A metric of a task; where that has none of this name, or is unknown, of the first that has one, or else a fraction.

    >>> metric_named("macro_f1").title, metric_named("masked_accuracy").title
    ('macro F1', 'masked accuracy')
    """
    every = (metric for task in _tasks(kind) for metric in task.metrics if metric.name == name)
    return next(every, Metric(name, name.replace("_", " ")))


def main_metrics(kind: str | None = None) -> list[str]:
    """What is shown of a task where not all metrics are: its first two; then those of all other tasks, which it may have, too."""
    return list(dict.fromkeys(metric.name for task in _tasks(kind) for metric in task.metrics[:2]))


@cache
def _tasks(kind: str | None) -> list[type[Task]]:
    """All tasks, this one first; without it where its file is not here."""
    try:
        first = [parts.part("tasks", kind)] if kind else []
    except RecipeError:
        first = []
    return [*first, *(parts.part("tasks", one) for one in parts.kinds("tasks"))]
