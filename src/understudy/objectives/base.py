"""Base classes of objectives: any term, terms that compare layers, terms that compare hidden states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from understudy.objectives import layer_map
from understudy.signals import Needs, Shape, Signals


class Objective(nn.Module, ABC):
    """A term of the loss. It reads signals and never runs a model.

    The gradient reaches the student and never the teacher.
    """

    progress: float = 0.0  # share of the stage's updates that are done; the training keeps it current
    prepared: bool = False  # whether `prepare` was called; its caller sets it

    @property
    def needs(self) -> Needs:
        """Which of the teacher's signals it reads."""
        return Needs(logits=True)

    @property
    def uses_teacher(self) -> bool:
        """Whether the term depends on the teacher; known before `prepare`, which `needs` may not be."""
        return True

    @property
    def student_needs(self) -> Needs:
        """Which of the student's signals it reads."""
        return Needs(logits=True)

    @property
    def compares_tokens(self) -> bool:
        """Whether student and teacher must tokenize texts alike."""
        return self.needs.internals

    def prepare(self, *, labels: np.ndarray, student: Shape, teacher: Shape) -> None:
        """Called once before training, when the labelled rows and both models are known; learned projections are made here.

        Args:
            labels: of the training rows: (rows,), or (rows, labels) with several labels a row.
            student: sizes of the student.
            teacher: sizes of the teacher.

        Raises:
            RecipeError: the objective cannot work on these rows or models.
        """
        del labels, student, teacher

    def counted(self, batch: Mapping[str, Any]) -> Tensor:
        """Which positions of a batch the term counts: booleans in the shape of the positions. Here: all that are no padding."""
        return batch["counted"]

    @abstractmethod
    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        """The mean over counted positions: a scalar with a gradient, zero where no position counts."""


class LayerObjective(Objective):
    """A term that compares matched layers.

    Args:
        layers: which; see `layer_map.resolve`.
    """

    lowest_layer = 1
    signal: Literal["hidden_states", "attention"] = "attention"

    def __init__(self, *, layers: layer_map.LayerMap) -> None:
        super().__init__()
        self.layers = layers
        self.pairs: list[tuple[int, int]] = []

    @property
    def needs(self) -> Needs:
        return self._of({teacher for _, teacher in self.pairs})

    @property
    def student_needs(self) -> Needs:
        return self._of({student for student, _ in self.pairs})

    def _of(self, layers: set[int]) -> Needs:
        return Needs(attention=layers) if self.signal == "attention" else Needs(hidden_states=layers)

    @property
    def kind(self) -> str:
        """Its kind in recipes, for messages."""
        return type(self).__module__.rpartition(".")[2]

    def prepare(self, *, labels: np.ndarray, student: Shape, teacher: Shape) -> None:
        self.pairs = layer_map.resolve(self.layers, student, teacher, where=self.kind, lowest=self.lowest_layer)


class HiddenStateObjective(LayerObjective):
    """A term that compares hidden states; a linear map takes the student's to the teacher's width where they differ.

    Args:
        layers: which; see `layer_map.resolve`.
        projection: `a_layer` learns a map for each pair of layers, `shared` one for all.
    """

    lowest_layer = 0
    signal = "hidden_states"

    def __init__(self, *, layers: layer_map.LayerMap, projection: str) -> None:
        super().__init__(layers=layers)
        self.projection = projection
        self.maps = nn.ModuleList()

    def prepare(self, *, labels: np.ndarray, student: Shape, teacher: Shape) -> None:
        super().prepare(labels=labels, student=student, teacher=teacher)
        count = 0 if student.width == teacher.width else 1 if self.projection == "shared" else len(self.pairs)
        self.maps = nn.ModuleList(nn.Linear(student.width, teacher.width) for _ in range(count))

    def matched(self, student: Signals, teacher: Signals) -> list[tuple[Tensor, Tensor]]:
        """For each pair of layers the states of student and teacher, (rows, positions, width of the teacher); the teacher's without
        gradient."""
        matched = []
        for index, (student_layer, teacher_layer) in enumerate(self.pairs):
            states = student.hidden_states[student_layer]
            if self.maps:
                states = self.maps[index % len(self.maps)](states)
            matched.append((states, teacher.hidden_states[teacher_layer].detach()))
        return matched


def tokens(batch: Mapping[str, Any]) -> Tensor:
    """Which tokens of the student's view are not padding: (rows, tokens)."""
    return batch["student"]["attention_mask"].bool()


def mean_over_counted(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of `values` where `counted`; where nothing is counted, a 0 that is still part of the graph.

    >>> import torch
    >>> mean_over_counted(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False]))
    tensor(2.)
    """
    return values.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)
