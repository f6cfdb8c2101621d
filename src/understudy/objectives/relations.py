"""Relations: products of the vectors of every two tokens of a row, which models of any width have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.errors import RecipeError
from understudy.objectives.attention_scores import attention_kl
from understudy.objectives.base import LayerObjective, tokens
from understudy.objectives.layer_map import LayerMap
from understudy.signals import Shape, Signals


def relation_scores(
    vectors: Float[Tensor, "rows heads positions head_width"], relation_heads: int
) -> Float[Tensor, "rows relation_heads positions positions"]:
    """Scaled products of the vectors of every two tokens, after the heads are joined and split into `relation_heads`.

    Formula: A·Aᵀ/√d, where A is one of `relation_heads` slices of the joined vectors and d its width.

    Source: Wang et al. 2021, arXiv:2012.15828, section 3.1.

    >>> import torch
    >>> relation_scores(torch.tensor([[[[1.0], [2.0]], [[3.0], [0.0]]]]), 1)  # joined: (1, 3) and (2, 0)
    tensor([[[[7.0711, 1.4142],
              [1.4142, 2.8284]]]])
    """
    rows, _, positions, _ = vectors.shape
    joined = vectors.transpose(1, 2).reshape(rows, positions, relation_heads, -1).transpose(1, 2)
    return joined @ joined.transpose(-1, -2) / joined.shape[-1] ** 0.5


def relation_kl(
    student_vectors: Float[Tensor, "rows heads positions head_width"],
    teacher_vectors: Float[Tensor, "rows heads_of_teacher positions head_width_of_teacher"],
    counted: Bool[Tensor, "rows positions"],
    *,
    relation_heads: int,
) -> Float[Tensor, ""]:
    """Mean over relation heads and counted tokens of KL(teacher ‖ student) of the relations' softmax. Unit: nats.

    Number and width of heads may differ: only the products of tokens are compared.

    Source: Wang et al. 2021, arXiv:2012.15828, equations 3 to 7.

    >>> import torch
    >>> same = torch.randn(1, 2, 3, 4)
    >>> relation_kl(same, same, torch.ones(1, 3, dtype=torch.bool), relation_heads=4).item()
    0.0
    """
    student, teacher = (relation_scores(vectors, relation_heads) for vectors in (student_vectors, teacher_vectors.detach()))
    return attention_kl(student, teacher, counted)


class Relations(LayerObjective):
    """KL of the relations among queries, among keys and among values, mean over heads and tokens, summed over the three.

    Pick it for a student of any width and number of heads (MiniLM v2). One matched layer is enough, so that the depth is free too.
    Student and teacher must have the same tokens. For ModernBERT, queries and keys are compared after their rotation.

    Args:
        layers: `final`, or pairs [student's, teacher's]; for large teachers the paper takes a layer above the middle.
        relation_heads: how many heads the joined vectors are split into; it divides both widths. None: the largest number that does
            and is at most the teacher's number of heads. The paper takes 48 for 12 heads: more heads, finer relations.
        of: which relations; None: all three.

    Raises:
        ValueError: `of` is empty.

    Source: Wang et al. 2021, arXiv:2012.15828. No official code for the objective was published; this is written from the paper.
    """

    def __init__(
        self, *, layers: LayerMap = "final", relation_heads: int | None = None, of: list[Literal["query", "key", "value"]] | None = None
    ) -> None:
        super().__init__(layers=layers)
        if of is not None and not of:
            raise ValueError("of is empty; name some of query, key and value, or leave it out for all three")
        self.relation_heads, self.of = relation_heads, of or ["query", "key", "value"]

    def prepare(self, *, labels: np.ndarray, student: Shape, teacher: Shape) -> None:
        super().prepare(labels=labels, student=student, teacher=teacher)
        common = math.gcd(student.width, teacher.width)
        allowed = [heads for heads in range(1, common + 1) if common % heads == 0]
        if self.relation_heads is None:
            self.relation_heads = max(heads for heads in allowed if heads <= teacher.heads)
        if self.relation_heads not in allowed:
            raise RecipeError(
                f"relations.relation_heads is {self.relation_heads}; it must divide the widths {student.width} (student) and "
                f"{teacher.width} (teacher): {', '.join(map(str, allowed))}"
            )

    def counted(self, batch: Mapping[str, Any]) -> Tensor:
        return tokens(batch)

    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        assert self.relation_heads is not None
        counted = self.counted(batch)
        terms = [
            relation_kl(
                getattr(student.attention[student_layer], name),
                getattr(teacher.attention[teacher_layer], name),
                counted,
                relation_heads=self.relation_heads,
            )
            for student_layer, teacher_layer in self.pairs
            for name in self.of
        ]
        return sum(terms[1:], start=terms[0])
