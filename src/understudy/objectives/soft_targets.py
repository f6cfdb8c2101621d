"""Soft targets: the teacher's probabilities at a temperature."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.errors import RecipeError
from understudy.objectives.base import Objective, mean_over_counted
from understudy.signals import Signals


def forward_kl(
    student_logits: Float[Tensor, "*batch classes"],
    teacher_logits: Float[Tensor, "*batch classes"],
    counted: Bool[Tensor, "*batch"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean KL(teacher ‖ student) over counted positions, times temperature². Unit: nats.

    Pick it when the teacher's doubts among classes should be learned; its nearest kin is `logit_regression`, which it
    approaches as the temperature grows (this tends to half the squared difference of zero-meaned logits, averaged over classes).

    Formula: T² · mean over positions of Σ_c p_c · (log p_c − log q_c), with p = softmax(teacher / T), q = softmax(student / T).
    The sum is over classes (`KLDivLoss` by default divides by their number); T² keeps the gradient's size as T changes.

    Args:
        student_logits: gradient flows here.
        teacher_logits: a target; no gradient.
        counted: positions that matter; padding is False.
        temperature: T > 0.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.

    >>> import torch
    >>> teacher = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/4 and 3/4
    >>> round(forward_kl(torch.zeros(1, 2), teacher, torch.tensor([True])).item(), 4)  # ¼·ln ½ + ¾·ln 3⁄2
    0.1308
    """
    student = F.log_softmax(student_logits / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    per_position = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    return mean_over_counted(per_position, counted) * temperature**2


class SoftTargets(Objective):
    """The teacher's probabilities at a temperature: forward KL, times temperature².

    Args:
        temperature: above 1 it shows more of what the teacher thinks of the wrong classes.
    """

    def __init__(self, *, temperature: float = 2.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise RecipeError(f"soft_targets.temperature is {temperature}; it must be above 0")
        self.temperature = temperature

    def prepare(self, *, labels: np.ndarray, outputs: int) -> None:
        if outputs < 2:
            raise RecipeError(
                "objective soft_targets needs classes, but this task has one number as output; use logit_regression (recipe tang)"
            )

    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Tensor]) -> Tensor:
        assert student.logits is not None and teacher.logits is not None
        return forward_kl(student.logits, teacher.logits, self.counted(batch), temperature=self.temperature)
