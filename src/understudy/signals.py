"""The nouns that flow from models to objectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Signals:
    """What a model, teacher or student, says about one batch.

    Args:
        logits: (rows, classes), or (rows, 1) for a number.
    """

    logits: Tensor | None = None


@dataclass(frozen=True)
class Needs:
    """What an objective wants from the teacher; the union over objectives decides what the teacher computes and keeps.

    >>> Needs() | Needs(logits=True)
    Needs(logits=True)
    """

    logits: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(logits=self.logits or other.logits)

    def __bool__(self) -> bool:
        return self.logits
