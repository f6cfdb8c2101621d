"""What a kind of student is given, and what it must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from understudy.errors import ModelError

if TYPE_CHECKING:
    from understudy.models.text_model import TextModel


@dataclass(frozen=True)
class Blueprint:
    """What any student may be built from.

    Args:
        texts: every text that training will see, both sides of pairs; vocabularies come from them.
        label_names: classes in the order of the outputs; None for a number.
        pair: rows have a second text.
        max_length: tokens kept of a row; None leaves it to the student.
        seed: of everything drawn at random.
        teacher: None when only the teacher's outputs are known.
        problem_type: what the head is for, as `transformers` calls it; None: one class a row, or a number.
    """

    texts: Sequence[str]
    label_names: tuple[str, ...] | None
    pair: bool = False
    max_length: int | None = None
    seed: int = 0
    teacher: TextModel | None = None
    problem_type: str | None = None

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return 1 if self.label_names is None else len(self.label_names)

    @property
    def head(self) -> str:
        """What the head is for."""
        return self.problem_type or ("regression" if self.label_names is None else "single_label_classification")

    def need_teacher(self, kind: str) -> TextModel:
        """The teacher, or a clear refusal.

        Raises:
            ModelError: the teacher is known by its outputs only.
        """
        if self.teacher is None:
            raise ModelError(
                f"student {kind} is made from the teacher's weights, but only outputs of the teacher are given; "
                "give a model folder as the first --teacher, or pick another student"
            )
        return self.teacher


class Student(ABC):
    """A kind of student; the keyword arguments of `__init__` are its settings in a recipe.

    `training` holds the defaults for `train:` settings that the recipe leaves open (epochs, min_updates, batch_size, learning_rate).
    """

    training: ClassVar[dict[str, Any]]
    autocast: ClassVar[bool] = True  # False where bf16 was measured to be no faster

    def defaults(self) -> dict[str, Any]:
        """`training`, for this student."""
        return self.training

    @property
    def copied(self) -> str:
        """Which of its initial weights are copied from a teacher model, in words for the report; empty: none."""
        return ""

    @abstractmethod
    def build(self, blueprint: Blueprint) -> TextModel:
        """Make the untrained student, with label map and tokenizer, ready to save."""
