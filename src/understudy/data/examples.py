"""Rows → examples → batches: tokenized once for each view, grouped by length, padded to the longest of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset, Sampler

from understudy.data.tables import UNLABELLED, strata_of
from understudy.errors import ModelError
from understudy.models.view import Fields, Ragged, View, padded

if TYPE_CHECKING:
    import datasets

    from understudy.models.text_model import TextModel

Batch = dict[str, Any]  # "student" and "teacher" → model inputs (of the teacher also kept "logits"), "labels", "counted"
TEACHER = "teacher_"  # prefix of a teacher's columns in a plain data set
# Rows are sorted by length within this many batches: enough to leave almost no padding, few enough to keep batches mixed.
BUCKET_BATCHES = 50
_CHUNK = 8192  # rows tokenized together
_FEW = 8  # rows; of fewer it is unknown whether a tokenizer reads them


def fields_of(model: TextModel, rows: datasets.Dataset, *, remember: bool = True) -> Fields:
    """What a model is given of rows. A row with an identity is tokenized once for each view, for as long as a model has that view.

    Args:
        rows: with `text` and perhaps `text_pair`.
        remember: False for rows that will not be read again.

    Raises:
        ModelError: the tokenizer finds no token in most rows; a few such have one unknown token each.
    """
    if not remember or "identity" not in rows.column_names:
        return _tokenized(model, rows)
    pair = "text_pair" in rows.column_names
    return _READ.setdefault(model.view, (_Read(), _Read()))[pair].fields(model, rows)


class _Read:
    """The rows that a view has read, either single texts or pairs, found by identity."""

    def __init__(self) -> None:
        self.known = pa.array([], pa.string())
        self.kept: dict[str, Ragged] = {}

    def fields(self, model: TextModel, rows: datasets.Dataset) -> Fields:
        keys = pa.array(rows["identity"][:])
        new = np.flatnonzero(pc.invert(pc.is_in(keys, value_set=self.known)).to_numpy(zero_copy_only=False))
        if new.size:
            fields = _tokenized(model, rows.select(new))
            kept = {name: joined([self.kept[name], field] if self.kept else [field]) for name, field in fields.items()}
            self.kept, self.known = kept, pa.concat_arrays([self.known, keys.take(pa.array(new))])
        places = pc.index_in(keys, value_set=self.known).to_numpy()
        return {name: field.take(places) for name, field in self.kept.items()}


_READ: WeakKeyDictionary[View, tuple[_Read, _Read]] = WeakKeyDictionary()


def _tokenized(model: TextModel, rows: datasets.Dataset) -> Fields:
    pair, parts, empty = "text_pair" in rows.column_names, [], 0
    for start in range(0, max(len(rows), 1), _CHUNK):
        part = rows[start : start + _CHUNK]
        fields, without = model.view.encode(part["text"], part["text_pair"] if pair else None)
        parts.append(fields)
        empty += without
    if len(rows) >= _FEW and empty > len(rows) / 2:
        raise ModelError(
            f"{model.model.config.name_or_path or 'the model'}: its tokenizer finds no token in {empty:,} of {len(rows):,} "
            "texts: is it the model's own, and are the texts in its language?"
        )
    return {name: joined([part[name] for part in parts]) for name in parts[0]}


def joined(parts: Sequence[Ragged]) -> Ragged:
    """The rows of several, one after the other."""
    if len(parts) == 1:
        return parts[0]
    flat, lengths = (np.concatenate([getattr(part, name) for part in parts]) for name in ("flat", "lengths"))
    return Ragged(flat, lengths, parts[0].fill)


class Examples(Dataset):
    """What a training reads: the student's view of rows, their labels, and the teacher's outputs for them.

    Args:
        student: what the student is given of them.
        labels: class indices or numbers, (rows,).
        teacher_logits: kept outputs, (rows, outputs); None when no objective wants them.
        teacher: what a live teacher is given of them; None where it is the same, or no live teacher is used.
        sampling_weights: how often a row is drawn, relative; None draws each once an epoch.
    """

    def __init__(
        self,
        student: Fields,
        labels: np.ndarray,
        teacher_logits: np.ndarray | None = None,
        *,
        teacher: Fields | None = None,
        sampling_weights: np.ndarray | None = None,
    ) -> None:
        self.student, self.teacher = student, teacher
        self.labels, self.teacher_logits, self.sampling_weights = labels, teacher_logits, sampling_weights

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, for the student."""
        return self.student["input_ids"].lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Batch:
        return self.batch([row])

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        """What a `DataLoader` calls where a data set has it."""
        return self.batch(rows)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Some rows, padded to the longest of them."""
        batch: Batch = {"student": batch_of(self.student, rows), "labels": tensor(self.labels[rows])}
        if self.teacher is not None:
            batch["teacher"] = batch_of(self.teacher, rows)
        if self.teacher_logits is not None:
            batch.setdefault("teacher", {})["logits"] = tensor(self.teacher_logits[rows])
        return batch | {"counted": torch.ones_like(batch["labels"], dtype=torch.bool)}


def batch_of(fields: Fields, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
    """What a model is given of some rows, padded."""
    return {name: torch.from_numpy(value) for name, value in padded(fields, rows).items()}


def tensor(values: np.ndarray) -> torch.Tensor:
    """In float32, or int64."""
    return torch.from_numpy(values.astype(np.float32 if values.dtype.kind == "f" else np.int64))


def nested(batch: Mapping[str, Any]) -> Batch:
    """A batch as it is here, of one in which a prefix marks the teacher's columns."""
    views: Batch = {"student": {}, "teacher": {}}
    for name, value in batch.items():
        if name == "labels":
            views[name] = value
        else:
            views["teacher" if name.startswith(TEACHER) else "student"][name.removeprefix(TEACHER)] = value
    first = next(iter(views["student"].values()))
    tokens = "labels" in views and views["labels"].dim() == 2  # a label for each
    mask = views["student"]["attention_mask"] if tokens else first.new_ones(len(first))
    return views | {"counted": mask.bool()}


class Collator:
    """Makes a batch of rows: those of `Examples` are one already; those of a plain data set are padded, each view with its own padding.

    Args:
        pad_token_id: of the student's tokenizer.
        teacher_pad_token_id: of the teacher's, for the columns named `teacher_…`; None: the student's.
        collate: a collator of the caller's own, for plain data sets.
    """

    def __init__(
        self, pad_token_id: int | None, teacher_pad_token_id: int | None = None, collate: Callable[[Any], Any] | None = None
    ) -> None:
        self.pad, self.collate = pad_token_id or 0, collate
        self.teacher_pad = self.pad if teacher_pad_token_id is None else teacher_pad_token_id

    def __call__(self, rows: Any) -> Batch:
        if isinstance(rows, Mapping):
            return dict(rows)
        return nested(self._padded(rows) if self.collate is None else self.collate(rows))

    def _padded(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        batch: dict[str, torch.Tensor] = {}
        positions = range(len(rows))
        for name in rows[0]:
            values = [np.asarray(row[name]) for row in rows]
            tokens = name == "labels" and values[0].ndim == 1  # a label for each token
            if tokens or name.endswith(("input_ids", "token_type_ids", "attention_mask")):
                pad = self.teacher_pad if name.startswith(TEACHER) else self.pad
                fill = UNLABELLED if tokens else pad if name.endswith("input_ids") else 0
                field = Ragged(np.concatenate(values), np.asarray([len(value) for value in values]), fill)
                batch[name] = torch.from_numpy(field.padded(positions))
                if name.endswith("input_ids"):
                    mask = batch_of({"input_ids": field}, positions)["attention_mask"]
                    batch.setdefault(name.replace("input_ids", "attention_mask"), mask)
            elif values[0].dtype.kind in "iufb" and not (name == "label" and "labels" in rows[0]):
                batch["labels" if name == "label" else name] = tensor(np.stack(values))  # texts are left out
        return batch


class LengthBuckets(Sampler[int]):
    """Row numbers, shuffled, in runs of similar length: each epoch its own order, fixed by seed and epoch alone.

    Rows are shuffled, divided into runs of 50 batches, sorted by length within a run; then whole batches are shuffled. As the order
    depends on nothing else, a resumed training sees the same batches.

    Args:
        lengths: tokens a row.
        batch_size: rows of one update (of all processes and accumulated batches together).
        weights: draw rows with replacement in proportion to these; None takes each once.
        bucketed: False only shuffles.
        on_epoch: is called with each epoch's number.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        *,
        seed: int = 0,
        weights: np.ndarray | None = None,
        bucketed: bool = True,
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        self.lengths, self.batch_size, self.weights = lengths, batch_size, weights
        self.bucketed, self.on_epoch, self.seed, self.epoch = bucketed, on_epoch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if self.on_epoch is not None:
            self.on_epoch(epoch)

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


def examples_of(
    model: TextModel,
    rows: datasets.Dataset,
    teacher_logits: np.ndarray | None = None,
    *,
    teacher: TextModel | None = None,
    balanced: bool = False,
) -> Examples:
    """A model's view of rows with labels.

    Args:
        teacher: used live; its own view of the rows comes along.
        balanced: draw rows so that every class comes equally often, of several that a row has the rarest; unlabelled rows come as often
            as the largest class's.
    """
    labels = np.asarray(rows["label"])
    weights = None
    if balanced and labels.dtype.kind != "f":
        classes = strata_of(labels)
        counts = np.bincount(classes[classes >= 0])
        weights = np.where(classes >= 0, 1.0 / counts[np.maximum(classes, 0)].clip(min=1), 1.0 / counts.max())
    live = None if teacher is None else fields_of(teacher, rows)
    return Examples(fields_of(model, rows), labels, teacher_logits, teacher=live, sampling_weights=weights)


def by_length(model: TextModel, rows: datasets.Dataset) -> Examples:
    """Rows in order of length, so that measuring on them pads next to nothing."""
    lengths = fields_of(model, rows)["input_ids"].lengths
    return examples_of(model, rows.select(np.argsort(-lengths, kind="stable")))
