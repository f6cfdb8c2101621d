"""Students: one file a kind. Each builds a `PreTrainedModel` with its tokenizer from a `Blueprint`."""

from understudy.students.base import Blueprint, Student

__all__ = ["Blueprint", "Student"]
