"""Labels: the labels of the rows as targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from understudy.errors import RecipeError
from understudy.objectives.base import Objective, mean_over_counted
from understudy.signals import Needs, Shape, Signals

UNLABELLED = -100  # the label of a row that has none; NaN where labels are numbers


def label_loss(
    student_logits: Float[Tensor, "*batch classes"],
    labels: Shaped[Tensor, "*batch"],
    counted: Bool[Tensor, "*batch"],
    *,
    smoothing: float = 0.0,
    class_weights: Float[Tensor, "*positions classes"] | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy over counted positions (nats), or mean squared error where labels are numbers.

    Formula: mean of w_y · CE(student, y); with smoothing ε the target is (1 − ε) on y plus ε/C on every class. The divisor is the
    number of counted positions, not the sum of their weights, so that every batch has the same weight, whichever classes it holds.

    Args:
        student_logits: gradient flows here.
        labels: class indices, or floating-point numbers for regression (then there is one logit).
        counted: positions that have a label.
        smoothing: ε in [0, 1).
        class_weights: w, mean about 1 over the training rows; the same for all positions, or one set for each position.

    Source: smoothing: Szegedy et al. 2016, arXiv:1512.00567, section 7.

    >>> round(label_loss(torch.zeros(1, 4), torch.tensor([2]), torch.tensor([True])).item(), 4)  # ln 4
    1.3863
    """
    if labels.is_floating_point():
        return mean_over_counted((student_logits[..., 0] - labels.masked_fill(~counted, 0.0)).square(), counted)
    safe = labels.masked_fill(~counted, 0)
    per_position = F.cross_entropy(student_logits.flatten(0, -2), safe.flatten(), reduction="none", label_smoothing=smoothing).view_as(safe)
    if class_weights is not None:
        weights = class_weights.to(per_position).expand(*safe.shape, -1)
        per_position = per_position * weights.gather(-1, safe[..., None])[..., 0]
    return mean_over_counted(per_position, counted)


class Labels(Objective):
    """Cross-entropy with the labels, or squared error where labels are numbers.

    Args:
        target: `gold` counts labelled rows only; `gold_or_teacher` uses the teacher's prediction where a row has no label;
            `teacher` uses the teacher's prediction for every row (pseudo-labels).
        smoothing: share of the target spread over all classes.
        class_weights: `balanced` weighs a class by the inverse of its frequency (long tails); of several labels a row, whether
            each holds or not.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        *,
        target: Literal["gold", "gold_or_teacher", "teacher"] = "gold",
        smoothing: float = 0.0,
        class_weights: Literal["balanced"] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise RecipeError(f"labels.smoothing is {smoothing}; it must be in [0, 1)")
        self.target, self.smoothing, self.class_weights = target, smoothing, class_weights
        self.register_buffer("class_weight", None)

    @property
    def uses_teacher(self) -> bool:
        return self.target != "gold"

    @property
    def needs(self) -> Needs:
        return Needs(logits=self.uses_teacher)

    def prepare(self, *, labels: np.ndarray, student: Shape, teacher: Shape) -> None:
        if self.class_weights == "balanced":
            if student.outputs == 1 and labels.ndim == 1:
                raise RecipeError("objective labels: class_weights need classes, but this task has one number as output")
            counts = torch.bincount(torch.from_numpy(labels[labels >= 0]), minlength=student.outputs)
            if labels.ndim == 2:
                counts = torch.from_numpy(np.stack([(labels == value).sum(axis=0) for value in (0, 1)], axis=-1))
            counts = counts.clamp(min=1)
            self.class_weight = counts.sum(-1, keepdim=True) / (counts.shape[-1] * counts)

    def counted(self, batch: Mapping[str, Any]) -> Tensor:
        if self.target != "gold":
            return super().counted(batch)
        labels = batch["labels"]
        return ~labels.isnan() if labels.is_floating_point() else labels != UNLABELLED

    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        assert student.logits is not None
        labels = batch["labels"]
        if self.target != "gold":
            assert teacher.logits is not None
            regression = labels.is_floating_point()
            predicted = teacher.logits[..., 0].detach().to(labels) if regression else teacher.logits.argmax(-1)
            unlabelled = labels.isnan() if regression else labels == UNLABELLED
            labels = predicted if self.target == "teacher" else torch.where(unlabelled, predicted, labels)
        return label_loss(student.logits, labels, self.counted(batch), smoothing=self.smoothing, class_weights=self.class_weight)
