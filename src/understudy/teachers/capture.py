"""What a model says of rows, computed in batches of like length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from understudy.data.batches import Collator, Tokens

if TYPE_CHECKING:
    import datasets

    from understudy.text_model import TextModel

TOKENS_A_BATCH = 8192  # padded tokens: long rows come in small batches, short ones in large


@torch.inference_mode()
def logits_of(model: TextModel, rows: datasets.Dataset, *, device: str = "cpu", batch_size: int = 64) -> np.ndarray:
    """Logits of every row, in the order of the rows: (rows, outputs) float32.

    Rows are taken in order of length, so that a batch has next to no padding.

    Args:
        rows: with `text` and perhaps `text_pair`.
        batch_size: rows of a batch at most; long rows come in smaller ones.
    """
    tokens = Tokens(model, rows)
    collate = Collator(model.tokenizer.pad_token_id)
    network = model.model.to(device).eval()  # type: ignore[arg-type]
    found = np.zeros((len(rows), model.outputs), dtype=np.float32)
    order = np.argsort(-tokens.lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, min(batch_size, TOKENS_A_BATCH // int(tokens.lengths[order[start]])))
        indices = order[start : start + size]
        batch = collate([tokens.row(index) for index in indices])
        found[indices] = (
            network(**{name: value.to(device) for name, value in batch.items()}).logits.float().cpu().numpy()
        )
        start += size
    network.to("cpu")
    return found
