"""Logit regression: the teacher's logits as targets of a regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from understudy.objectives.base import Objective, mean_over_counted
from understudy.signals import Signals


def logit_mse(
    student_logits: Float[Tensor, "*batch classes"],
    teacher_logits: Float[Tensor, "*batch classes"],
    counted: Bool[Tensor, "*batch"],
    *,
    zero_mean: bool = False,
) -> Float[Tensor, ""]:
    """Mean squared difference of logits over counted positions and classes. Unit: squared logits.

    Pick it for small students of another family (a BiLSTM), and for regression; its nearest kin is `soft_targets` at a high temperature.

    Formula: mean over positions of (1/C) Σ_c (s_c − t_c)². There is no factor ½, and the mean is over classes. A weight of a paper
    that sums over classes must be multiplied by C here; of one with a factor ½, halved.

    Args:
        student_logits: gradient flows here.
        teacher_logits: a target; no gradient.
        counted: positions that matter.
        zero_mean: first subtract each row's mean, which changes no probability; then T²·KL at a high T tends to half of this.

    Source: Ba and Caruana 2014, arXiv:1312.6184; Tang et al. 2019, arXiv:1903.12136, equation 6.

    >>> import torch
    >>> logit_mse(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([True])).item()  # (1 + 4) / 2
    2.5
    """
    teacher_logits = teacher_logits.detach()
    if zero_mean:
        student_logits = student_logits - student_logits.mean(-1, keepdim=True)
        teacher_logits = teacher_logits - teacher_logits.mean(-1, keepdim=True)
    return mean_over_counted((student_logits - teacher_logits).square().mean(-1), counted)


class LogitRegression(Objective):
    """Squared difference of logits, mean over classes and rows.

    Args:
        zero_mean: subtract each row's mean from its logits first, which changes no probability; a single number is compared as it is.
    """

    def __init__(self, *, zero_mean: bool = True) -> None:
        super().__init__()
        self.zero_mean = zero_mean

    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        assert student.logits is not None and teacher.logits is not None
        zero_mean = self.zero_mean and student.logits.shape[-1] > 1  # a single number minus its mean is 0
        return logit_mse(student.logits, teacher.logits, self.counted(batch), zero_mean=zero_mean)
