"""Rows of a file of any size, one after another; needs no torch, and for text files nothing but Python."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.data import sources
from understudy.errors import DataError, did_you_mean

Row = tuple[str, str | None]  # a text and its pair
Record = tuple[Row, Mapping[str, Any]]  # with all columns, by the file's names
_Reader = Callable[[str, Iterable[bytes], Mapping[str, str]], Iterator[Record]]
_COLUMNS = ("text", "text_pair")
_NAME = re.compile(r"[^\W\d][\w.-]{0,40}")  # what the fields of a header are like


def stream_rows(source: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Texts and their pairs, in the order of the file; see `stream_records`."""
    return (row for row, _ in stream_records(source, columns))


def stream_records(
    source: str, columns: Mapping[str, str], *, tell: Callable[[int], None] = lambda read: None
) -> Iterator[Record]:
    """Texts and their pairs, each with all columns of its row, in the order of the file.

    .jsonl, .csv, .tsv and .txt (a text a line), each also with .gz, are read as they are used; .json and .parquet, folders and the
    hub's data sets are read whole.

    Args:
        columns: our name → the file's name, as in `{"text": "review"}`.
        tell: is told how many bytes of the file are read, after each row.

    Raises:
        DataError: no such file, a broken line, not UTF-8, or a column that is not there.
    """
    columns = _of_texts(columns)
    path = Path(source)
    ending = Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if not path.is_file() or ending not in (".jsonl", ".csv", ".tsv", ".txt"):
        yield from _whole(source, columns)
        return
    if ending == ".tsv" and not _parses(path, columns):
        ending = "literal"  # as GLUE writes it
    yield from _of_file(path, _READERS[ending], columns, tell)


def stream_lines(
    lines: Iterable[bytes], columns: Mapping[str, str] | None = None, where: str = "standard input"
) -> Iterator[Record]:
    """Rows of standard input: one text per line, JSON Lines, or CSV or TSV with a header. The first lines decide which.

    Raises:
        DataError: not UTF-8, a line that is not like the first, or a header without a column of texts.
    """
    columns, lines = _of_texts(columns or {}), itertools.dropwhile(lambda line: not line.strip(), lines)
    head: list[bytes] = []
    while len([line for line in head if line.strip()]) < 2 and (line := next(lines, None)) is not None:
        head.append(line)
    if head:
        first, *rest = (_decoded(line, where, number).strip() for number, line in enumerate(head, 1))
        yield from _reader_of(first, "".join(rest), columns, where)(where, itertools.chain(head, lines), columns)


def _reader_of(first: str, second: str, columns: Mapping[str, str], where: str) -> _Reader:
    if first.startswith("{") and _is_object(first):
        return _jsonl
    wanted, headers = columns.get("text", "text"), {mark: _fields(first, mark) for mark in ",;\t"}
    mark, header = max(headers.items(), key=lambda one: (wanted in one[1], len(one[1])))
    if wanted in header:
        return _delimited(mark, csv.QUOTE_MINIMAL)
    if "text" in columns:
        raise _no_column(f"{where}: line 1", wanted, header)
    alike = len(_fields(second, mark)) == len(header) == len(set(header))
    if len(header) > 1 and alike and all(map(_NAME.fullmatch, header)):
        raise DataError(
            f"{where}: the first line looks like a header ({', '.join(header)}): map the column of the texts with "
            "--column text=NAME. If these are texts, one per line, put them into a .txt file and give it with --input"
        )
    return _lines


def _fields(line: str, mark: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], delimiter=mark), [])]


def _of_texts(columns: Mapping[str, str]) -> dict[str, str]:
    for our in columns:
        if our not in sources.OUR_COLUMNS:
            raise DataError(f"--column {our}: none of our columns; {did_you_mean(our, sources.OUR_COLUMNS)}")
    return {our: theirs for our, theirs in columns.items() if our in _COLUMNS}


def _whole(source: str, columns: Mapping[str, str]) -> Iterator[Record]:
    if sources.is_table(source):
        table = sources.read_table(source, columns)
    else:
        splits = sources.read_folder_or_hub(source, columns)
        table = splits[next(name for name in ("test", "validation", "train") if name in splits)]
    if "text" not in table.column_names:
        raise _no_column(source, "text", table.column_names)
    for row in table:
        yield (row["text"], row.get("text_pair")), {columns.get(name, name): value for name, value in row.items()}


def _jsonl(source: str, file: Iterable[bytes], columns: Mapping[str, str]) -> Iterator[Record]:
    for number, line in enumerate(file, 1):
        text = _decoded(line, source, number).strip()
        if text:
            yield _row_of(text, source, number, columns)


def _lines(source: str, file: Iterable[bytes], columns: Mapping[str, str]) -> Iterator[Record]:
    for number, line in enumerate(file, 1):
        text = _decoded(line, source, number).strip()
        if text:
            yield (text, None), {"text": text}


def _delimited(delimiter: str, quoting: Any) -> _Reader:
    def read(source: str, file: Iterable[bytes], columns: Mapping[str, str]) -> Iterator[Record]:
        csv.field_size_limit(2**31 - 1)  # the default refuses texts of more than 128 KiB
        lines = (_decoded(line, source, number) for number, line in enumerate(file, 1))
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            text, pair = _place(source, "text", header, columns), _place(source, "text_pair", header, columns)
            assert text is not None
            for row in reader:
                if row and len(row) != len(header):
                    raise DataError(
                        f"{source}: line {reader.line_num}: {len(row)} fields, but the header has {len(header)}; "
                        "put quotes around a field that holds the delimiter or a line break"
                    )
                if row:
                    yield (row[text], None if pair is None else row[pair]), dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise DataError(f"{source}: line {reader.line_num}: broken quoting ({error})") from error

    return read


_READERS: dict[str, _Reader] = {
    ".jsonl": _jsonl,
    ".txt": _lines,
    ".csv": _delimited(",", csv.QUOTE_MINIMAL),
    ".tsv": _delimited("\t", csv.QUOTE_MINIMAL),
    "literal": _delimited("\t", csv.QUOTE_NONE),
}


def _of_file(path: Path, read: _Reader, columns: Mapping[str, str], tell: Callable[[int], None]) -> Iterator[Record]:
    with path.open("rb") as raw:
        file: Any = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
        try:
            for row in read(str(path), file, columns):
                tell(raw.tell())
                yield row
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: not a gzip file, truncated or damaged ({error}); copy it again") from error


def _parses(path: Path, columns: Mapping[str, str]) -> bool:
    """Whether a TSV file reads as one whose fields may be in quotes."""
    try:
        return all(True for _ in _of_file(path, _READERS[".tsv"], columns, lambda read: None))
    except DataError:
        return False


def _place(source: str, our: str, header: list[str], columns: Mapping[str, str]) -> int | None:
    theirs = columns.get(our, our)
    if theirs in header:
        return header.index(theirs)
    if our in columns or our == "text":
        raise _no_column(source, theirs, header)
    return None


def _row_of(line: str, where: str, number: int, columns: Mapping[str, str]) -> Record:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: line {number}: broken JSON ({error}); every line must be one JSON object") from error
    if not isinstance(row, dict):
        raise DataError(f'{where}: line {number}: a row must be a JSON object like {{"text": "…"}}, got {line[:60]}')
    text, pair = columns.get("text", "text"), columns.get("text_pair", "text_pair")
    if text not in row:
        raise _no_column(f"{where}: line {number}", text, list(row))
    return (row[text], row.get(pair)), row


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _decoded(line: bytes, where: str, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: line {number}: not UTF-8 (byte {line[error.start]:#04x}); save it again as UTF-8"
        ) from error


def _no_column(where: str, name: str, there: Iterable[str]) -> DataError:
    return DataError(f"{where}: no column '{name}'; {did_you_mean(name, there)} Say which it is: --column {name}=NAME")
