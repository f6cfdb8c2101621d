"""CSV and its kin, as spreadsheets and databases write them: which mark separates the fields, and the rows themselves."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from understudy.data.text_files import Progress, ending_of, lines_of
from understudy.errors import DataError

MARKS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "|"}
_SEPARATOR = re.compile(r'"?sep=(\\t|.)"?[,;|\s]*', re.IGNORECASE)  # the first line of a file for Excel
_SAMPLE = 1000  # lines that decide which mark it is


@dataclass(frozen=True)
class Dialect:
    """How fields are written.

    Args:
        mark: that separates them.
        quoted: a field may be in quotes; else they are text like any other.
        skip: lines before the header.
        spaced: blanks after a mark belong to it, as in `"text", "label"`.
    """

    mark: str
    quoted: bool = True
    skip: int = 0
    spaced: bool = False


class _Shape:
    """How many fields a row has, learnt from the header and the first row.

    Columns at the end without a name and without content are what spreadsheets leave there, and are dropped.
    """

    def __init__(self, line: int, header: Sequence[str], first: Sequence[str]) -> None:
        self.line = line
        self.names = [_name(field) for field in header]
        self.fields = len(header)
        while self.names and not self.names[-1]:
            self.names.pop()
        more = first[self.fields :]
        self.all_fields = self.fields + (len(more) if not any(map(str.strip, more)) else 0)

    def blank(self, row: Sequence[str]) -> bool:
        """Whether it is an empty row, as spreadsheets leave at the end; where there is one column only, it may be an empty text."""
        return not any(map(str.strip, row)) and not (len(row) == 1 == self.fields)

    def named_fields(self, row: Sequence[str]) -> list[str] | None:
        """The named fields of a row; None where it has more or less than it should."""
        count, named = len(row), len(self.names)
        fits = count == self.all_fields or (named <= count < self.fields)
        return list(row[:named]) if fits and not any(map(str.strip, row[named:])) else None


def _name(field: str) -> str:
    """A column's name: without blanks and invisible characters around it, on one line."""
    return re.sub(r"\s*[\r\n]+\s*", " ", re.sub(r"^[\s\ufeff\u200b]+|[\s\ufeff\u200b]+$", "", field))


def read(path: Path, wanted: Collection[str], progress: Progress = lambda read: None) -> Iterator[list[str]]:
    """The names of the columns, then the rows, as they are read.

    Args:
        wanted: names that the header may hold; they help to decide which mark separates.

    Raises:
        DataError: not to be decided, ragged, broken quotes, or a header that cannot be used.
    """
    lines = lines_of(path)
    sample = list(islice(lines, _SAMPLE))
    truncated = next(lines, None) is not None
    if any(line.lstrip().startswith('{"') for line in sample[:1]):
        raise DataError(f"{path}: line 1 is a JSON object; name the file .jsonl")
    dialect = dialect_of(str(path), sample, wanted, default="\t" if ending_of(path) == ".tsv" else ",", truncated=truncated)
    if dialect.mark == "\t" and not _parses(rows(str(path), lines_of(path), dialect)):
        dialect = replace(dialect, quoted=False)  # as GLUE writes it
    return rows(str(path), lines_of(path, progress), dialect, wanted)


def dialect_of(where: str, sample: Sequence[str], wanted: Collection[str], *, default: str, truncated: bool = False) -> Dialect:
    """Which mark separates the fields: one that gives the header a wanted name and more than one, and rows as many fields as it.

    Args:
        sample: the first lines.
        default: mark that the file's name promises; it is taken where another is no better.
        truncated: the file goes on after the sample.

    Raises:
        DataError: two marks are equally good, and neither is the default.
    """
    skip = 0
    if sample and (declared := _SEPARATOR.fullmatch(sample[0])):
        default, sample, skip = declared[1].replace("\\t", "\t"), sample[1:], 1
    ranks: dict[str, tuple[bool, bool, bool]] = {}
    for mark in (default, *(candidate for candidate in MARKS if candidate != default)):
        sampled, whole = _sampled(sample, mark, truncated=truncated)
        shape = _Shape(1, sampled[0], sampled[1] if sampled[1:] else ()) if sampled else _Shape(1, (), ())
        if mark == default or sum(map(bool, shape.names)) > 1:
            fits = whole and all(shape.named_fields(row) is not None or shape.blank(row) for row in sampled[1:])
            ranks[mark] = (any(name in wanted for name in shape.names), len(shape.names) > 1, fits)
    best = max(ranks.values())
    alike = [mark for mark, rank in ranks.items() if rank == best]
    if len(alike) > 1 and default not in alike:
        raise DataError(
            f"{where}: line 1: the fields may be separated by {' or by '.join(MARKS[mark] for mark in alike)}, both fit; "
            f"save the file with {MARKS.get(default, default)}"
        )
    header = next((line for line in sample if line.strip()), "")
    return Dialect(alike[0], skip=skip, spaced=bool(re.search(rf'"{re.escape(alike[0])} +"', header)))


def rows(where: str, lines: Iterable[str], dialect: Dialect, wanted: Collection[str] = ()) -> Iterator[list[str]]:
    """The names of the columns, then the rows. Empty rows are skipped.

    Args:
        wanted: names that the header may hold; a later row that has one is reported as the header.

    Raises:
        DataError: as `read`.
    """
    numbered = _numbered(where, lines, dialect)
    line, header = next(numbered, (1, []))
    first = next(numbered, None)
    shape = _Shape(line, header, first[1] if first else ())
    if header:
        _check_header(f"{where}: line {line}", shape.names)
        yield shape.names
    for line, row in chain([] if first is None else [first], numbered):
        if not shape.blank(row):
            fields = shape.named_fields(row)
            if fields is None:
                raise DataError(f"{where}: line {line}: {_misfit(row, shape, dialect.mark, wanted)}")
            yield fields


@contextmanager
def any_length() -> Iterator[None]:
    """Inside, `csv` reads fields of any length; its default refuses texts of more than 128 KiB. The caller's limit is back after it."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _numbered(where: str, lines: Iterable[str], dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold something, each with the number of its first line: a quoted field may run over several."""
    reader = _reader(islice(lines, dialect.skip, None), dialect.mark, quoted=dialect.quoted, spaced=dialect.spaced)
    line = 1 + dialect.skip
    try:
        while True:
            with any_length():
                row = next(reader, None)
            if row is None:
                return
            if row:
                yield line, row
            line = reader.line_num + 1 + dialect.skip
    except csv.Error as error:
        raise DataError(f"{where}: line {line}: broken quoting ({error}); double the quotes inside a quoted field") from error


def _misfit(row: Sequence[str], shape: _Shape, mark: str, wanted: Collection[str]) -> str:
    """What is wrong with a row that is not of the header's shape, and what to do."""
    if any(_name(field) in wanted for field in row) and not any(name in wanted for name in shape.names):
        return f"this looks like the header ({', '.join(filter(None, map(_name, row)))}); delete the lines above it"
    count = "1 field" if len(row) == 1 else f"{len(row)} fields"
    if shape.fields == 1 and not re.fullmatch(r"\w+", shape.names[0]):  # a single word may be the column of texts
        marks = ", ".join(list(MARKS.values())[:-1])
        return f"{count}, but line {shape.line} has only one, {shape.names[0][:60]!r}; it must name the columns, separated by {marks} or |"
    quotes = f"put quotes around a field that holds {'the delimiter' if mark == ',' else MARKS.get(mark, mark)} or a line break"
    if len(row) == shape.fields:
        value = next(field for field in row[len(shape.names) :] if field.strip())
        return f"{value.strip()[:40]!r} is in a column without a name; {quotes}"
    if len(row) == 1:
        return f"1 field, but the header has {shape.fields}; remove a line that is not a row, or {quotes}"
    return f"{count}, but the header has {shape.fields}; {quotes}"


def _check_header(line: str, names: Sequence[str]) -> None:
    if not any(names):
        raise DataError(f"{line}: the header is empty; it must name the columns, as in text,label")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise DataError(f"{line}: column '{twice[0]}' appears twice in the header; every column needs its own name. Is the header missing?")


def _reader(lines: Iterable[str], mark: str, *, quoted: bool = True, spaced: bool = False) -> Any:
    # A carriage return alone ended a line on old Macs; `csv` wants such lines one by one.
    single = (part for line in lines for part in (re.split(r"(?<=\r)(?!\n)", line) if "\r" in line[:-2] else [line]) if part)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return csv.reader(single, delimiter=mark, quoting=quoting, strict=True, skipinitialspace=spaced)


def _sampled(sample: Sequence[str], mark: str, *, truncated: bool) -> tuple[list[list[str]], bool]:
    """The rows of a sample under a mark, and whether they can be read to its end."""
    rows: list[list[str]] = []
    for quoted in (True, False) if mark == "\t" else (True,):
        reader = _reader(sample, mark, quoted=quoted)
        try:
            rows = [row for row in reader if row and (any(row) or len(row) == 1)]
            return (rows[:-1] if truncated and len(rows) > 1 else rows), True
        except csv.Error:
            if truncated and reader.line_num >= len(sample):  # it goes on where the sample ends
                return next(_reader(sample, mark, quoted=False)), True
    return [sample[0].strip().split(mark)] if sample else [], False


def _parses(rows: Iterator[list[str]]) -> bool:
    try:
        return all(True for _ in rows)
    except DataError:
        return False
