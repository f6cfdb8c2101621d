"""How a model reads a row: texts → token ids → padded batches; the same in training, evaluation, an export and the server. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# What the augmenter `masking` writes in the place of a word: each tokenizer's own mask token, which a text cannot spell.
MASKED = "\ue000\ue001\ue000"
BATCH_TOKENS = 8192  # padded: long rows come in small batches, short ones in large


@dataclass(frozen=True)
class Ragged:
    """Rows of any number of positions each, flat in memory: a million rows are two arrays, not a million lists.

    Args:
        flat: the positions of all rows, row after row: (sum of lengths,).
        lengths: positions of each row: (rows,).
        fill: the value of padding.
    """

    flat: np.ndarray
    lengths: np.ndarray
    fill: int = 0

    @classmethod
    def of(cls, rows: Sequence[Any], fill: int = 0, dtype: Any = np.int32) -> Ragged:
        """From a sequence of sequences.

        >>> Ragged.of([[5, 6, 7], [8]], fill=9).padded([1, 0]).tolist()
        [[8, 9, 9], [5, 6, 7]]
        """
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        flat = np.fromiter(chain.from_iterable(rows), dtype=dtype, count=int(lengths.sum()))
        return cls(flat, lengths, fill)

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> np.ndarray:
        start = self._starts[row]
        return self.flat[start : start + self.lengths[row]]

    def take(self, rows: Sequence[int] | np.ndarray) -> Ragged:
        """These rows, in this order."""
        lengths = self.lengths[rows]
        shifts = self._starts[rows] - (np.cumsum(lengths) - lengths)
        return Ragged(self.flat[np.repeat(shifts, lengths) + np.arange(lengths.sum())], lengths, self.fill)

    def padded(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(rows, the longest of them), int64."""
        taken = self.take(rows)
        padded = np.full((len(rows), int(taken.lengths.max())), self.fill, dtype=np.int64)
        padded[np.arange(padded.shape[1]) < taken.lengths[:, None]] = taken.flat
        return padded


Fields = Mapping[str, Ragged]  # the inputs of a model for some rows, by name


@dataclass(frozen=True, eq=False)
class View:
    """How a model reads a row.

    Args:
        tokenizer: whose truncation, padding and special tokens are set here.
        max_length: tokens kept of a row.
        truncation_side: where a longer one loses tokens.
        pad_token_id: what fills up the shorter rows of a batch, on the right.
        inputs: names of the model's inputs; token types are used for pairs only.
        special_ids: tokens that no text can hold; where a text's words are tokenized to one of them, it becomes the unknown token.
        unknown_id: of the unknown token, where there is one.
        mask: the token that replaces `MASKED` in augmented texts; None: such a text is read as any other.
    """

    tokenizer: Tokenizer
    max_length: int
    truncation_side: str
    pad_token_id: int
    inputs: tuple[str, ...]
    special_ids: tuple[int, ...] = ()
    unknown_id: int | None = None
    mask: str | None = None

    @property
    def stand_in(self) -> int:
        """The token of a row in which the tokenizer finds none: the unknown token, else padding, counted as a token."""
        return self.pad_token_id if self.unknown_id is None else self.unknown_id

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, before: int = 0) -> tuple[Fields, int]:
        """Token ids, and token types of pairs; and how many rows have no tokens: these get one unknown token each.

        Args:
            before: rows that came earlier, for the numbers in messages.

        Raises:
            DataError: a text that is not UTF-8.
        """
        rows: list[Any] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self._encoded(rows, before)
        masked = self._masked(rows, encodings)
        ids = Ragged.of([encoding.ids or (self.stand_in,) for encoding in encodings], self.pad_token_id)
        self._unspell(ids, encodings, masked, self.tokenizer.num_special_tokens_to_add(pairs is not None))
        fields = {"input_ids": ids}
        if pairs is not None and "token_type_ids" in self.inputs:
            fields["token_type_ids"] = Ragged.of([encoding.type_ids or (0,) for encoding in encodings], dtype=np.int8)
        return fields, sum(not len(encoding) for encoding in encodings)

    def _encoded(self, rows: list[Any], before: int) -> list[Encoding]:
        wanted = {"max_length": self.max_length, "stride": 0, "strategy": "longest_first", "direction": self.truncation_side}
        if self.tokenizer.padding is not None:
            self.tokenizer.no_padding()
        if not wanted.items() <= (self.tokenizer.truncation or {}).items():
            self.tokenizer.enable_truncation(self.max_length, direction=self.truncation_side)
        if not self.tokenizer.encode_special_tokens:
            self.tokenizer.encode_special_tokens = True  # one that a text spells out is text
        try:
            return self.tokenizer.encode_batch_fast(rows)
        except Exception:
            for row, texts in enumerate(rows, before + 1):
                try:
                    "".join(texts).encode()
                except UnicodeEncodeError as error:
                    raise DataError(
                        f"row {row}: not UTF-8: character {error.start + 1} is half a character or a stray byte; repair the text"
                    ) from None
            raise

    def _masked(self, rows: list[Any], encodings: list[Encoding]) -> set[int]:
        """The rows that masking wrote into, encoded with the mask token."""
        masked = {row for row, texts in enumerate(rows) if MASKED in "".join(texts)} if self.mask is not None else set()
        if masked:
            self.tokenizer.encode_special_tokens = False
            for row in masked:
                texts = [rows[row]] if isinstance(rows[row], str) else rows[row]
                encodings[row] = self.tokenizer.encode(*(text.replace(MASKED, self.mask) for text in texts))
        return masked

    def _unspell(self, ids: Ragged, encodings: list[Encoding], masked: set[int], around: int) -> None:
        """Replace special tokens that a text itself spells by the unknown token: rows with more of them than the tokenizer adds."""
        if not self.special_ids:
            return
        special = np.isin(ids.flat, self.special_ids)
        counts = np.bincount(np.repeat(np.arange(len(ids)), ids.lengths)[special], minlength=len(ids))
        for row in np.flatnonzero(counts > around).tolist():
            if row not in masked:
                added = np.asarray(encodings[row].special_tokens_mask, dtype=bool)
                ids[row][np.isin(ids[row], self.special_ids) & ~added] = self.unknown_id


def padded(fields: Fields, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """A model's inputs for these rows, (rows, longest) each, padded on the right, with `attention_mask`, 0 at padding."""
    lengths = fields["input_ids"].lengths[rows]
    mask = np.arange(lengths.max()) < lengths[:, None]
    return {name: field.padded(rows) for name, field in fields.items()} | {"attention_mask": mask.astype(np.int64)}


def batches_by_length(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Row numbers in order of length, so that a batch has next to no padding; batches of long rows are smaller.

    >>> [rows.tolist() for rows in batches_by_length(np.array([3, 5000, 4]), 2)]
    [[1], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, min(batch_size, BATCH_TOKENS // int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def plain(tokenizer: Tokenizer) -> str:
    """A tokenizer as JSON, without the truncation and padding that a call left set; they stay as they are."""
    truncation, padding = tokenizer.truncation, tokenizer.padding
    tokenizer.no_truncation()
    tokenizer.no_padding()
    text = str(tokenizer.to_str())
    if truncation is not None:
        tokenizer.enable_truncation(**truncation)
    if padding is not None:
        tokenizer.enable_padding(**padding)
    return text
