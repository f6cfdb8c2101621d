"""Patient: the vector of the whole row in intermediate layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.objectives.base import HiddenStateObjective, mean_over_counted, tokens
from understudy.objectives.layer_map import LayerMap
from understudy.signals import Signals


def patient_distance(
    student_states: Float[Tensor, "rows width"],
    teacher_states: Float[Tensor, "rows width"],
    counted: Bool[Tensor, " rows"],
    *,
    normalised: bool = True,
) -> Float[Tensor, ""]:
    """Mean over counted rows of the squared distance of two vectors; with `normalised`, both are first scaled to length 1.

    Formula: mean over rows of Σ_width (s/‖s‖ − t/‖t‖)², which is 2 − 2·cosine.

    Source: Sun et al. 2019, arXiv:1908.09355, equation 7.

    >>> import torch
    >>> patient_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]]), torch.tensor([True])).item()
    2.0
    """
    if normalised:
        student_states, teacher_states = F.normalize(student_states, dim=-1), F.normalize(teacher_states, dim=-1)
    return mean_over_counted((student_states - teacher_states).square().sum(-1), counted)


class Patient(HiddenStateObjective):
    """Squared distance of the rows' vectors in intermediate layers, summed over the matched layers.

    Pick it for a student made of the teacher's layers; its kin is `hidden_states` (every token). Student and teacher must have the
    same tokens only where `pooled` is `mean`.

    Args:
        layers: `skip` (every k-th layer), `last` (those below the last), `uniform`, `final`, or pairs [student's, teacher's].
        pooled: the vector of a row: of its first token (`first`), or the mean over its tokens (`mean`).
        normalised: scale vectors to length 1. The paper always does. Its code does not by default; its best results on MRPC, SST-2
            and RTE are with it, on MNLI, QNLI and QQP without it.
        scale: `sum` over layers and width, as in the paper; `mean` over both, as in its code, so that its weights can be used.
        projection: where widths differ, learn a linear map for each matched layer (`a_layer`) or one for all (`shared`).

    Source: Sun et al. 2019, arXiv:1908.09355, section 3.2.
    """

    def __init__(
        self,
        *,
        layers: LayerMap = "skip",
        pooled: Literal["first", "mean"] = "first",
        normalised: bool = True,
        scale: Literal["sum", "mean"] = "sum",
        projection: Literal["a_layer", "shared"] = "a_layer",
    ) -> None:
        super().__init__(layers=layers, projection=projection)
        self.pooled, self.normalised, self.scale = pooled, normalised, scale

    @property
    def compares_tokens(self) -> bool:
        return self.pooled == "mean"

    def counted(self, batch: Mapping[str, Any]) -> Tensor:
        """Rows with a counted position: (rows,)."""
        return super().counted(batch).reshape(len(batch["counted"]), -1).any(dim=1)

    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        counted, mask = self.counted(batch), tokens(batch)
        terms = []
        for student_states, teacher_states in self.matched(student, teacher):
            vectors = self._vector(student_states, mask), self._vector(teacher_states, mask)
            distance = patient_distance(*vectors, counted, normalised=self.normalised)
            divisor = len(self.pairs) * teacher_states.shape[-1] if self.scale == "mean" else 1
            terms.append(distance / divisor)
        return sum(terms[1:], start=terms[0])

    def _vector(self, states: Tensor, mask: Tensor) -> Tensor:
        """(rows, positions, width) → (rows, width)."""
        if self.pooled == "first":
            return states[:, 0]
        return states.masked_fill(~mask[..., None], 0.0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
