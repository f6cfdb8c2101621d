"""Word vectors from a file."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from understudy.errors import DataError

FIRST = 100_000  # files of vectors are ordered by frequency


def read_vectors(path: str | Path, words: Iterable[str] | None, *, setting: str) -> dict[str, np.ndarray]:
    """The vectors of these words, all of one width. A cased word of the file serves a lower-cased one that it lacks.

    Args:
        path: `.npz` with arrays `words` and `vectors`, else text, compressed by gzip or not: GloVe, or word2vec with its header line.
        words: the only ones kept, so that a large file costs time but no memory; None keeps the first 100,000 of the file.
        setting: that names the file, for messages.

    Raises:
        DataError: no such file, another format, a damaged one, vectors of different widths or not finite, or none of the words in it.
    """
    path = Path(path)
    where = f"{setting}: {path}"
    if not path.is_file():
        raise DataError(f"{where}: no such file; give GloVe or word2vec text, or .npz with the arrays words and vectors")
    entries = _npz(path, where) if path.suffix == ".npz" else _text(path, where)
    if (first := next(entries, None)) is None:
        raise DataError(f"{where}: holds no vectors")
    entries = chain([first], entries)
    vectors: dict[str, np.ndarray] = {}
    if words is None:
        vectors = dict(islice(entries, FIRST))
    else:
        wanted = set(words)
        for word, vector in entries:
            if word in wanted:
                vectors[word] = vector
            elif word.lower() in wanted:
                vectors.setdefault(word.lower(), vector)
        if not vectors:
            raise DataError(f"{where}: has none of the {len(wanted)} words of the data; is it for another language?")
    for word, vector in vectors.items():
        if not np.isfinite(vector).all():
            raise DataError(f"{where}: the vector of '{word}' has a number that is not finite; fix it, or remove that word")
    return vectors


def _npz(path: Path, where: str) -> Iterator[tuple[str, np.ndarray]]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{where}: not an .npz archive, or truncated; copy it again, or write it with np.savez(file, words=…, vectors=…)")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            words, vectors = np.asarray(arrays["words"]), np.asarray(arrays["vectors"])
    except KeyError as error:
        raise DataError(f"{where}: needs arrays 'words' and 'vectors': {error.args[0]}") from error
    except Exception as error:  # numpy, zipfile and zlib raise half a dozen kinds
        if "allow_pickle" in str(error):
            raise DataError(
                f"{where}: holds Python objects, which are not read; words have to be text, as in np.array(words, dtype=str)"
            ) from error
        raise DataError(f"{where}: the archive is damaged ({error}); copy it again") from error
    numbers = vectors.dtype.kind in "fiu" and vectors.ndim == 2 and vectors.shape[1] > 0
    if not numbers or words.dtype.kind != "U" or words.shape != vectors.shape[:1]:
        raise DataError(
            f"{where}: got words {words.dtype}{list(words.shape)} and vectors {vectors.dtype}{list(vectors.shape)}; "
            "needed are n words as text and n × width numbers"
        )
    with np.errstate(over="ignore"):
        vectors = vectors.astype(np.float32)
    yield from zip(words.tolist(), vectors, strict=True)


def _text(path: Path, where: str) -> Iterator[tuple[str, np.ndarray]]:
    width = None
    try:
        with path.open("rb") as start:
            packed = start.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                fields = line.rstrip().replace("\t", " ").split(" ")
                if fields == [""]:
                    continue  # a blank line, at the end as a rule
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
                    with np.errstate(over="ignore"):  # what is beyond float32 is refused as not finite
                        vector = np.array(fields[1:], dtype=np.float32)
                except ValueError as error:
                    raise DataError(f"{where}: line {number} is not a word and {width} numbers: {error}") from error
                yield fields[0], vector
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text; binary vectors have to be saved as text or .npz first") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{where}: truncated or damaged ({error}); copy it again") from error


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
