"""Self-distillation: the teacher is the mean of the student's own last weights."""

from __future__ import annotations

import copy
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from understudy.settings.stage import SelfAverage

FILE = "self_average.safetensors"


class SelfAveragedTeacher(TrainerCallback):
    """A copy of the student with the mean of the student's last weights, updated while the student trains.

    The first weights are those that the student starts from. Checkpoints contain all weights of the mean, so that a resumed training has
    the teacher of an uninterrupted one.

    Args:
        student: before training.
        settings: how many sets of weights are averaged, and how many updates are between them.

    Source: Xu et al. 2020, arXiv:2002.10345 (self-distillation-averaged). It averages the last K updates.
    """

    def __init__(self, student: PreTrainedModel, settings: SelfAverage) -> None:
        self.model = copy.deepcopy(student).eval().requires_grad_(False)
        self.every = settings.every
        self.kept: deque[list[Tensor]] = deque(maxlen=settings.checkpoints)
        self.kept.append([weight.clone() for weight in self.model.parameters()])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every == 0:
            self.follow(kwargs["model"])

    @torch.no_grad()
    def follow(self, student: torch.nn.Module) -> None:
        """Add the student's current weights to the mean."""
        weights = dict(student.named_parameters())
        self.kept.append([weights[name].detach().clone() for name, _ in self.model.named_parameters()])
        self._average()

    def save(self, folder: str | Path) -> None:
        """Write all averaged weights into a checkpoint."""
        numbered = {f"{place}.{number}": weight.cpu() for place, weights in enumerate(self.kept) for number, weight in enumerate(weights)}
        save_file(numbered, Path(folder) / FILE)

    def load(self, folder: str | Path) -> None:
        """Read the weights of a checkpoint."""
        saved = load_file(Path(folder) / FILE)
        averaged = list(self.model.parameters())
        self.kept.clear()
        for place in range(len(saved) // len(averaged)):
            self.kept.append([saved[f"{place}.{number}"].to(weight.device) for number, weight in enumerate(averaged)])
        self._average()

    @torch.no_grad()
    def _average(self) -> None:
        for number, weight in enumerate(self.model.parameters()):
            weight.copy_(torch.stack([weights[number].to(weight.device) for weights in self.kept]).mean(0))
