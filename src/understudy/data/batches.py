"""Rows → token ids → batches: tokenize once, group rows of similar length, pad to the longest of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from understudy.data.tables import MASKED, UNLABELLED
from understudy.errors import ModelError
from understudy.runtime import as_text, crowded, stand_in

if TYPE_CHECKING:
    import datasets

    from understudy.models.text_model import TextModel

TEACHER_VIEW = "teacher_"  # prefix of a model input that is the teacher's, where its tokenizer is not the student's
# Rows are sorted by length within this many batches: enough to leave almost no padding, few enough to keep batches mixed.
BUCKET_BATCHES = 50
_FEW = 8  # rows; of fewer nobody can say that a tokenizer does not read them


class Tokens:
    """Token ids of many rows, kept flat so that a million rows are three arrays and no million lists.

    Args:
        model: whose tokenizer and length to use.
        rows: a data set with `text` and perhaps `text_pair`.

    Raises:
        ModelError: the tokenizer finds no token in most rows; a few such have one unknown token each.
    """

    def __init__(self, model: TextModel, rows: datasets.Dataset, *, chunk: int = 8192) -> None:
        ids: list[np.ndarray] = []
        types: list[np.ndarray] = []
        lengths: list[int] = []
        pair = "text_pair" in rows.column_names
        without = 0
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            found = _encoded(model, part["text"], part["text_pair"] if pair else None)
            without += _filled(found, stand_in(model.tokenizer.unk_token_id, model.tokenizer.pad_token_id))
            lengths += [len(row) for row in found["input_ids"]]
            ids.append(np.concatenate([np.asarray(row, dtype=np.int32) for row in found["input_ids"]]))
            if pair and "token_type_ids" in found:
                types.append(np.concatenate([np.asarray(row, dtype=np.int8) for row in found["token_type_ids"]]))
        if len(rows) >= _FEW and without > len(rows) / 2:
            raise ModelError(
                f"{model.model.config.name_or_path or 'the model'}: its tokenizer finds no token in {without:,} of {len(rows):,} "
                "texts: is it the model's own, and are the texts in its language?"
            )
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self._ends = np.cumsum(self.lengths)
        self._ids = np.concatenate(ids) if ids else np.zeros(0, np.int32)
        self._types = np.concatenate(types) if types else None

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, index: int) -> dict[str, np.ndarray]:
        """Model inputs of a row, without padding."""
        end = self._ends[index]
        place = slice(end - self.lengths[index], end)
        found = {"input_ids": self._ids[place]}
        if self._types is not None:
            found["token_type_ids"] = self._types[place]
        return found


def _filled(encoded: Mapping[str, list[list[int]]], stand_in: int) -> int:
    """Give every row without a token one; how many these are."""
    empty = [row for row, ids in enumerate(encoded["input_ids"]) if not len(ids)]
    for name, values in encoded.items():
        for row in empty:
            values[row] = [stand_in if name == "input_ids" else 0]
    return len(empty)


def _encoded(model: TextModel, texts: Sequence[str], pairs: Sequence[str] | None) -> Mapping[str, list[list[int]]]:
    """Token ids of rows, and their token types; special tokens are those that the tokenizer puts in, and what `masking` wrote."""
    call = partial(model.tokenizer, truncation=True, max_length=model.max_length, return_attention_mask=False)
    found = call(texts, pairs)
    encoded = {name: list(found[name]) for name in found}
    special = model.special_ids
    lengths = np.fromiter(map(len, encoded["input_ids"]), dtype=np.int64, count=len(texts))
    flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in encoded["input_ids"]])
    around = model.tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    for row in crowded(flat, lengths, special, around):
        encoded["input_ids"][row] = as_text(found.encodings[row], special, model.tokenizer.unk_token_id)
    for row, written in enumerate(zip(texts, pairs or texts, strict=True)):
        if any(MASKED in text for text in written):
            mask = model.tokenizer.mask_token or model.tokenizer.unk_token or ""
            masked = [text.replace(MASKED, mask) for text in written]
            one = call(masked[0], masked[1] if pairs else None, split_special_tokens=False)
            for name in one:
                encoded[name][row] = one[name]
    return encoded


class TokenizedRows(Dataset):
    """What a training reads: the student's view of a row, its label, and what the teacher said of it.

    Args:
        tokens: the student's view.
        labels: class indices or numbers, (rows,).
        teacher_logits: kept outputs, (rows, outputs); None when no objective wants them.
        teacher_tokens: a live teacher's view; None where it is the student's, or no live teacher is asked.
        sampling_weights: how often a row is drawn, relative; None draws each once an epoch.
    """

    def __init__(
        self, tokens: Tokens, labels: np.ndarray, teacher_logits: np.ndarray | None = None, *,
        teacher_tokens: Tokens | None = None, sampling_weights: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.tokens, self.labels, self.teacher_logits, self.teacher_tokens = (
            tokens,
            labels,
            teacher_logits,
            teacher_tokens,
        )
        self.sampling_weights = sampling_weights

    @property
    def lengths(self) -> np.ndarray:
        return self.tokens.lengths

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self.tokens.row(index)
        row["labels"] = self.labels[index]
        if self.teacher_logits is not None:
            row["teacher_logits"] = self.teacher_logits[index]
        if self.teacher_tokens is not None:
            row |= {f"{TEACHER_VIEW}{name}": value for name, value in self.teacher_tokens.row(index).items()}
        return row


class Collator:
    """Pads rows to the longest of their batch, each view with its own padding; makes the attention masks.

    Args:
        pad_token_id: of the student's tokenizer.
        teacher_pad_token_id: of the teacher's, for the inputs named `teacher_…`; None: the student's.
    """

    def __init__(self, pad_token_id: int | None, teacher_pad_token_id: int | None = None) -> None:
        self.pad = pad_token_id or 0
        self.teacher_pad = self.pad if teacher_pad_token_id is None else teacher_pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = {}
        for name in rows[0]:
            values = [np.asarray(row[name]) for row in rows]
            a_token = name == "labels" and values[0].ndim == 1  # a label for each token
            if a_token or name.endswith(("input_ids", "token_type_ids", "attention_mask")):
                lengths = np.asarray([len(value) for value in values])
                fill = UNLABELLED if a_token else 0
                if name.endswith("input_ids"):
                    fill = self.teacher_pad if name.startswith(TEACHER_VIEW) else self.pad
                padded = np.full((len(values), lengths.max()), fill, dtype=np.int64)
                counted = np.arange(lengths.max()) < lengths[:, None]
                padded[counted] = np.concatenate(values)
                batch[name] = torch.from_numpy(padded)
                if name.endswith("input_ids"):
                    batch.setdefault(
                        name.replace("input_ids", "attention_mask"), torch.from_numpy(counted.astype(np.int64))
                    )
            elif values[0].dtype.kind not in "iufb" or (name == "label" and "labels" in rows[0]):
                continue  # plain data sets carry their raw columns along
            else:
                stacked = np.stack(values)
                batch["labels" if name == "label" else name] = torch.from_numpy(
                    stacked.astype(np.float32) if stacked.dtype.kind == "f" else stacked.astype(np.int64)
                )
        return batch


class LengthBuckets(Sampler[int]):
    """Row numbers, shuffled, in runs of similar length: each epoch its own order, fixed by seed and epoch alone.

    Rows are shuffled, cut into runs of 50 batches, sorted by length within a run; then whole batches are shuffled. As the order
    depends on nothing else, a resumed training sees the same batches.

    Args:
        lengths: tokens a row.
        batch_size: rows of one update (of all processes and accumulated batches together).
        weights: draw rows with replacement in proportion to these; None takes each once.
        bucketed: False only shuffles.
        tell: is told each epoch's number too.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        *,
        seed: int = 0,
        weights: np.ndarray | None = None,
        bucketed: bool = True,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        self.tell = tell
        self.lengths, self.batch_size, self.seed, self.weights, self.bucketed = (
            lengths,
            batch_size,
            seed,
            weights,
            bucketed,
        )
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if self.tell is not None:
            self.tell(epoch)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        rows = len(self.lengths)
        drawn = None if self.weights is None else self.weights / self.weights.sum()
        order = random.permutation(rows) if drawn is None else random.choice(rows, size=rows, p=drawn)
        if self.bucketed:
            run = self.batch_size * BUCKET_BATCHES
            batches: list[np.ndarray] = []
            for start in range(0, rows, run):
                bucket = order[start : start + run]
                bucket = bucket[np.argsort(-self.lengths[bucket], kind="stable")]
                batches += [bucket[at : at + self.batch_size] for at in range(0, len(bucket), self.batch_size)]
            # The one short batch stays last, so that every other update has the full number of rows.
            last = [batches.pop()] if len(batches[-1]) < self.batch_size else []
            batches = [batches[index] for index in random.permutation(len(batches))] + last
            order = np.concatenate(batches)
        return iter(order.tolist())


def tokenized(
    model: TextModel, rows: datasets.Dataset, teacher_logits: np.ndarray | None = None, *, teacher: TextModel | None = None,
    balanced: bool = False,
) -> TokenizedRows:  # fmt: skip
    """A model's view of rows with labels.

    Args:
        teacher: asked live; its own view of the rows comes along.
        balanced: draw rows so that every class comes equally often; unlabelled rows come as often as the largest class's.
    """
    labels = np.asarray(rows["label"])
    weights = None
    if balanced and labels.dtype.kind != "f":
        counts = np.bincount(labels[labels >= 0])
        weights = np.where(labels >= 0, 1.0 / counts[np.maximum(labels, 0)].clip(min=1), 1.0 / counts.max())
    views = Tokens(model, rows), None if teacher is None else Tokens(teacher, rows)
    return TokenizedRows(views[0], labels, teacher_logits, teacher_tokens=views[1], sampling_weights=weights)


def by_length(model: TextModel, rows: datasets.Dataset) -> TokenizedRows:
    """Rows in order of length, so that measuring on them pads next to nothing."""
    lengths = Tokens(model, rows).lengths
    return tokenized(model, rows.select(np.argsort(-lengths, kind="stable")))
