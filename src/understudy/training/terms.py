"""The terms of a loss of one task: its objectives, and the outputs of student and teacher that they compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from understudy.data.examples import Batch
from understudy.errors import RecipeError
from understudy.models import encoder
from understudy.objectives import Objective
from understudy.signals import Needs, Shape, Signals
from understudy.teachers.capture import signals_of
from understudy.training.mixup import Mixup

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from understudy.tasks import Task
    from understudy.training.masked_lm import MaskedLMScores

Weighted = Sequence[tuple[float, Objective]]


class Terms:
    """The objectives of one task on its rows, and on blended rows; those with weight 0 are left out.

    Args:
        objectives: (weight, objective) pairs.
        student: the model of the task.
        teacher: a live teacher.
        mixup: objectives on blended rows.
        task: converts outputs of a head into the logits that objectives compare; None: they are used unchanged.
        name: of the task, if there are several; the prefix of the names of the terms.

    Raises:
        RecipeError: no objective has a weight.
    """

    def __init__(
        self,
        objectives: Weighted,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None = None,
        *,
        mixup: Mixup | None = None,
        task: Task | MaskedLMScores | None = None,
        name: str = "",
    ) -> None:
        self.plain = weighted(objectives)
        if not self.plain:
            raise RecipeError("every objective has weight 0: nothing to learn from")
        self.mixed = weighted(mixup.objectives) if mixup is not None else []
        self.student, self.teacher, self.mixup, self.task = student, teacher, mixup, task
        names = [
            *names_of(objective for _, objective in self.plain),
            *(f"mixed_{kind}" for kind in names_of(objective for _, objective in self.mixed)),
        ]
        self.names = [f"{name}/{kind}" if name else kind for kind in names]

    @property
    def all(self) -> list[tuple[float, Objective]]:
        """All objectives, those on blended rows last."""
        return [*self.plain, *self.mixed]

    def prepare(self, labels: np.ndarray, device: Any, *, anew: bool = False) -> None:
        """Prepare the objectives for these models and labels, and move them to the device.

        Args:
            anew: also prepare objectives again whose projections another training may have changed.
        """
        teacher = (
            encoder.shape(self.teacher, "teacher")
            if self.teacher is not None
            else Shape("teacher", encoder.shape(self.student, "student").outputs)
        )
        if anew:
            for _, objective in self.all:
                objective.prepared = False
        prepare(self.all, labels=labels, student=encoder.shape(self.student, "student"), teacher=teacher)
        for _, objective in self.all:
            objective.to(device)

    def of_student(self, inputs: Any, needs: Needs, run: Callable[..., Any] | None = None) -> tuple[Any, Signals]:
        """The student's outputs for a batch, and the signals that objectives need of it."""
        outputs, signals = signals_of(self.student, inputs, needs, run=run)
        return outputs, self._compared(signals)

    def of_teacher(self, inputs: Any, needs: Needs) -> Signals:
        """The signals that objectives need of the live teacher."""
        if self.teacher is None:
            raise RecipeError("the objectives need a teacher: give `teacher=`, or a `teacher_logits` column in the data set")
        return self._compared(signals_of(self.teacher, inputs, needs)[1])

    def kept(self, logits: Tensor) -> Signals:
        """Logits of the teacher that were computed before training, as signals."""
        return self._compared(Signals(logits=logits.float()))

    def _compared(self, signals: Signals) -> Signals:
        if self.task is None or signals.logits is None:
            return signals
        return replace(signals, logits=self.task.logits(signals.logits))


def weighted(objectives: Weighted) -> list[tuple[float, Objective]]:
    """The objectives whose weight is not 0."""
    return [(weight, objective) for weight, objective in objectives if weight]


def prepare(objectives: Weighted, *, labels: np.ndarray, student: Shape, teacher: Shape) -> None:
    """Prepare objectives for models and labels; those that are prepared already are left unchanged.

    Raises:
        RecipeError: an objective that does not fit them.
    """
    for _, objective in objectives:
        if not objective.prepared:
            objective.prepare(labels=labels, student=student, teacher=teacher)
            objective.prepared = True


def needs_of(objectives: Weighted) -> tuple[Needs, Needs]:
    """The signals that objectives need of the teacher, and of the student."""
    parts = [objective for _, objective in objectives]
    return reduce(or_, [objective.needs for objective in parts], Needs()), reduce(
        or_, [objective.student_needs for objective in parts], Needs()
    )


def names_of(objectives: Iterable[Objective]) -> list[str]:
    """`SoftTargets` → `soft_targets`: the kind, as in the recipe; the second of a kind is `soft_targets_2`."""
    seen: Counter[str] = Counter()
    names = []
    for objective in objectives:
        kind = type(objective).__module__.rpartition(".")[2]
        seen[kind] += 1
        names.append(kind if seen[kind] == 1 else f"{kind}_{seen[kind]}")
    return names


def teacher_view(inputs: Batch) -> dict[str, Tensor]:
    """The inputs of the teacher in a batch: its own, or the student's where it has none."""
    view = {name: value for name, value in inputs.get("teacher", {}).items() if name != "logits"}
    return view or inputs["student"]
