"""Rows of a file of any size, one after another; needs no torch, and for text files nothing but Python."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import Any

from understudy.data import delimited, sources
from understudy.data.text_files import Progress, decoded, ending_of, lines_of, objects
from understudy.errors import DataError, did_you_mean

Row = tuple[str, str | None]  # a text and its pair
Record = tuple[Row, Mapping[str, Any]]  # with all columns, by the file's names
_Reader = Callable[[str, Iterable[str], Mapping[str, str]], Iterator[Record]]
_COLUMNS = ("text", "text_pair")
_NAME = re.compile(r"[^\W\d][\w.-]{0,40}")  # what the fields of a header are like


def stream_rows(source: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Texts and their pairs, in the order of the file; see `stream_records`."""
    return (row for row, _ in stream_records(source, columns))


def stream_records(source: str, columns: Mapping[str, str], *, progress: Progress = lambda read: None) -> Iterator[Record]:
    """Texts and their pairs, each with all columns of its row, in the order of the file.

    .jsonl, .csv, .tsv and .txt (a text a line), each also with .gz, are read as they are used; .json and .parquet, folders and the
    hub's data sets are read whole.

    Args:
        columns: our name → the file's name, as in `{"text": "review"}`.
        progress: is called with the number of bytes read of the file, after each row.

    Raises:
        DataError: no such file, a broken line, not UTF-8, or a column that is not there.
    """
    columns = _of_texts(columns)
    path = Path(source)
    ending = ending_of(path)
    if not path.is_file() or ending not in (".jsonl", ".csv", ".tsv", ".txt"):
        yield from _whole(source, columns)
    elif not any(line.strip() for line in lines_of(path)):
        raise DataError(f"{source}: the file is empty; it must hold at least one row")
    elif ending in (".csv", ".tsv"):
        wanted = [columns.get(our, our) for our in sources.our_columns()]
        yield from _delimited(source, delimited.read(path, wanted, progress), columns)
    elif ending == ".txt":
        _check_lines(source, lines_of(path), columns.get("text", "text"))
        yield from _lines(source, lines_of(path, progress), columns)
    else:
        yield from _jsonl(source, lines_of(path, progress), columns)


def stream_lines(lines: Iterable[bytes], columns: Mapping[str, str] | None = None, where: str = "standard input") -> Iterator[Record]:
    """Rows of standard input: one text per line, JSON Lines, or CSV or TSV with a header. The first lines decide which.

    Raises:
        DataError: not UTF-8, a line that is not like the first, or a header without a column of texts.
    """
    columns, text = _of_texts(columns or {}), dropwhile(lambda line: not line.strip(), decoded(lines, where))
    head: list[str] = []
    while len([line for line in head if line.strip()]) < 2 and (line := next(text, None)) is not None:
        head.append(line)
    if head:
        first, *rest = (line.strip() for line in head)
        yield from _reader_of(first, "".join(rest), columns, where)(where, chain(head, text), columns)


def _reader_of(first: str, second: str, columns: Mapping[str, str], where: str) -> _Reader:
    if first.startswith("{") and _is_object(first):
        return _jsonl
    wanted, headers = columns.get("text", "text"), {mark: _fields(first, mark) for mark in delimited.MARKS}
    mark, header = max(headers.items(), key=lambda item: (wanted in item[1], len(item[1])))
    if wanted in header:
        dialect = delimited.Dialect(mark)
        return lambda where, lines, columns: _delimited(where, delimited.rows(where, lines, dialect), columns)
    if "text" in columns:
        raise sources.no_column(f"{where}: line 1", wanted, header, asked_as="text")
    alike = len(_fields(second, mark)) == len(header) == len(set(header))
    if len(header) > 1 and alike and all(map(_NAME.fullmatch, header)):
        raise DataError(
            f"{where}: the first line looks like a header ({', '.join(header)}): map the column of the texts with "
            "--column text=NAME. If these are texts, one per line, put them into a .txt file and give it with --input"
        )
    return _lines


def _check_lines(source: str, lines: Iterable[str], wanted: str) -> None:
    """Refuse a table under the name of a text file; some spreadsheet programs write it so."""
    first, second, *_ = *islice((line.strip() for line in lines if line.strip()), 2), ""
    for mark in delimited.MARKS:
        header = [field.strip(' "') for field in first.split(mark)]
        if wanted in header and 1 < len(header) <= len(second.split(mark)) and all(map(_NAME.fullmatch, header)):
            raise DataError(
                f"{source}: the first line looks like a header ({', '.join(header)}); a .txt file holds one text per line, so name a "
                "table .csv or .tsv"
            )


def _fields(line: str, mark: str) -> list[str]:
    with delimited.any_length():
        return [field.strip() for field in next(csv.reader([line], delimiter=mark), [])]


def _of_texts(columns: Mapping[str, str]) -> dict[str, str]:
    for our in columns:
        if our not in sources.our_columns():
            swapped = columns[our] in sources.our_columns()
            raise DataError(
                f"--column {our}: unknown column role; {did_you_mean(our, sources.our_columns())}"
                + (f" Swap the sides: --column {columns[our]}={our}" if swapped else "")
            )
    return {our: theirs for our, theirs in columns.items() if our in _COLUMNS}


def _whole(source: str, columns: Mapping[str, str]) -> Iterator[Record]:
    if sources.is_table(source):
        table = sources.read_table(source, columns)
    else:
        splits = sources.read_folder_or_hub(source, columns)
        table = splits[next(name for name in ("test", "validation", "train") if name in splits)]
    if "text" not in table.column_names:
        raise sources.no_column(source, "text", table.column_names)
    for row in table:
        yield (row["text"], row.get("text_pair")), {columns.get(name, name): value for name, value in row.items()}


def _jsonl(source: str, lines: Iterable[str], columns: Mapping[str, str]) -> Iterator[Record]:
    text, pair = columns.get("text", "text"), columns.get("text_pair", "text_pair")
    for place, row in objects(lines, source):
        if text not in row:
            raise sources.no_column(place, text, row, asked_as="text" if "text" in columns else None)
        yield (row[text], row.get(pair)), row


def _lines(source: str, lines: Iterable[str], columns: Mapping[str, str]) -> Iterator[Record]:
    yield from (((line.strip(), None), {"text": line.strip()}) for line in lines if line.strip())


def _delimited(source: str, rows: Iterator[list[str]], columns: Mapping[str, str]) -> Iterator[Record]:
    header = next(rows, [])
    text, pair = _place(source, "text", header, columns), _place(source, "text_pair", header, columns)
    assert text is not None
    for row in rows:
        yield (row[text], None if pair is None else row[pair]), dict(zip(header, row, strict=True))


def _place(source: str, our: str, header: list[str], columns: Mapping[str, str]) -> int | None:
    theirs = columns.get(our, our)
    if theirs in header:
        return header.index(theirs)
    if our in columns or our == "text":
        raise sources.no_column(source, theirs, header, asked_as=our if our in columns else None)
    return None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
