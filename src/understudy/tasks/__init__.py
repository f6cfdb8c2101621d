"""One file a task: its columns, its head, its metrics, one real example row."""

from understudy.tasks.base import Task

__all__ = ["Task"]
