"""Rows for a masked language model: some tokens hidden, anew in every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from understudy.data.examples import Batch, Examples, batch_of, fields_of
from understudy.data.tables import UNLABELLED
from understudy.models.view import Fields

if TYPE_CHECKING:
    import datasets

    from understudy.models.text_model import TextModel

MASKED, REPLACED = 0.8, 0.1  # of the chosen tokens; the rest stay as they are


class MaskedRows(Examples):
    """Texts with tokens to predict: `labels` holds the token where one was chosen, else -100.

    Of the chosen tokens 80 % become the mask token, 10 % another token, 10 % stay. What is chosen depends on seed, epoch and the number
    of the row alone, so that a resumed training sees what an uninterrupted one would. Special tokens are never chosen.

    Args:
        model: whose tokenizer, mask token and length to use.
        rows: with `text`.
        fraction: of the tokens of a row; 0 hides nothing.
        seed: of the training.
        teacher: run live; its own view of the same masked rows comes along. It must tokenize texts as the model does, and may number
            the tokens in another way.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1; chosen anew in every epoch as in Liu et al. 2019, arXiv:1907.11692.
    Departs: every token is chosen alike often (DistilBERT's code chooses rare ones more often).
    """

    def __init__(self, model: TextModel, rows: datasets.Dataset, *, fraction: float, seed: int, teacher: TextModel | None = None) -> None:
        live = fields_of(teacher, rows) if teacher else None
        super().__init__(fields_of(model, rows), np.zeros(0, dtype=np.int64), teacher=live)
        self.fraction, self.seed, self.epoch = fraction, seed, 0
        self.mask_token = model.tokenizer.mask_token_id
        special = np.asarray(model.tokenizer.all_special_ids)
        self.ordinary = np.setdiff1d(np.arange(len(model.tokenizer)), special)
        if teacher is not None:
            vocabulary, unknown = teacher.tokenizer.get_vocab(), teacher.tokenizer.unk_token_id or 0
            vocabulary[model.tokenizer.mask_token] = teacher.tokenizer.mask_token_id or unknown
            tokens = model.tokenizer.convert_ids_to_tokens(range(len(model.tokenizer)))
            self.as_teacher = np.asarray([vocabulary.get(token, unknown) for token in tokens])

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def batch(self, rows: Sequence[int]) -> Batch:
        positions, ids = range(len(rows)), self.student["input_ids"].take(rows)
        hidden, labels = map(np.concatenate, zip(*map(self._masked, rows), strict=True))
        batch: Batch = {
            "student": batch_of(_with_ids(self.student, rows, hidden), positions),
            "labels": torch.from_numpy(replace(ids, flat=labels, fill=UNLABELLED).padded(positions)),
        }
        if self.teacher is not None:
            teacher_ids = self.teacher["input_ids"].take(rows).flat
            teacher_ids = np.where(hidden == ids.flat, teacher_ids, self.as_teacher[hidden])
            batch["teacher"] = batch_of(_with_ids(self.teacher, rows, teacher_ids), positions)
        return batch | {"counted": batch["student"]["attention_mask"].bool()}

    def _masked(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The token ids of a row with some of them hidden, and what these are."""
        ids = self.student["input_ids"][row]
        draw = np.random.default_rng([self.seed, self.epoch, row])
        chosen = (draw.random(len(ids)) < self.fraction) & np.isin(ids, self.ordinary)
        how = draw.random(len(ids))
        others = draw.choice(self.ordinary, size=len(ids))
        hidden = np.where(chosen & (how < MASKED), self.mask_token, ids)
        hidden = np.where(chosen & (how >= MASKED) & (how < MASKED + REPLACED), others, hidden)
        return hidden, np.where(chosen, ids, UNLABELLED)


def _with_ids(fields: Fields, rows: Sequence[int], ids: np.ndarray) -> Fields:
    """What a model is given of some rows, with other tokens."""
    selected = {name: field.take(rows) for name, field in fields.items()}
    return selected | {"input_ids": replace(selected["input_ids"], flat=ids)}
