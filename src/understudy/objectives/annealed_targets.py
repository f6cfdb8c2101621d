"""Annealed targets: a target that moves from the teacher's probabilities to the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from understudy.objectives.base import Objective, mean_over_counted
from understudy.objectives.labels import UNLABELLED
from understudy.signals import Signals


def annealed_loss(
    student_logits: Float[Tensor, "*batch classes"],
    teacher_logits: Float[Tensor, "*batch classes"],
    labels: Shaped[Tensor, "*batch"],
    counted: Bool[Tensor, "*batch"],
    *,
    gold_share: float,
    hard: bool = False,
) -> Float[Tensor, ""]:
    """Mean over counted positions of the cross-entropy with a mixture of label and teacher (nats); squared error for numbers.

    Formula: the target is λ·gold + (1−λ)·teacher, with λ the `gold_share`. Of classes it mixes the one-hot label with
    softmax(teacher), of numbers the two numbers. The *target* is mixed, not the loss; for cross-entropy the two are equal, for squared
    error they are not. The target of a row without a label is the teacher's alone.

    Args:
        student_logits: gradient flows here.
        teacher_logits: a target; no gradient.
        labels: class indices, or floating-point numbers for regression (then there is one logit).
        counted: positions that matter.
        gold_share: λ in [0, 1].
        hard: use the teacher's most likely class instead of its probabilities.

    Source: Clark et al. 2019, arXiv:1907.04829, section 3.2.

    >>> import torch
    >>> loss = annealed_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([1]), torch.tensor([True]), gold_share=0.5)
    >>> round(loss.item(), 4)  # the student is at 1/2 for both: ln 2 for any target
    0.6931
    """
    teacher_logits = teacher_logits.detach()
    if labels.is_floating_point():
        known = ~labels.isnan()
        gold = labels.nan_to_num().to(teacher_logits)
        share = known.to(teacher_logits) * gold_share
        target = share * gold + (1 - share) * teacher_logits[..., 0]
        return mean_over_counted((student_logits[..., 0] - target).square(), counted)
    known = labels != UNLABELLED
    gold = F.one_hot(labels.masked_fill(~known, 0), student_logits.shape[-1]).to(teacher_logits)
    share = (known.to(teacher_logits) * gold_share)[..., None]
    likely = F.one_hot(teacher_logits.argmax(-1), teacher_logits.shape[-1]).to(teacher_logits)
    target = share * gold + (1 - share) * (likely if hard else teacher_logits.softmax(-1))
    return mean_over_counted(-(target * student_logits.log_softmax(-1)).sum(-1), counted)


class AnnealedTargets(Objective):
    """Cross-entropy with a target that moves from the teacher's probabilities to the labels during the stage (teacher annealing).

    Pick it where the student may become better than its teacher: at the end it learns from the labels alone. It replaces both
    `labels` and `soft_targets`.

    Args:
        first: share of the label at the beginning of the stage.
        last: and at its end.
        hard: use the teacher's most likely class instead of its probabilities, as the control `pseudo_labels` does.

    Raises:
        ValueError: a share outside of 0 to 1.

    Source: Clark et al. 2019, arXiv:1907.04829, section 3.2 (from 0 to 1 in a straight line).
    """

    def __init__(self, *, first: float = 0.0, last: float = 1.0, hard: bool = False) -> None:
        super().__init__()
        for name, share in (("first", first), ("last", last)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; a share is between 0 and 1")
        self.first, self.last, self.hard = first, last, hard

    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        assert student.logits is not None and teacher.logits is not None
        share = self.first + self.progress * (self.last - self.first)
        return annealed_loss(student.logits, teacher.logits, batch["labels"], self.counted(batch), gold_share=share, hard=self.hard)
