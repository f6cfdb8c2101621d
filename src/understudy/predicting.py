"""The program `predict` on an exported folder: any number of rows, without torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from understudy.data.streams import stream_lines, stream_rows
from understudy.errors import DataError
from understudy.runtime import Predictor


def predict_rows(
    export: Predictor, source: str | None, *, columns: Mapping[str, str] | None = None, progress: bool = True
) -> Iterator[dict[str, Any]]:
    """Predictions for the rows of a file of any size, or of standard input, as they are read.

    Args:
        source: a file, folder or hub data set; None reads standard input: a text a line, or JSON Lines.
        columns: our name → the file's name.
        progress: a bar on stderr, where stderr is a terminal.

    Raises:
        DataError: a row that cannot be read or predicted; those before it were given.
    """
    from tqdm import tqdm

    size = os.path.getsize(source) if source is not None and Path(source).is_file() else None
    with tqdm(total=size, unit="B", unit_scale=True, disable=None if progress else True, leave=False) as bar:

        def tell(read: int) -> None:
            bar.update(read - bar.n)

        rows = stream_lines(sys.stdin.buffer) if source is None else stream_rows(source, columns or {}, tell=tell)
        done = 0
        try:
            for done, answer in enumerate(export.stream(rows), 1):
                if done % 1000 == 0:
                    bar.set_postfix_str(f"{done:,} rows")
                yield answer
        except DataError as error:
            where = source or "standard input"
            raise DataError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
        if not done:
            raise DataError(f"{source or 'standard input'}: no rows to predict")


def write_lines(answers: Iterable[Mapping[str, Any]], output: Path) -> int:
    """Write JSON Lines, beside the place first, then renamed: a reader sees all of it or none. Returns how many."""
    output.parent.mkdir(parents=True, exist_ok=True)
    new, written = output.with_name(f".{output.name}.new"), 0
    try:
        with new.open("w", encoding="utf-8") as file:
            for answer in answers:
                write_line(answer, file)
                written += 1
        new.replace(output)
    finally:
        new.unlink(missing_ok=True)
    return written


def write_line(answer: Mapping[str, Any], file: IO[str]) -> None:
    """One row as JSON."""
    file.write(json.dumps(answer, ensure_ascii=False) + "\n")
