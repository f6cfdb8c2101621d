"""Word vectors from a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from understudy.errors import DataError

FIRST = 100_000  # files of vectors are ordered by frequency


def read_vectors(path: str | Path, words: Iterable[str] | None, *, setting: str) -> dict[str, np.ndarray]:
    """The vectors of these words, all of one width. A cased word of the file serves a lower-cased one that it lacks.

    Args:
        path: `.npz` with arrays `words` and `vectors`, else text: GloVe, or word2vec with its header line.
        words: the only ones kept, so that a large file costs time but no memory; None keeps the first 100,000 of the file.
        setting: that names the file, for messages.

    Raises:
        DataError: no such file, another format, vectors of different widths, or none of the words in it.
    """
    path = Path(path)
    where = f"{setting}: {path}"
    if not path.is_file():
        raise DataError(
            f"{where}: no such file; give GloVe or word2vec text, or .npz with the arrays words and vectors"
        )
    found: dict[str, np.ndarray] = {}
    every = _npz(path, where) if path.suffix == ".npz" else _text(path, where)
    if words is None:
        return dict(islice(every, FIRST))
    wanted = set(words)
    for word, vector in every:
        if word in wanted:
            found[word] = vector
        elif word.lower() in wanted:
            found.setdefault(word.lower(), vector)
    if not found:
        raise DataError(f"{where}: has none of the {len(wanted)} words of the data; is it for another language?")
    return found


def _npz(path: Path, where: str) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            words, vectors = arrays["words"], arrays["vectors"]
    except (KeyError, ValueError, OSError) as error:
        raise DataError(f"{where}: needs arrays 'words' (text, not objects) and 'vectors': {error}") from error
    if words.dtype.kind != "U" or vectors.ndim != 2 or len(words) != len(vectors):
        raise DataError(
            f"{where}: got words {words.dtype}{list(words.shape)} and vectors {list(vectors.shape)}; "
            "needed are n words as text and n × width numbers"
        )
    yield from zip(words.tolist(), vectors.astype(np.float32), strict=True)


def _text(path: Path, where: str) -> Iterator[tuple[str, np.ndarray]]:
    width = None
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                fields = line.rstrip().split(" ")
                if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                    width = int(fields[1])  # word2vec: how many, how wide
                    continue
                if width is None:
                    width = len(fields) - 1
                if len(fields) > width + 1 and not _is_number(fields[1]):
                    continue  # a "word" with spaces in it, which no tokenizer here produces
                if len(fields) != width + 1 or width < 1:
                    raise DataError(f"{where}: line {number} has {len(fields) - 1} numbers where {width} are expected")
                try:
                    yield fields[0], np.array(fields[1:], dtype=np.float32)
                except ValueError as error:
                    raise DataError(f"{where}: line {number} is not a word and {width} numbers: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text; binary vectors have to be saved as text or .npz first") from error


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
