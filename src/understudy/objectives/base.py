"""What an objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from understudy.signals import Needs, Signals


class Objective(nn.Module, ABC):
    """A term of the loss. It reads signals and never runs a model.

    The gradient reaches the student and never the teacher.
    """

    @property
    def needs(self) -> Needs:
        """What the teacher must say."""
        return Needs(logits=True)

    def prepare(self, *, labels: np.ndarray, outputs: int) -> None:
        """Called once before training, when the labelled rows and the width of the head are known.

        Raises:
            RecipeError: the objective cannot work on these rows.
        """
        del labels, outputs

    def counted(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Which positions of a batch the term counts, as booleans. Here: every row."""
        rows = next(iter(batch.values()))
        return torch.ones(rows.shape[0], dtype=torch.bool, device=rows.device)

    @abstractmethod
    def forward(self, student: Signals, teacher: Signals, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean over counted positions; a zero with a gradient where none counts."""


def mean_over_counted(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of `values` where `counted`; 0, still connected to the graph, where nothing is.

    >>> mean_over_counted(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False]))
    tensor(2.)
    """
    return values.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)
