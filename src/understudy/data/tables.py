"""Tables as they were read, and as they are once checked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.data.sources import no_column
from understudy.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

UNLABELLED = -100  # of classes, as torch's cross-entropy ignores it; NaN is the unlabelled number


def unlabelled(labels: np.ndarray) -> np.ndarray:
    """Which rows have no label: (rows,), of labels of one answer a row, or of several, which are all there or all missing."""
    missing = np.isnan(labels) if labels.dtype.kind == "f" else labels == UNLABELLED
    return missing.reshape(len(labels), -1).any(axis=1)


def missing_label(feature: Any) -> Any:
    """The label of a row that has none, for a column of this kind."""
    if hasattr(feature, "length"):  # a list, of 0 or 1 for each class
        return [UNLABELLED] * feature.length
    return math.nan if feature.dtype.startswith("float") else UNLABELLED


def strata_of(labels: np.ndarray) -> np.ndarray:
    """What is to keep its proportions: each row's class, of several the rarest, below 0 where it has none; 0 for numbers: (rows,)."""
    if labels.dtype.kind == "f":
        return np.zeros(len(labels), dtype=np.int64)
    if labels.ndim == 1:
        return labels
    holds = labels == 1
    rarest = np.where(holds, holds.sum(axis=0), len(labels) + 1).argmin(axis=1)
    return np.where(holds.any(axis=1), rarest, -1)


def identity(text: str, text_pair: str | None = None) -> str:
    """What a row is known by everywhere: 32 hex digits of the blake2b hash of its texts.

    >>> identity("a b") != identity("a", "b") != identity("a", "")
    True
    """
    encoded = json.dumps([text, text_pair], ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


@dataclass(frozen=True)
class Source:
    """A table as it was read, and what to call it in messages."""

    where: str
    dataset: Dataset
    columns: Mapping[str, str] = field(default_factory=dict)  # our name → the file's own, where they differ
    answer: str = "label"  # the column of the labels


@dataclass(frozen=True)
class Table:
    """Checked rows of one split; `labels` is (rows,), or (rows, classes) of 0 and 1 where a row may have several."""

    where: str
    identities: list[str]
    texts: list[str]
    pairs: list[str] | None
    labels: np.ndarray
    groups: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def unlabelled(self) -> np.ndarray:
        return unlabelled(self.labels)

    @property
    def strata(self) -> list[int]:
        """What splits keep the proportions of."""
        return strata_of(self.labels).tolist()

    def take(self, keep: np.ndarray, where: str | None = None) -> Table:
        rows = np.flatnonzero(keep).tolist()

        def chosen(values: list[Any] | None) -> Any:
            return None if values is None else [values[row] for row in rows]

        return replace(
            self,
            where=where or self.where,
            identities=chosen(self.identities),
            texts=chosen(self.texts),
            pairs=chosen(self.pairs),
            labels=self.labels[rows],
            groups=chosen(self.groups),
        )

    def dataset(self) -> Dataset:
        from datasets import Dataset, Features, List, Value

        columns: dict[str, Any] = {"identity": self.identities, "text": self.texts, "label": self.labels}
        if self.pairs is not None:
            columns["text_pair"] = self.pairs
        kinds: dict[str, Any] = dict.fromkeys(columns, Value("string"))
        kinds["label"] = Value(str(self.labels.dtype))
        if self.labels.ndim == 2:
            kinds["label"] = List(kinds["label"], length=self.labels.shape[1])
        return Dataset.from_dict(columns, features=Features(kinds))


def need_column(source: Source, name: str) -> None:
    names = source.dataset.column_names
    if name not in names:
        raise no_column(source.where, name, [source.columns.get(column, column) for column in names])


def need_columns(source: Source, names: Sequence[str]) -> None:
    """As `need_column` of each; those that are not there are named together."""
    columns = source.dataset.column_names
    missing = [name for name in names if name not in columns]
    if len(missing) < 2:
        for name in missing:
            need_column(source, name)
        return
    file_names = [source.columns.get(column, column) for column in columns]
    first, *more = [str(no_column(source.where, name, file_names)) for name in missing]
    if "is the header missing" in first:
        raise DataError(first)
    if any(", but one '" in message for message in (first, *more)):  # in other case
        raise DataError("; ".join([first, *(message.removeprefix(f"{source.where}: ") for message in more)]))
    has = listed(file_names)
    raise DataError(
        f"{source.where}: no columns {' and '.join(map(repr, missing))}; it has {has}. Map them with "
        + " ".join(f"--column {name}=NAME" for name in missing)
    )


def texts_of(source: Source, column: str) -> list[str]:
    need_column(source, column)
    values = source.dataset[column][:]
    missing = [row for row, value in enumerate(values) if value is None]
    if missing:
        raise DataError(f"{source.where}: {rows_named(missing)} without a {column}; fill in or remove them")
    for row, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise DataError(
                f"{source.where}: row {row}: {column} must be text, got {value!r:.40}; put quotes around it, "
                f"or name another column: --column {column}=NAME"
            )
    empty = [row for row, value in enumerate(values) if not value.strip()]
    if empty:
        raise DataError(f"{source.where}: {rows_named(empty)} with an empty {column}; fill in or remove them")
    return values


def rows_named(rows: Sequence[int] | np.ndarray) -> str:
    """
    >>> rows_named([2]), rows_named([0, 4])
    ('row 3 (not counting the header)', 'rows 1 and 5 (not counting the header)')
    >>> rows_named(range(8))
    '8 rows: 1, 2, 3, 4, 5, … (not counting the header)'
    """
    *most, last = [str(row + 1) for row in rows[:5]]
    if len(rows) > 5:
        counted = f"{len(rows):,} rows: {', '.join([*most, last])}, …"
    else:
        counted = f"rows {', '.join(most)} and {last}" if most else f"row {last}"
    return f"{counted} (not counting the header)"


def listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
