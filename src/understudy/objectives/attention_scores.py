"""Attention scores: query · key of every two tokens in matched layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.objectives.base import LayerObjective, mean_over_counted, tokens
from understudy.objectives.layer_map import LayerMap
from understudy.signals import Attention, Signals


def attention_score_mse(
    student_scores: Float[Tensor, "rows heads positions positions"],
    teacher_scores: Float[Tensor, "rows heads positions positions"],
    counted: Bool[Tensor, "rows positions positions"],
) -> Float[Tensor, ""]:
    """Mean squared difference of scores before the softmax, over heads and counted pairs of tokens. Unit: squared scores.

    Formula: mean over heads and pairs of (s − t)². Source: Jiao et al. 2020, arXiv:1909.10351, equation 7, whose code also counts the
    pairs with padding, as zeros.

    >>> import torch
    >>> student, teacher = torch.zeros(1, 1, 2, 2), torch.tensor([[[[2.0, 9.0], [9.0, 9.0]]]])
    >>> attention_score_mse(student, teacher, torch.tensor([[[True, False], [False, False]]])).item()
    4.0
    """
    return mean_over_counted((student_scores - teacher_scores).square().mean(1), counted)


def attention_kl(
    student_scores: Float[Tensor, "rows heads positions positions"],
    teacher_scores: Float[Tensor, "rows heads positions positions"],
    counted: Bool[Tensor, "rows positions"],
) -> Float[Tensor, ""]:
    """Mean over heads and counted tokens of KL(teacher ‖ student) of a token's attention probabilities. Unit: nats.

    The softmax is over counted tokens only.

    Source: Wang et al. 2020, arXiv:2002.10957, equation 5.

    >>> import torch
    >>> teacher = torch.tensor([[[[0.0, 1.0986123], [0.0, 1.0986123]]]])  # probabilities 1/4 and 3/4
    >>> round(attention_kl(torch.zeros(1, 1, 2, 2), teacher, torch.ones(1, 2, dtype=torch.bool)).item(), 4)
    0.1308
    """
    unseen = ~counted[:, None, None, :]
    student = F.log_softmax(student_scores.masked_fill(unseen, -1e9), dim=-1)
    teacher = F.log_softmax(teacher_scores.masked_fill(unseen, -1e9), dim=-1)
    # At unseen tokens the probability is 0 and both logarithms are about −1e9; their difference must not enter the sum.
    difference = (teacher - student).masked_fill(unseen, 0.0)
    return mean_over_counted((teacher.exp() * difference).sum(-1).mean(1), counted)


def alike(student: Attention, teacher: Attention) -> tuple[Tensor, Tensor]:
    """Scores of student and teacher of the same shape, (rows, heads, positions, positions); the teacher's without gradient.

    Where the numbers of heads differ, each is the mean over its heads. Where a token does not attend to another, in student or
    teacher, both scores are −1e9, which adds nothing to a softmax.
    """
    scores = student.scores, teacher.scores.detach()
    if scores[0].shape[1] != scores[1].shape[1]:
        scores = scores[0].mean(1, keepdim=True), scores[1].mean(1, keepdim=True)
    for visible in (student.visible, teacher.visible):
        if visible is not None:
            scores = scores[0].masked_fill(~visible, -1e9), scores[1].masked_fill(~visible, -1e9)
    return scores


class AttentionScores(LayerObjective):
    """Difference of attention scores of matched layers, mean over heads and tokens, summed over the matched layers.

    Pick it for a student with layers like the teacher's (TinyBERT). Where the numbers of heads differ, the mean over heads is compared;
    `relations` keeps more then. Scores are computed from queries and keys, so that the fast attention kernel stays on. Student and
    teacher must have the same tokens. Tokens beyond the window of a local layer (ModernBERT) add nothing to the mean.

    Args:
        layers: `uniform`, `skip`, `last`, `final`, or pairs [student's, teacher's].
        form: `scores` takes the squared difference before the softmax; `probabilities` KL(teacher ‖ student) after it.

    Source: Jiao et al. 2020, arXiv:1909.10351, equation 7; the KL form: Wang et al. 2020, arXiv:2002.10957, section 3.1.
    """

    def __init__(self, *, layers: LayerMap = "uniform", form: Literal["scores", "probabilities"] = "scores") -> None:
        super().__init__(layers=layers)
        self.form = form

    def counted(self, batch: Mapping[str, Any]) -> Tensor:
        mask = tokens(batch)
        return mask if self.form == "probabilities" else mask[:, :, None] & mask[:, None, :]

    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        compare = attention_score_mse if self.form == "scores" else attention_kl
        counted = self.counted(batch)
        terms = [
            compare(*alike(student.attention[student_layer], teacher.attention[teacher_layer]), counted)
            for student_layer, teacher_layer in self.pairs
        ]
        return sum(terms[1:], start=terms[0])
