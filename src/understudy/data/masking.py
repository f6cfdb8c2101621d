"""Rows for a masked language model: some tokens hidden, anew in every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.data.batches import TokenizedRows, Tokens
from understudy.data.tables import UNLABELLED

if TYPE_CHECKING:
    import datasets

    from understudy.text_model import TextModel

MASKED, REPLACED = 0.8, 0.1  # of the chosen tokens; the rest stay as they are


class MaskedRows(TokenizedRows):
    """Texts with tokens to predict: `labels` holds the token where one was chosen, else -100.

    Of the chosen tokens 80 % become the mask token, 10 % another token, 10 % stay. What is chosen hangs on seed, epoch and the number
    of the row alone, so that a resumed training sees what an uninterrupted one would. Special tokens are never chosen.

    Args:
        model: whose tokenizer, mask token and length to use.
        rows: with `text`.
        fraction: of the tokens of a row; 0 hides nothing.
        seed: of the training.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1; chosen anew in every epoch as in Liu et al. 2019, arXiv:1907.11692.
    Departs: every token is chosen alike often (DistilBERT's code chooses rare ones more often).
    """

    def __init__(self, model: TextModel, rows: datasets.Dataset, *, fraction: float, seed: int) -> None:
        super().__init__(Tokens(model, rows), np.zeros(0, dtype=np.int64))
        self.fraction, self.seed, self.epoch = fraction, seed, 0
        self.mask_token = model.tokenizer.mask_token_id
        special = np.asarray(model.tokenizer.all_special_ids)
        self.ordinary = np.setdiff1d(np.arange(len(model.tokenizer)), special)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.tokens.row(index)
        ids = row["input_ids"]
        draw = np.random.default_rng([self.seed, self.epoch, index])
        chosen = (draw.random(len(ids)) < self.fraction) & np.isin(ids, self.ordinary)
        how = draw.random(len(ids))
        others = draw.choice(self.ordinary, size=len(ids))
        hidden = np.where(chosen & (how < MASKED), self.mask_token, ids)
        hidden = np.where(chosen & (how >= MASKED) & (how < MASKED + REPLACED), others, hidden)
        return {**row, "input_ids": hidden, "labels": np.where(chosen, ids, UNLABELLED)}
