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
        """Hidden states, or vectors added to them: (…, teacher width) → (…, student width)."""
        return self.scale * vectors.double() @ self.kept

    def reading(self, weight: Tensor) -> Tensor:
        """The weight of a map from hidden states: (outputs, teacher width) → (outputs, student width)."""
        return weight.double() @ self.kept / self.scale

    def writing(self, weight: Tensor) -> Tensor:
        """The weight of a map to hidden states: (teacher width, inputs) → (student width, inputs)."""
        return self.scale * self.kept.T @ weight.double()

    def gains(self, weight: Tensor) -> Tensor:
        """Gains of a layer norm: (teacher width,) → (student width,). Projected they form a matrix, of which the diagonal is kept."""
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
    blocks = [(encoder.block(student, number), encoder.block(whole, number * available // count)) for number in range(1, count + 1)]
    directions = Directions(_moment(teacher, texts), width)
    groups = _groups(student.config.num_attention_heads, whole.config.num_attention_heads)
    _embeddings(student, whole, rows, directions)
    for student_block, teacher_block in blocks:
        _attention(student_block, teacher_block, groups, directions)
        _norm(student_block.attention_norm, teacher_block.attention_norm, directions)
        _neurons(student_block.up, student_block.down, teacher_block.up, directions.writing(teacher_block.down.weight), directions)
        student_block.down.bias.copy_(directions.states(teacher_block.down.bias))
        _norm(student_block.norm, teacher_block.norm, directions)
    teacher_bias, student_bias = encoder.distance_bias(whole), encoder.distance_bias(student)
    if teacher_bias is not None and student_bias is not None:
        student_bias.weight.copy_(torch.stack([teacher_bias.weight[:, members].mean(1) for members, _ in groups], dim=1))
    _head(student, whole, directions)


def _moment(teacher: TextModel, texts: Sequence[str]) -> Tensor:
    """Second moment of the hidden states of all layers, (width, width), for texts spread over the data."""
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


def _groups(heads: int, teacher_heads: int) -> list[tuple[list[int], int]]:
    """For each head the teacher's heads that it stands for, and its place among those that share one.

    >>> _groups(2, 4), _groups(4, 2)
    ([([0, 1], 0), ([2, 3], 0)], [([0], 0), ([0], 1), ([1], 0), ([1], 1)])
    """
    if heads <= teacher_heads:
        return [([head for head in range(teacher_heads) if head * heads // teacher_heads == number], 0) for number in range(heads)]
    stands_for = [number * teacher_heads // heads for number in range(heads)]
    return [([head], stands_for[:number].count(head)) for number, head in enumerate(stands_for)]


def _embeddings(student: PreTrainedModel, teacher: PreTrainedModel, rows: Sequence[int], directions: Directions) -> None:
    words = encoder.word_embeddings(teacher)
    student_modules: dict[str, Any] = dict(encoder.embeddings(student).named_modules())
    for name, module in encoder.embeddings(teacher).named_modules():
        if isinstance(module, nn.Embedding):
            student_modules[name].weight.copy_(directions.states(module.weight[list(rows)] if module is words else module.weight))
        elif isinstance(module, nn.LayerNorm):
            _norm(student_modules[name], module, directions)


def _norm(student_norm: nn.LayerNorm, teacher_norm: nn.LayerNorm, directions: Directions) -> None:
    student_norm.weight.copy_(directions.gains(teacher_norm.weight))
    student_norm.bias.copy_(directions.states(teacher_norm.bias))


def _attention(
    student_block: encoder.Block, teacher_block: encoder.Block, groups: list[tuple[list[int], int]], directions: Directions
) -> None:
    maps: list[Any] = [student_block.attention.query, student_block.attention.key, student_block.attention.value]
    query, key, value = maps
    teacher_maps: list[Any] = [teacher_block.attention.query, teacher_block.attention.key, teacher_block.attention.value]
    # A bias is one more column: the product of queries and keys is then whole.
    queries, keys = (
        torch.cat([directions.reading(linear.weight), linear.bias.double()[:, None]], dim=1).chunk(teacher_block.attention.heads)
        for linear in teacher_maps[:2]
    )
    values = directions.reading(teacher_maps[2].weight).chunk(teacher_block.attention.heads)
    outputs = directions.writing(teacher_block.output.weight).chunk(teacher_block.attention.heads, dim=1)
    size, whole = (query.out_features // student_block.attention.heads, teacher_maps[0].out_features // teacher_block.attention.heads)
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
        student_block.output.weight[:, here], value.weight[here] = left.float(), right.float()
    # A row's attention sums to 1, so that the values' bias is always added in full.
    value.bias.zero_()
    student_block.output.bias.copy_(directions.states(teacher_block.output.bias + teacher_block.output.weight @ teacher_maps[2].bias))


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
    kept, roots = sizes[chosen] > 1e-9 * sizes[0], sizes[chosen].sqrt()
    return left[:, chosen] * (roots * kept), torch.where(kept[:, None], roots[:, None] * right[chosen], drawn.double())


def _neurons(student_up: Any, student_down: Any, teacher_up: Any, writing: Tensor, directions: Directions) -> None:
    """Neurons between two maps, in the teacher's order: those that are read and write with the longest weights."""
    reading = directions.reading(teacher_up.weight)
    strength = reading.norm(dim=1) * writing.norm(dim=0)
    chosen = strength.argsort(descending=True, stable=True)[: student_up.out_features].sort().values
    student_up.weight[: len(chosen)], student_up.bias[: len(chosen)] = reading[chosen].float(), teacher_up.bias[chosen]
    student_down.weight.zero_()
    student_down.weight[:, : len(chosen)] = writing[:, chosen].float()


def _head(student: PreTrainedModel, teacher: PreTrainedModel, directions: Directions) -> None:
    """The dense layer and the logits; as drawn where the classes are others."""
    (student_dense, student_out), (teacher_dense, teacher_out) = (
        [linear for module in encoder.head_modules(model).values() for linear in module.modules() if isinstance(linear, nn.Linear)]
        for model in (student, teacher)
    )
    if student_out.out_features == teacher_out.out_features:
        _neurons(student_dense, student_out, teacher_dense, teacher_out.weight.double(), directions)
        student_out.bias.copy_(teacher_out.bias)
