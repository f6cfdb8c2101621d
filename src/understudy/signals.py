"""The nouns that flow from models to objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Attention:
    """What one layer's attention compares, heads apart and positions already mixed in where a family does so.

    Args:
        query, key, value: (rows, heads, positions, head width).
        bias: added to the scores before the softmax; None where a family has none.
        visible: (positions, positions), which token sees which, padding aside; None where each sees all.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None = None
    visible: Tensor | None = None

    @property
    def scores(self) -> Tensor:
        """query · key / √(head width), before mask and softmax: (rows, heads, positions, positions)."""
        scores = self.query @ self.key.transpose(-1, -2) / self.query.shape[-1] ** 0.5
        return scores if self.bias is None else scores + self.bias


@dataclass(frozen=True)
class Signals:
    """What a model, teacher or student, says about one batch.

    Layers are numbered as in the papers: 1 is the first layer, and hidden state 0 is what the embeddings give.

    Args:
        logits: (rows, classes), or (rows, 1) for a number.
        hidden_states: number → (rows, positions, width).
        attention: number → what that layer's attention compares.
    """

    logits: Tensor | None = None
    hidden_states: Mapping[int, Tensor] = field(default_factory=dict)
    attention: Mapping[int, Attention] = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    """What an objective wants of a model; the union over objectives decides what is computed and kept.

    >>> Needs(hidden_states={3}) | Needs(logits=True) == Needs(logits=True, hidden_states={3})
    True
    """

    logits: bool = False
    hidden_states: frozenset[int] | set[int] = frozenset()
    attention: frozenset[int] | set[int] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.logits or other.logits, self.hidden_states | other.hidden_states, self.attention | other.attention
        )

    def __bool__(self) -> bool:
        return self.logits or self.internals

    @property
    def internals(self) -> bool:
        """More than logits, so that no kept output can give it."""
        return bool(self.hidden_states or self.attention)


@dataclass(frozen=True)
class Shape:
    """What an objective is told of a model before training.

    Args:
        name: for messages, as `student bilstm`.
        outputs: width of the logits; 0 where it is not known.
        layers: how many; 0 where a model has none that a teacher's could be matched with.
        width: of the hidden states.
        heads: of each attention.
        why: it has no layers, for messages.
    """

    name: str
    outputs: int
    layers: int = 0
    width: int = 0
    heads: int = 0
    why: str = ""
