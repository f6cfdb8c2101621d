"""A narrow transformer's weights from a wide one's: every matrix projected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from understudy.errors import ModelError
from understudy.models import encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from understudy.models.text_model import TextModel

TEXTS, TOKENS = 256, 128  # of the data, and of each text, to see which directions of the hidden states are used
BATCH = 32


class Directions:
    """The directions of the teacher's hidden states that a narrower student keeps, and how its weights follow from them.

    Formula: the student's hidden state is c·Qᵀx for the teacher's x. The columns of Q are orthonormal; they span the constant vector
    and the directions of largest energy beside it, and are turned so that the constant vector stays one: a layer norm takes off the
    same mean in both. c makes states as long as the student's layer norms make them; at full width it is 1.

    Args:
        moment: the second moment of hidden states.
        width: of the student.
    """

    def __init__(self, moment: Float[Tensor, "whole whole"], width: int) -> None:
        whole = len(moment)
        moment = moment.double()
        constant = torch.full((whole, 1), whole**-0.5, dtype=torch.float64)
        beside = torch.eye(whole, dtype=torch.float64) - constant @ constant.T
        # The constant vector is put below all others, so that none of them holds any of it even where energies are 0.
        energies = beside @ moment @ beside - moment.trace() * constant @ constant.T
        largest = torch.linalg.eigh(energies).eigenvectors.flip(1)[:, : width - 1]
        kept = torch.cat([constant, largest], dim=1)
        # A reflection that swaps the first axis for the student's constant vector.
        mirror = torch.full((width, 1), width**-0.5, dtype=torch.float64)
        mirror[0] -= 1
        if width > 1:
            kept = kept - 2 * kept @ mirror @ mirror.T / mirror.square().sum()
        self.kept = kept
        captured = (kept.T @ moment @ kept).trace() / moment.trace()
        self.scale = float((width / whole / captured).sqrt())

    def states(self, vectors: Tensor) -> Tensor:
        """Hidden states, or what is added to them."""
        return self.scale * vectors.double() @ self.kept

    def reading(self, weight: Tensor) -> Tensor:
        """A map from hidden states to something else."""
        return weight.double() @ self.kept / self.scale

    def writing(self, weight: Tensor) -> Tensor:
        """A map from something else to hidden states."""
        return self.scale * self.kept.T @ weight.double()

    def gains(self, weight: Tensor) -> Tensor:
        """Gains of a layer norm. Turned they are no diagonal, unless they are all alike; what is on it is taken."""
        return self.kept.square().T @ weight.double()


@torch.no_grad()
def project(student: PreTrainedModel, teacher: TextModel, rows: Sequence[int], texts: Sequence[str]) -> None:
    """Start a student from the teacher's weights, in place.

    Layer m starts from the teacher's layer m·N/M. A head's queries and keys are the best of their rank for the product of the
    teacher's, its values and outputs likewise; where a head stands for several of the teacher's, the mean of their scores and the sum
    of what they write. Of neurons, in the feed-forward part and in the head, those with the longest weights stay; where there are more
    than the teacher's, the others write nothing yet. Exact, but for rounding, where nothing is left out and the gains of
    each layer norm are alike.

    Args:
        student: of the teacher's family.
        rows: for each token of the student the row of the teacher's table.
        texts: of the task; the hidden states that they give decide which directions stay.

    Raises:
        ModelError: a family that is not made so, or a student that is wider or deeper than the teacher.

    Source: keeping the principal directions of the hidden states is the idea of Ashkboos et al. 2024, arXiv:2401.15024, for models whose
    norms come first. Departs: here norms come after the sums, where their gains cannot be folded into the next map; the heads become
    fewer and narrower too, by truncated singular value decompositions.
    """
    whole, wide = teacher.model, teacher.model.config.hidden_size
    count, available = len(encoder.layers(student)), len(encoder.layers(whole))
    width = student.config.hidden_size
    if count > available or width > wide:
        raise ModelError(
            f"student.initialize is 'projection', but student.layers is {count} and student.width {width}: "
            f"at most the teacher's {available} and {wide} can be projected"
        )
    if encoder.word_embeddings(whole).embedding_dim != wide:
        raise ModelError(
            f"student.initialize is 'projection', but {type(whole).__name__} has embeddings narrower than its layers; take 'teacher', "
            "which copies the word embeddings only"
        )
    blocks = [
        (encoder.block(student, number), encoder.block(whole, number * available // count))
        for number in range(1, count + 1)
    ]
    directions = Directions(_moment(teacher, texts), width)
    groups = _groups(student.config.num_attention_heads, whole.config.num_attention_heads)
    _embeddings(student, whole, rows, directions)
    for own, other in blocks:
        _attention(own, other, groups, directions)
        _norm(own.attention_norm, other.attention_norm, directions)
        _neurons(own.up, own.down, other.up, directions.writing(other.down.weight), directions)
        own.down.bias.copy_(directions.states(other.down.bias))
        _norm(own.norm, other.norm, directions)
    bias, own_bias = encoder.distance_bias(whole), encoder.distance_bias(student)
    if bias is not None and own_bias is not None:
        own_bias.weight.copy_(torch.stack([bias.weight[:, members].mean(1) for members, _ in groups], dim=1))
    _head(student, whole, directions)


def _moment(teacher: TextModel, texts: Sequence[str]) -> Tensor:
    """Second moment of the hidden states of all layers for texts spread over the data."""
    total: Any = 0
    chosen = texts[:: max(1, len(texts) // TEXTS)][:TEXTS]
    length = min(teacher.max_length, TOKENS)
    for start in range(0, len(chosen), BATCH):
        batch = teacher.tokenizer(
            list(chosen[start : start + BATCH]), truncation=True, max_length=length, padding=True, return_tensors="pt"
        ).to(teacher.model.device)
        for states in teacher.model.base_model(**batch, output_hidden_states=True).hidden_states:
            counted = states[batch["attention_mask"].bool()].double().cpu()
            total = total + counted.T @ counted
    return total


def _groups(own: int, other: int) -> list[tuple[list[int], int]]:
    """For each head the teacher's heads that it stands for, and its place among those that share one.

    >>> _groups(2, 4), _groups(4, 2)
    ([([0, 1], 0), ([2, 3], 0)], [([0], 0), ([0], 1), ([1], 0), ([1], 1)])
    """
    if own <= other:
        return [([head for head in range(other) if head * own // other == number], 0) for number in range(own)]
    stands_for = [number * other // own for number in range(own)]
    return [([head], stands_for[:number].count(head)) for number, head in enumerate(stands_for)]


def _embeddings(
    student: PreTrainedModel, teacher: PreTrainedModel, rows: Sequence[int], directions: Directions
) -> None:
    words = encoder.word_embeddings(teacher)
    own: dict[str, Any] = dict(encoder.embeddings(student).named_modules())
    for name, module in encoder.embeddings(teacher).named_modules():
        if isinstance(module, nn.Embedding):
            own[name].weight.copy_(directions.states(module.weight[list(rows)] if module is words else module.weight))
        elif isinstance(module, nn.LayerNorm):
            _norm(own[name], module, directions)


def _norm(own: nn.LayerNorm, other: nn.LayerNorm, directions: Directions) -> None:
    own.weight.copy_(directions.gains(other.weight))
    own.bias.copy_(directions.states(other.bias))


def _attention(
    own: encoder.Block, other: encoder.Block, groups: list[tuple[list[int], int]], directions: Directions
) -> None:
    maps: list[Any] = [own.attention.query, own.attention.key, own.attention.value]
    query, key, value = maps
    theirs: list[Any] = [other.attention.query, other.attention.key, other.attention.value]
    # A bias is one more column: the product of queries and keys is then whole.
    queries, keys = (
        torch.cat([directions.reading(one.weight), one.bias.double()[:, None]], dim=1).chunk(other.attention.heads)
        for one in theirs[:2]
    )
    values = directions.reading(theirs[2].weight).chunk(other.attention.heads)
    outputs = directions.writing(other.output.weight).chunk(other.attention.heads, dim=1)
    size, whole = query.out_features // own.attention.heads, theirs[0].out_features // other.attention.heads
    for number, (members, place) in enumerate(groups):
        here = slice(number * size, (number + 1) * size)
        # Scores are divided by the root of a head's width, which is another one now.
        scores = torch.stack([queries[head].T @ keys[head] for head in members]).mean(0) * (size / whole) ** 0.5
        left, right = factors(scores, size, drawn=torch.cat([key.weight[here], key.bias[here, None]], dim=1))
        query.weight[here], query.bias[here] = left.T[:, :-1].float(), left.T[:, -1].float()
        key.weight[here], key.bias[here] = right[:, :-1].float(), right[:, -1].float()
        # Heads that share one of the teacher's each write a part of what it writes.
        written = torch.stack([outputs[head] @ values[head] for head in members]).sum(0)
        left, right = factors(written, size, first=place * size, drawn=value.weight[here])
        own.output.weight[:, here], value.weight[here] = left.float(), right.float()
    # A row's attention sums to 1, so that the values' bias is written whatever is looked at.
    value.bias.zero_()
    own.output.bias.copy_(directions.states(other.output.bias + other.output.weight @ theirs[2].bias))


def factors(product: Tensor, rank: int, *, first: int = 0, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Two matrices whose product is nearest to this one; where it has no more ranks, the left is zero and the right as drawn.

    Args:
        first: leave out this many ranks, the largest.
        drawn: what the right one was before: were both zero, neither would ever learn.

    >>> left, right = factors(torch.tensor([[3.0, 0.0], [0.0, 2.0]]).double(), 1, drawn=torch.ones(1, 2))
    >>> (left @ right).round(decimals=6).tolist()
    [[3.0, 0.0], [0.0, 0.0]]
    """
    left, sizes, right = torch.linalg.svd(product)
    chosen = slice(first, first + rank)
    there, roots = sizes[chosen] > 1e-9 * sizes[0], sizes[chosen].sqrt()
    return left[:, chosen] * (roots * there), torch.where(
        there[:, None], roots[:, None] * right[chosen], drawn.double()
    )


def _neurons(own_up: Any, own_down: Any, up: Any, writing: Tensor, directions: Directions) -> None:
    """Neurons between two maps, in the teacher's order: those that are read and write with the longest weights."""
    reading = directions.reading(up.weight)
    strength = reading.norm(dim=1) * writing.norm(dim=0)
    chosen = strength.argsort(descending=True, stable=True)[: own_up.out_features].sort().values
    own_up.weight[: len(chosen)], own_up.bias[: len(chosen)] = reading[chosen].float(), up.bias[chosen]
    own_down.weight.zero_()
    own_down.weight[:, : len(chosen)] = writing[:, chosen].float()


def _head(student: PreTrainedModel, teacher: PreTrainedModel, directions: Directions) -> None:
    """The dense layer and the logits; as drawn where the classes are others."""
    (own_dense, own_out), (dense, out) = (
        [
            one
            for module in encoder.head_modules(model).values()
            for one in module.modules()
            if isinstance(one, nn.Linear)
        ]
        for model in (student, teacher)
    )
    if own_out.out_features == out.out_features:
        _neurons(own_dense, own_out, dense, out.weight.double(), directions)
        own_out.bias.copy_(out.bias)
