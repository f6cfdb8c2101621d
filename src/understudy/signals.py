"""What objectives read: outputs, hidden states and attention of a model, which of them are needed, and the model's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Attention:
    """Queries, keys and values of one layer, split into heads. Rotary positions are already applied where a model has them.

    Args:
        query, key, value: (rows, heads, positions, head width).
        bias: added to the scores before the softmax; None where a family has none.
        visible: (positions, positions), which token attends to which, padding aside; None where each attends to all.
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
    """Outputs of a model, teacher or student, for one batch.

    Layers are numbered as in the papers: 1 is the first layer, and hidden state 0 is the output of the embeddings.

    Args:
        logits: (rows, classes), or (rows, 1) for a number.
        hidden_states: number of the layer → (rows, positions, width).
        attention: number of the layer → its queries, keys and values.
    """

    logits: Tensor | None = None
    hidden_states: Mapping[int, Tensor] = field(default_factory=dict)
    attention: Mapping[int, Attention] = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    """Which signals of a model an objective reads; the union over objectives decides what is computed and kept.

    Args:
        logits: whether logits are read.
        hidden_states: numbers of the layers whose hidden states are read.
        attention: numbers of the layers whose attention is read.

    >>> Needs(hidden_states={3}) | Needs(logits=True) == Needs(logits=True, hidden_states={3})
    True
    """

    logits: bool = False
    hidden_states: frozenset[int] | set[int] = frozenset()
    attention: frozenset[int] | set[int] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.logits or other.logits, self.hidden_states | other.hidden_states, self.attention | other.attention)

    def __bool__(self) -> bool:
        return self.logits or self.internals

    @property
    def internals(self) -> bool:
        """Whether more than logits is read: hidden states or attention, which no cached output holds."""
        return bool(self.hidden_states or self.attention)


@dataclass(frozen=True)
class Shape:
    """Sizes of a model, which an objective gets before training.

    Args:
        name: for messages, as `student bilstm`.
        outputs: width of the logits; 0 where it is not known.
        layers: number of layers; 0 where a model has none that can be matched with a teacher's.
        width: of the hidden states.
        heads: of each layer's attention.
        why: why it has no layers, for messages.
    """

    name: str
    outputs: int
    layers: int = 0
    width: int = 0
    heads: int = 0
    why: str = ""
