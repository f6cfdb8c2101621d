"""Hidden states: the vector of every token after each matched layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jaxtyping import Bool, Float
from torch import Tensor

from understudy.objectives.base import HiddenStateObjective, mean_over_counted, tokens
from understudy.objectives.layer_map import LayerMap
from understudy.signals import Signals


def hidden_state_mse(
    student_states: Float[Tensor, "*batch width"], teacher_states: Float[Tensor, "*batch width"], counted: Bool[Tensor, "*batch"]
) -> Float[Tensor, ""]:
    """Mean squared difference over counted tokens and width. Unit: squared activations.

    Formula: mean over tokens of (1/width) Σ (s − t)². The mean is over counted tokens. Implementations that take `mse_loss` of padded
    tensors include padding, so that their value depends on the longest row of the batch.

    Source: Jiao et al. 2020, arXiv:1909.10351, equations 8 and 9.

    >>> import torch
    >>> student, teacher = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 3.0], [9.0, 9.0]]])
    >>> hidden_state_mse(student, teacher, torch.tensor([[True, False]])).item()  # (1 + 9) / 2; padding does not count
    5.0
    """
    return mean_over_counted((student_states - teacher_states).square().mean(-1), counted)


class HiddenStates(HiddenStateObjective):
    """Squared difference of hidden states of matched layers, mean over tokens and width, summed over the matched layers.

    Pick it to train all layers of a student at once, before its head (TinyBERT). Its kin are `patient` (one vector a row) and
    `relations` (no widths to match). Student and teacher must have the same tokens.

    Args:
        layers: `uniform`, `skip`, `last`, `final`, or pairs [student's, teacher's], where 0 is the output of the embeddings.
        projection: where widths differ, learn a linear map for each matched layer (`a_layer`) or one for all (`shared`).

    Source: Jiao et al. 2020, arXiv:1909.10351, section 3.1. The paper projects each layer, its first code shared one map.
    """

    def __init__(self, *, layers: LayerMap = "uniform", projection: Literal["a_layer", "shared"] = "a_layer") -> None:
        super().__init__(layers=layers, projection=projection)

    def counted(self, batch: Mapping[str, Any]) -> Tensor:
        return tokens(batch)

    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        counted = self.counted(batch)
        terms = [hidden_state_mse(*states, counted) for states in self.matched(student, teacher)]
        return sum(terms[1:], start=terms[0])
