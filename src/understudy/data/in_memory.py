"""Rows that a Python program holds, in place of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from understudy.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

ALLOWED = "a pandas DataFrame, a datasets.Dataset or a list of dictionaries"
_NAME = re.compile(r"<\w+: [\d,]+ rows>")


class InMemory:
    """A table in memory: what a setting such as `data.train` may hold instead of the name of a file.

    Args:
        rows: a pandas DataFrame, a `datasets.Dataset` or a list of dictionaries.

    Raises:
        ValueError: anything else.

    >>> print(InMemory([{"text": "a film", "label": "good"}]))
    <list: 1 rows>
    """

    def __init__(self, rows: Any) -> None:
        frame = hasattr(rows, "columns") and hasattr(rows, "notna")
        dataset = hasattr(rows, "column_names") and hasattr(rows, "features")
        listed = isinstance(rows, list | tuple) and all(isinstance(row, Mapping) for row in rows)
        if isinstance(rows, Mapping):
            raise ValueError(
                f"rows are needed, got a {type(rows).__name__} of {', '.join(map(str, rows))}; give one split, as in rows['train']"
            )
        if not (frame or dataset or listed):
            raise ValueError(f"the name of a file, folder or hub data set is needed, or {ALLOWED}; got {type(rows).__name__}")
        self._rows, self._frame = rows, frame

    def __str__(self) -> str:
        return f"<{type(self._rows).__name__}: {len(self._rows):,} rows>"

    __repr__ = __str__

    def __deepcopy__(self, memo: Any) -> InMemory:
        return self

    def dataset(self) -> Dataset | None:
        """The rows, where they are a `datasets.Dataset` already."""
        return self._rows if hasattr(self._rows, "features") else None

    def columns(self) -> dict[str, list[Any]]:
        """Name → values, with None for what pandas calls missing.

        Raises:
            DataError: a column is there twice.
        """
        if not self._frame:
            keys = dict.fromkeys(name for row in self._rows for name in row)
            return {str(key): [row.get(key) for row in self._rows] for key in keys}
        names = [str(name) for name in self._rows.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{self}: column '{twice[0]}' appears twice; every column needs its own name")
        columns = {}
        for place, name in enumerate(names):
            column = self._rows.iloc[:, place]
            columns[name] = column.astype(object).where(column.notna(), None).tolist()
        return columns


def source_of(value: Any) -> str | InMemory | None:
    """A setting that names rows: a name as it is, anything else as rows in memory.

    Raises:
        ValueError: no rows; or the name that a recipe has in place of rows that were in memory.
    """
    if value is None or isinstance(value, InMemory):
        return value
    if not isinstance(value, str):
        return str(value) if hasattr(value, "__fspath__") else InMemory(value)
    if _NAME.fullmatch(value):
        raise ValueError(
            f"{value} stands for rows in the memory of a Python program, which no file keeps; pass them from Python again, "
            "or write them to a file and name it"
        )
    return value
