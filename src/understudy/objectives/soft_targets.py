"""Soft targets: the teacher's probabilities at a temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.errors import RecipeError
from understudy.objectives.base import Objective, mean_over_counted
from understudy.signals import Shape, Signals


def forward_kl(
    student_logits: Float[Tensor, "*batch classes"],
    teacher_logits: Float[Tensor, "*batch classes"],
    counted: Bool[Tensor, "*batch"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean KL(teacher ‖ student) over counted positions, times temperature². Unit: nats.

    Pick it when the student should learn the teacher's probabilities of all classes. Its nearest kin is `logit_regression`, which it
    approaches as the temperature grows: it tends to half the squared difference of zero-mean logits, averaged over classes.

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


def reverse_kl(
    student_logits: Float[Tensor, "*batch classes"],
    teacher_logits: Float[Tensor, "*batch classes"],
    counted: Bool[Tensor, "*batch"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean KL(student ‖ teacher) over counted positions, times temperature². Unit: nats.

    Pick it where the student is too small to learn all of the teacher's probabilities and should get its likeliest class right.

    Formula: T² · mean over positions of Σ_c q_c · (log q_c − log p_c), with p and q as in `forward_kl`.

    Source: Gu et al. 2024, arXiv:2306.08543, section 2.1.

    >>> import torch
    >>> teacher = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/4 and 3/4
    >>> round(reverse_kl(torch.zeros(1, 2), teacher, torch.tensor([True])).item(), 4)  # ½·ln 2 + ½·ln 2⁄3
    0.1438
    """
    student = F.log_softmax(student_logits / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    return mean_over_counted((student.exp() * (student - teacher)).sum(-1), counted) * temperature**2


def jensen_shannon(
    student_logits: Float[Tensor, "*batch classes"],
    teacher_logits: Float[Tensor, "*batch classes"],
    counted: Bool[Tensor, "*batch"],
    *,
    temperature: float = 1.0,
    beta: float = 0.5,
) -> Float[Tensor, ""]:
    """Mean generalised Jensen–Shannon divergence over counted positions, times temperature². Unit: nats.

    Between `forward_kl` (its limit for small β, divided by β) and `reverse_kl` (for β near 1, divided by 1 − β), and bounded.

    Formula: T² · mean over positions of β·KL(p ‖ m) + (1−β)·KL(q ‖ m), with m = β·p + (1−β)·q, p of the teacher, q of the student.

    Source: Agarwal et al. 2024, arXiv:2306.13649, equation 2.

    >>> import torch
    >>> student, teacher = torch.tensor([[0.0, 40.0]]), torch.tensor([[40.0, 0.0]])
    >>> round(jensen_shannon(student, teacher, torch.tensor([True])).item(), 4)  # nothing in common: ln 2
    0.6931
    """
    # A difference of three near-equal logarithms: bf16 has too few digits for it.
    precise = torch.promote_types(student_logits.dtype, torch.float32)
    student = F.log_softmax(student_logits.to(precise) / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.detach().to(precise) / temperature, dim=-1)
    mixed = torch.logaddexp(teacher + math.log(beta), student + math.log(1 - beta))
    to_teacher = (teacher.exp() * (teacher - mixed)).sum(-1)
    to_student = (student.exp() * (student - mixed)).sum(-1)
    return mean_over_counted(beta * to_teacher + (1 - beta) * to_student, counted) * temperature**2


def soft_cross_entropy(
    student_logits: Float[Tensor, "*batch classes"],
    teacher_logits: Float[Tensor, "*batch classes"],
    counted: Bool[Tensor, "*batch"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the student under the teacher's probabilities over counted positions, times temperature². Unit: nats.

    Its gradient is that of `forward_kl`. Its value is larger by the teacher's entropy, so that it does not reach 0.

    Formula: −T² · mean over positions of Σ_c p_c · log q_c. Source: Hinton et al. 2015, arXiv:1503.02531, section 2.

    >>> import torch
    >>> round(soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.0, 1.0986123]]), torch.tensor([True])).item(), 4)  # ln 2
    0.6931
    """
    student = F.log_softmax(student_logits / temperature, dim=-1)
    teacher = F.softmax(teacher_logits.detach() / temperature, dim=-1)
    return mean_over_counted(-(teacher * student).sum(-1), counted) * temperature**2


class SoftTargets(Objective):
    """The teacher's probabilities at a temperature.

    Args:
        temperature: above 1 it gives the less likely classes more weight.
        final_temperature: the temperature at the end of the stage, reached in a straight line from `temperature`; None keeps it.
        divergence: from teacher to student (`forward_kl`, times temperature², as in the paper), its reverse, between the two
            (`jensen_shannon`), or `cross_entropy`, which differs from `forward_kl` by a constant.
        beta: of `jensen_shannon`: the teacher's share of the mixture.

    Raises:
        RecipeError: a setting out of its range.
    """

    def __init__(
        self,
        *,
        temperature: float = 2.0,
        final_temperature: float | None = None,
        divergence: Literal["forward_kl", "reverse_kl", "jensen_shannon", "cross_entropy"] = "forward_kl",
        beta: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value in (("temperature", temperature), ("final_temperature", final_temperature)):
            if value is not None and value <= 0:
                raise RecipeError(f"soft_targets.{name} is {value}; it must be above 0")
        if not 0 < beta < 1:
            raise RecipeError(f"soft_targets.beta is {beta}; it must be between 0 and 1")
        self.temperature, self.final_temperature = temperature, final_temperature
        self.divergence, self.beta = divergence, beta

    def prepare(self, *, labels: np.ndarray, student: Shape, teacher: Shape) -> None:
        if student.outputs == 1 and labels.ndim == 1:
            raise RecipeError(
                "objective soft_targets needs classes, but this task has one number as output; use logit_regression (recipe tang)"
            )

    @property
    def temperature_now(self) -> float:
        """The temperature at this point of the stage."""
        end = self.temperature if self.final_temperature is None else self.final_temperature
        return self.temperature + self.progress * (end - self.temperature)

    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        assert student.logits is not None and teacher.logits is not None
        arguments = (student.logits, teacher.logits, self.counted(batch))
        if self.divergence == "jensen_shannon":
            return jensen_shannon(*arguments, temperature=self.temperature_now, beta=self.beta)
        loss = {"forward_kl": forward_kl, "reverse_kl": reverse_kl, "cross_entropy": soft_cross_entropy}[self.divergence]
        return loss(*arguments, temperature=self.temperature_now)
