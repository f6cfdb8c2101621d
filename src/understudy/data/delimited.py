"""CSV and its kin, as spreadsheets and databases write them: which mark separates the fields, and the rows themselves."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from understudy.data.text_files import Tell, ending_of, lines_of
from understudy.errors import DataError

MARKS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "|"}
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # the first line of a file for Excel
_SAMPLE = 1000  # lines that decide which mark it is


@dataclass(frozen=True)
class Dialect:
    """How fields are written.

    Args:
        mark: that separates them.
        quoted: a field may be in quotes; else they are text like any other.
        skip: lines before the header.
    """

    mark: str
    quoted: bool = True
    skip: int = 0


class _Shape:
    """How many fields a row has, learnt from the header and the first row.

    Columns at the end without a name and without content are what spreadsheets leave there, and are dropped.
    """

    def __init__(self, header: Sequence[str], first: Sequence[str]) -> None:
        self.names = [name.strip() for name in header]
        self.fields = len(header)
        while self.names and not self.names[-1]:
            self.names.pop()
        more = first[self.fields :]
        self.all_fields = self.fields + (len(more) if not any(map(str.strip, more)) else 0)

    def taken(self, row: Sequence[str]) -> list[str] | None:
        """The named fields of a row; None where it has more or less than it should."""
        count, named = len(row), len(self.names)
        fits = count == self.all_fields or (named <= count < self.fields)
        return list(row[:named]) if fits and not any(map(str.strip, row[named:])) else None


def read(path: Path, wanted: Collection[str], tell: Tell = lambda read: None) -> Iterator[list[str]]:
    """The names of the columns, then the rows, as they are read.

    Args:
        wanted: names that the header may hold; they help to tell which mark separates.

    Raises:
        DataError: not to be decided, ragged, broken quotes, or a header that cannot be used.
    """
    lines = lines_of(path)
    sample = list(islice(lines, _SAMPLE))
    cut = next(lines, None) is not None
    dialect = dialect_of(str(path), sample, wanted, default="\t" if ending_of(path) == ".tsv" else ",", cut=cut)
    if dialect.mark == "\t" and not _parses(rows(str(path), lines_of(path), dialect)):
        dialect = replace(dialect, quoted=False)  # as GLUE writes it
    return rows(str(path), lines_of(path, tell), dialect)


def dialect_of(
    where: str, sample: Sequence[str], wanted: Collection[str], *, default: str, cut: bool = False
) -> Dialect:
    """Which mark separates the fields: one that gives the header a wanted name and more than one, and rows as many fields as it.

    Args:
        sample: the first lines.
        default: mark that the file's name promises; it is taken where another is no better.
        cut: the file goes on after the sample.

    Raises:
        DataError: two marks are equally good, and neither is the default.
    """
    if sample and (declared := _SEPARATOR.fullmatch(sample[0])):
        return Dialect(declared[1], skip=1)
    found: dict[str, tuple[bool, bool, bool]] = {}
    for mark in (default, *(other for other in MARKS if other != default)):
        there, whole = _sampled(sample, mark, cut=cut)
        shape = _Shape(there[0], there[1] if there[1:] else ()) if there else _Shape((), ())
        if mark == default or sum(map(bool, shape.names)) > 1:
            fits = whole and all(shape.taken(row) is not None for row in there[1:])
            found[mark] = (any(name in wanted for name in shape.names), len(shape.names) > 1, fits)
    best = max(found.values())
    alike = [mark for mark, rank in found.items() if rank == best]
    if len(alike) > 1 and default not in alike:
        raise DataError(
            f"{where}: line 1: the fields may be separated by {' or by '.join(MARKS[mark] for mark in alike)}, both fit; "
            f"save the file with {MARKS[default]}"
        )
    return Dialect(alike[0])


def rows(where: str, lines: Iterable[str], dialect: Dialect) -> Iterator[list[str]]:
    """The names of the columns, then the rows. Empty rows are skipped.

    Raises:
        DataError: as `read`.
    """
    csv.field_size_limit(2**31 - 1)  # the default refuses texts of more than 128 KiB
    reader = _reader(islice(lines, dialect.skip, None), dialect.mark, quoted=dialect.quoted)
    line = 1 + dialect.skip  # a quoted field may run over several lines; the row is named by its first
    try:
        header: list[str] = next((row for row in reader if row), [])
        line = reader.line_num + 1 + dialect.skip
        first = next((row for row in reader if row), None)
        shape = _Shape(header, first or ())
        if header:
            _check_header(where, shape.names, dialect)
            yield shape.names
        for row in chain([] if first is None else [first], reader):
            if row and (any(row) or len(row) == 1):
                taken = shape.taken(row)
                if taken is None:
                    mark = "the delimiter" if dialect.mark == "," else MARKS.get(dialect.mark, dialect.mark)
                    raise DataError(
                        f"{where}: line {line}: {_misfit(row, shape)}; put quotes around a field that holds {mark} or a line break"
                    )
                yield taken
            line = reader.line_num + 1 + dialect.skip
    except csv.Error as error:
        raise DataError(
            f"{where}: line {line}: broken quoting ({error}); double the quotes inside a quoted field"
        ) from error


def _misfit(row: Sequence[str], shape: _Shape) -> str:
    if len(row) == shape.fields:
        value = next(field for field in row[len(shape.names) :] if field.strip())
        return f"{value.strip()[:40]!r} is in a column without a name"
    return f"{len(row)} fields, but the header has {shape.fields}"


def _check_header(where: str, names: Sequence[str], dialect: Dialect) -> None:
    line = f"{where}: line {1 + dialect.skip}"
    if not any(names):
        raise DataError(f"{line}: the header is empty; it must name the columns, as in text,label")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise DataError(
            f"{line}: column '{twice[0]}' appears twice in the header; every column needs its own name. Is the header missing?"
        )


def _reader(lines: Iterable[str], mark: str, *, quoted: bool = True):  # type: ignore[no-untyped-def]
    # A carriage return alone ended a line on old Macs; `csv` wants such lines one by one.
    single = (
        part for line in lines for part in (re.split(r"(?<=\r)(?!\n)", line) if "\r" in line[:-2] else [line]) if part
    )
    return csv.reader(single, delimiter=mark, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True)


def _sampled(sample: Sequence[str], mark: str, *, cut: bool) -> tuple[list[list[str]], bool]:
    """The rows of a sample under a mark, and whether they can be read to its end."""
    found: list[list[str]] = []
    for quoted in (True, False) if mark == "\t" else (True,):
        reader = _reader(sample, mark, quoted=quoted)
        try:
            found = [row for row in reader if row and (any(row) or len(row) == 1)]
            return (found[:-1] if cut and len(found) > 1 else found), True
        except csv.Error:
            if cut and reader.line_num >= len(sample):  # it goes on where the sample ends
                return next(_reader(sample, mark, quoted=False)), True
    return [sample[0].strip().split(mark)] if sample else [], False


def _parses(found: Iterator[list[str]]) -> bool:
    try:
        return all(True for _ in found)
    except DataError:
        return False
