"""Mixup: pairs of rows, blended in their word embeddings, for teacher and student alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from understudy.objectives import Objective


@dataclass(frozen=True)
class Mixup:
    """Objectives on blended rows, beside those on the rows themselves.

    Args:
        alpha: shares are drawn from Beta(alpha, alpha), one for each batch; with a small alpha most are near 0 or 1.
        objectives: (weight, objective) pairs.

    Source: Liang et al. 2021, arXiv:2011.00593, section 3.
    """

    alpha: float
    objectives: Sequence[tuple[float, Objective]]

    def draw(self, rows: int) -> tuple[float, Tensor]:
        """The share of the row itself, and for each row the number of the row that it is blended with, (rows,)."""
        share = torch.distributions.Beta(self.alpha, self.alpha).sample().item()
        return share, torch.randperm(rows)


def blended(model: PreTrainedModel, inputs: Mapping[str, Tensor], share: float, order: Tensor) -> dict[str, Tensor]:
    """A batch whose word embeddings are share · row + (1 − share) · other row; a position counts where either row has a token.

    Token types are those of the row itself: the paper does not define them.
    """
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    order = order.to(embeddings.device)
    blend = {name: value for name, value in inputs.items() if name != "input_ids"}
    mask = inputs["attention_mask"]
    blend["attention_mask"] = torch.maximum(mask, mask[order])
    return blend | {"inputs_embeds": share * embeddings + (1 - share) * embeddings[order]}
