"""Cosine: the direction of the last hidden states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.objectives.base import HiddenStateObjective, mean_over_counted, tokens
from understudy.objectives.layer_map import LayerMap
from understudy.signals import Signals


def cosine_distance(
    student_states: Float[Tensor, "*batch width"], teacher_states: Float[Tensor, "*batch width"], counted: Bool[Tensor, "*batch"]
) -> Float[Tensor, ""]:
    """Mean over counted tokens of 1 − cosine(student, teacher), between 0 and 2.

    Source: Sanh et al. 2019, arXiv:1910.01108, section 3.

    >>> import torch
    >>> cosine_distance(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 2.0]]]), torch.tensor([[True]])).item()
    1.0
    """
    return mean_over_counted(1 - F.cosine_similarity(student_states, teacher_states, dim=-1), counted)


class Cosine(HiddenStateObjective):
    """1 − cosine of the last hidden states, mean over tokens, summed over the matched layers.

    Pick it where the student has the teacher's width (DistilBERT). It leaves the length of the vectors free, which `hidden_states`
    does not. Student and teacher must have the same tokens.

    Args:
        layers: `final`, or any other map of `hidden_states`.
        projection: where widths differ, learn a linear map for each matched layer (`a_layer`) or one for all (`shared`).

    Source: Sanh et al. 2019, arXiv:1910.01108, section 3.
    """

    def __init__(self, *, layers: LayerMap = "final", projection: Literal["a_layer", "shared"] = "a_layer") -> None:
        super().__init__(layers=layers, projection=projection)

    def counted(self, batch: Mapping[str, Any]) -> Tensor:
        return tokens(batch)

    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        counted = self.counted(batch)
        terms = [cosine_distance(*states, counted) for states in self.matched(student, teacher)]
        return sum(terms[1:], start=terms[0])
