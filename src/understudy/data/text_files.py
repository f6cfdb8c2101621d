"""Bytes → lines of text: compressed or not, in UTF-8 or UTF-16, as they are read. Needs nothing but Python."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from understudy.errors import DataError

Progress = Callable[[int], None]  # is called with the number of bytes read of a file
_MARKED = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_AS_UTF_8 = 'save the file as UTF-8 (in Excel: file type "CSV UTF-8"; elsewhere: iconv -f WINDOWS-1252 -t UTF-8, or -f GB18030 for Chinese)'
AS_CSV = 'open it in the spreadsheet program and save it as CSV (in Excel: file type "CSV UTF-8")'
_POINTER = "is a pointer of git-lfs in place of the file; run `git lfs pull` where it was cloned"
_OTHER_KINDS = {  # how files of other kinds begin
    rb"PK\x03\x04": f"is a workbook (.xlsx, .ods) or a zip file; {AS_CSV}, or unzip it",
    rb"\xd0\xcf\x11\xe0": f"is an old Excel workbook (.xls); {AS_CSV}",
    rb"\x28\xb5\x2f\xfd": "is compressed with zstd; decompress it first (zstd -d)",
    rb"BZh[1-9]1AY&SY": "is compressed with bzip2; decompress it first (bunzip2)",
    rb"\xfd7zXZ\0": "is compressed with xz; decompress it first (unxz)",
    rb"version https://git-lfs": _POINTER,
    rb"ARROW1\0": "is an Arrow (Feather) file; save it as .parquet",
}
_NO_TABLES = {
    rb"PAR1[\0-\x1f]": "is a Parquet file; name it .parquet",
    rb"(?i)\s*<(!doctype html|html)": "is a web page (HTML), not a table; download the file itself",
}


def ending_of(path: Path) -> str:
    """What a file's name says of its format.

    >>> ending_of(Path("rows.CSV.gz")), ending_of(Path("rows.jsonl"))
    ('.csv', '.jsonl')
    """
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def content(path: Path) -> bytes:
    """All of a file, without its compression.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    with _opened(path, lambda read: None) as file:
        return b"".join(file)


def lines_of(path: Path, progress: Progress = lambda read: None) -> Iterator[str]:
    """The lines of a text file with their ends, as they are read.

    Raises:
        DataError: it cannot be read, is damaged, or is not UTF-8 (or UTF-16 with a byte order mark).
    """
    with _opened(path, progress) as file:
        yield from decoded(file, str(path))


def decoded(lines: Iterable[bytes], where: str) -> Iterator[str]:
    """Lines of bytes as text. A byte order mark, and the Ctrl-Z that DOS programs write at the end, are left out.

    Raises:
        DataError: not UTF-8, nor UTF-16 with a byte order mark.
    """
    lines, offset = iter(lines), 0
    for number, line in enumerate(lines, 1):
        start = line
        while number == 1 and start.startswith(codecs.BOM_UTF8):  # some programs write it twice
            start = start[3:]
        if number == 1:
            marked = next((encoding for mark, encoding in _MARKED.items() if line.startswith(mark)), None)
            if marked is not None:
                yield from _wide(chain([line], lines), marked, where)
                return
            if b"\0" in line:
                raise DataError(f"{where}: line 1 holds zero bytes: UTF-16 without a byte order mark, or no text; {_AS_UTF_8}")
        try:
            text = start.decode("utf-8")
        except UnicodeDecodeError as error:
            at = error.start + len(line) - len(start)
            raise DataError(f"{where}: line {number}: not UTF-8 (byte {line[at]:#04x} at offset {offset + at}); {_AS_UTF_8}") from error
        offset += len(line)
        if text := text.removesuffix("\x1a"):
            yield text


def _wide(chunks: Iterable[bytes], encoding: str, where: str) -> Iterator[str]:
    decoder, waiting = codecs.getincrementaldecoder(encoding)(), ""
    try:
        for chunk in chain(chunks, [None]):
            waiting += decoder.decode(chunk or b"", final=chunk is None)
            *whole, waiting = waiting.split("\n")
            yield from (line + "\n" for line in whole)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not {encoding.upper()}, as its byte order mark says ({error.reason}); {_AS_UTF_8}") from error
    if waiting := waiting.removesuffix("\x1a"):
        yield waiting


@contextmanager
def _opened(path: Path, progress: Progress) -> Iterator[Iterator[bytes]]:
    try:
        with path.open("rb") as raw:
            zipped = path.suffix.lower() == ".gz"
            start = raw.read(64)
            if start.startswith(b"\x1f\x8b") and not zipped:
                raise DataError(f"{path}: the file is gzip compressed; add .gz to its name")
            _check_kind(path, start)
            raw.seek(0)
            file: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
            yield _with_progress(file, raw, progress, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_kind(path: Path, start: bytes) -> None:
    tables = {} if ending_of(path) in (".txt", ".parquet") else _NO_TABLES
    for begins, what in (_OTHER_KINDS | tables).items():
        if re.match(begins, start):
            raise DataError(f"{path}: {what}")


def _with_progress(file: Iterable[bytes], raw: Any, progress: Progress, path: Path) -> Iterator[bytes]:
    try:
        for line in file:
            progress(raw.tell())
            yield line
    except EOFError as error:
        raise DataError(f"{path}: the gzip file is truncated; copy or download it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a gzip file, or damaged ({error}); drop .gz if it is not compressed") from error


def objects(lines: Iterable[str], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """JSON Lines → rows, each with the place to name in a message; empty lines are skipped.

    Raises:
        DataError: a line that is no JSON object.
    """
    for number, line in enumerate(lines, 1):
        place = f"{where}: line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place}: broken JSON ({error}); every line must be one JSON object") from error
        yield place, row_of(row, place)


def row_of(row: Any, place: str) -> dict[str, Any]:
    """A row of a JSON file, which is an object.

    Raises:
        DataError: anything else.
    """
    if not isinstance(row, dict):
        hint = "; a list of all rows is a .json file" if isinstance(row, list) and row and isinstance(row[0], dict) else ""
        raise DataError(f'{place}: a row must be a JSON object like {{"text": "…"}}, got {json.dumps(row)[:60]}{hint}')
    return row
