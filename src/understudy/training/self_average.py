"""A student taught by itself: the mean of its own weights of late."""

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
    """A copy of the student that holds the mean of the student's last weights; it follows while the student trains.

    The first of them are the weights that the student starts from. Checkpoints carry all of them, so that a resumed training uses the
    teacher that an uninterrupted one would.

    Args:
        student: before training.
        settings: how many weights are averaged, and how many updates lie between them.

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
        """Take in the student's weights as they are now."""
        weights = dict(student.named_parameters())
        self.kept.append([weights[name].detach().clone() for name, _ in self.model.named_parameters()])
        self._average()

    def save(self, folder: str | Path) -> None:
        """Write all weights that are averaged into a checkpoint."""
        numbered = {
            f"{place}.{number}": weight.cpu()
            for place, one in enumerate(self.kept)
            for number, weight in enumerate(one)
        }
        save_file(numbered, Path(folder) / FILE)

    def load(self, folder: str | Path) -> None:
        """Go on from a checkpoint."""
        found = load_file(Path(folder) / FILE)
        own = list(self.model.parameters())
        self.kept.clear()
        for place in range(len(found) // len(own)):
            self.kept.append([found[f"{place}.{number}"].to(weight.device) for number, weight in enumerate(own)])
        self._average()

    @torch.no_grad()
    def _average(self) -> None:
        for number, weight in enumerate(self.model.parameters()):
            weight.copy_(torch.stack([one[number].to(weight.device) for one in self.kept]).mean(0))
