"""What an objective is."""

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

    progress: float = 0.0  # share of the stage's updates that are made; whoever trains keeps it current
    prepared: bool = False  # whether `prepare` was called; whoever calls it says so

    @property
    def needs(self) -> Needs:
        """What the teacher must say."""
        return Needs(logits=True)

    @property
    def uses_teacher(self) -> bool:
        """Whether the teacher has a part in the term; known before `prepare`, as `needs` may not be."""
        return True

    @property
    def student_needs(self) -> Needs:
        """What the student must say."""
        return Needs(logits=True)

    @property
    def compares_tokens(self) -> bool:
        """Whether student and teacher must cut texts into the same tokens."""
        return self.needs.internals

    def prepare(self, *, labels: np.ndarray, student: Shape, teacher: Shape) -> None:
        """Called once before training, when the labelled rows and both models are known; learned projections are made here.

        Raises:
            RecipeError: the objective cannot work on these rows or models.
        """
        del labels, student, teacher

    def counted(self, batch: Mapping[str, Any]) -> Tensor:
        """Which positions of a batch the term counts, as booleans. Here: all that the rows have."""
        return batch["counted"]

    @abstractmethod
    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Any]) -> Tensor:
        """The mean over counted positions; a zero with a gradient where none counts."""


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
        """For each pair of layers the student's states, in the teacher's width, and the teacher's, without gradient."""
        found = []
        for index, (own, other) in enumerate(self.pairs):
            states = student.hidden_states[own]
            if self.maps:
                states = self.maps[index % len(self.maps)](states)
            found.append((states, teacher.hidden_states[other].detach()))
        return found


def tokens(batch: Mapping[str, Any]) -> Tensor:
    """Which tokens of the student's view are no padding: (rows, tokens)."""
    return batch["student"]["attention_mask"].bool()


def mean_over_counted(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of `values` where `counted`; 0, still connected to the graph, where nothing is.

    >>> import torch
    >>> mean_over_counted(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False]))
    tensor(2.)
    """
    return values.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)
