"""Mixup: two rows at once, blended in their word embeddings, for teacher and student alike."""

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
    """What a training learns from blended rows, beside what it learns from the rows as they are.

    Args:
        alpha: shares are drawn from Beta(alpha, alpha), one for a batch: small values leave most rows nearly as they are.
        objectives: (weight, objective) pairs.

    Source: Liang et al. 2021, arXiv:2011.00593, section 3.
    """

    alpha: float
    objectives: Sequence[tuple[float, Objective]]

    def draw(self, rows: int) -> tuple[float, Tensor]:
        """The share of the row itself, and which other row each is blended with."""
        share = torch.distributions.Beta(self.alpha, self.alpha).sample().item()
        return share, torch.randperm(rows)


def blended(model: PreTrainedModel, inputs: Mapping[str, Tensor], share: float, order: Tensor) -> dict[str, Tensor]:
    """A batch whose word embeddings are share · own + (1 − share) · other; a position counts where either row has a token.

    Token types are the row's own: the paper does not say.
    """
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    order = order.to(embeddings.device)
    found = {name: value for name, value in inputs.items() if name != "input_ids"}
    mask = inputs["attention_mask"]
    found["attention_mask"] = torch.maximum(mask, mask[order])
    return found | {"inputs_embeds": share * embeddings + (1 - share) * embeddings[order]}
