"""Rows for a masked language model: some tokens hidden, anew in every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.data.batches import TEACHER_VIEW, TokenizedRows, Tokens
from understudy.data.tables import UNLABELLED

if TYPE_CHECKING:
    import datasets

    from understudy.models.text_model import TextModel

MASKED, REPLACED = 0.8, 0.1  # of the chosen tokens; the rest stay as they are


class MaskedRows(TokenizedRows):
    """Texts with tokens to predict: `labels` holds the token where one was chosen, else -100.

    Of the chosen tokens 80 % become the mask token, 10 % another token, 10 % stay. What is chosen depends on seed, epoch and the number
    of the row alone, so that a resumed training sees what an uninterrupted one would. Special tokens are never chosen.

    Args:
        model: whose tokenizer, mask token and length to use.
        rows: with `text`.
        fraction: of the tokens of a row; 0 hides nothing.
        seed: of the training.
        teacher: asked live; its own view of the same masked rows comes along. It must cut texts as the model does, and may number
            the tokens in another way.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1; chosen anew in every epoch as in Liu et al. 2019, arXiv:1907.11692.
    Departs: every token is chosen alike often (DistilBERT's code chooses rare ones more often).
    """

    def __init__(
        self, model: TextModel, rows: datasets.Dataset, *, fraction: float, seed: int, teacher: TextModel | None = None
    ) -> None:
        view = Tokens(teacher, rows) if teacher else None
        super().__init__(Tokens(model, rows), np.zeros(0, dtype=np.int64), teacher_tokens=view)
        self.fraction, self.seed, self.epoch = fraction, seed, 0
        self.mask_token = model.tokenizer.mask_token_id
        special = np.asarray(model.tokenizer.all_special_ids)
        self.ordinary = np.setdiff1d(np.arange(len(model.tokenizer)), special)
        if teacher is not None:
            known, unknown = teacher.tokenizer.get_vocab(), teacher.tokenizer.unk_token_id or 0
            known[model.tokenizer.mask_token] = teacher.tokenizer.mask_token_id or unknown
            tokens = model.tokenizer.convert_ids_to_tokens(range(len(model.tokenizer)))
            self.as_teacher = np.asarray([known.get(token, unknown) for token in tokens])

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
        row |= {"input_ids": hidden, "labels": np.where(chosen, ids, UNLABELLED)}
        if self.teacher_tokens is not None:
            known = self.teacher_tokens.row(index)["input_ids"]
            row[f"{TEACHER_VIEW}input_ids"] = np.where(hidden == ids, known, self.as_teacher[hidden])
        return row
