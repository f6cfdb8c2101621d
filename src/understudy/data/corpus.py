"""The built-in corpus: sentences of the docstrings of the running Python's standard library, by top-level package.

Real text that every Python already has, so that `understudy demo` needs no download. The label is the package that a
sentence comes from. The families are as unequal as they are in the library; only the very largest are capped. It is split
as in the situation that distillation is for: few rows with labels, many without.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import json
import re
import sysconfig
import textwrap
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from understudy.data import splits
from understudy.errors import DataError
from understudy.files import whole

FAMILIES = 12  # the largest ones
FEWEST = 60  # sentences of a family
MOST = 600  # sentences of a family; above this, as many are drawn
TEST_FRACTION = 0.2  # enough rows for narrow intervals
VALIDATION_ROWS, TRAIN_ROWS = 100, 300  # with labels; all other rows are text alone
NEAR_DUPLICATE = 0.7  # Jaccard similarity of the sets of three-word shingles
# Tests, demonstrations, what is installed beside the library, and packages that newer Pythons no longer have.
_LEFT_OUT = {"test", "tests", "idle_test", "idlelib", "turtledemo", "demo", "ensurepip", "distutils", "lib2to3"}
_LEFT_OUT |= {"site-packages", "dist-packages", "lib-dynload", "__pycache__"}
_WORDS = range(5, 61)
_CODE = re.compile(r">>>|\.\.\. |->|[{}=;|]|\w\(\w*\)\.|^\W*[\w.]+\([^)]*\)\s*$|^[@#:$%*+-]|^\w+:\s*$|__\w+__|[ \t]{3,}")
_SENTENCE_END = re.compile(r"(?<=[a-z0-9)\]'\"`][.!?])\s+(?=[A-Z`'\"(])")


def write_corpus(folder: Path, *, seed: int = 0) -> None:
    """Write train, validation, test and transfer.jsonl.gz, each with the families in their proportions.

    Train and validation have few rows; test has a fifth of all; transfer has the text of the rest, without labels. Sentences that
    are the same but for case, digits and punctuation are kept once, and so are those that share most of their three-word
    shingles, over the whole corpus and before it is split. Same Python, same seed: same bytes.

    Args:
        folder: made where it is missing.
        seed: of the split, and of the draw from the largest families.

    Raises:
        DataError: this Python comes without the sources of its library, or with very few.
    """
    rows = _capped(_families(_without_near_duplicates(_sentences(Path(sysconfig.get_path("stdlib"))))), seed)
    if len({row["label"] for row in rows}) < 2 or len(rows) < 2 * (VALIDATION_ROWS + TRAIN_ROWS):
        raise DataError("this Python has no sources of its standard library (.py files with docstrings); use another one")
    sizes = {"test": round(TEST_FRACTION * len(rows)), "validation": VALIDATION_ROWS, "train": TRAIN_ROWS}
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in sizes.items():
        keys = [hashlib.sha256(row["text"].encode()).hexdigest() for row in rows]
        drawn = splits.stratified_subset(keys, [row["label"] for row in rows], size, seed=seed)
        _write(folder / f"{name}.jsonl.gz", [rows[i] for i in np.flatnonzero(drawn)])
        rows = [rows[i] for i in np.flatnonzero(~drawn)]
    _write(folder / "transfer.jsonl.gz", [{"text": row["text"]} for row in rows])


def _sentences(library: Path) -> Iterator[tuple[str, str]]:
    """(family, sentence) of every docstring, in the order of the files. Nothing is imported."""
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        family = parts[0].removesuffix(".py")
        if _LEFT_OUT & {*parts, family} or family.startswith("_"):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # some templates in the library are not Python
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for sentence in _split(ast.get_docstring(node) or ""):
                    yield family, sentence


def _split(docstring: str) -> Iterator[str]:
    r"""Sentences of prose.

    >>> list(_split("Return the sum of both numbers.  Raise an error if one is missing.\n\n>>> add(1, 2)\n3"))
    ['Return the sum of both numbers.', 'Raise an error if one is missing.']
    """
    for paragraph in re.split(r"\n\s*\n", docstring):
        lines = textwrap.dedent(paragraph).split("\n")
        # A paragraph that is indented as a whole may be prose; lines indented within one are code, tables or lists.
        if any(line.startswith((" ", "\t", ">>>")) for line in lines):
            continue
        for sentence in _SENTENCE_END.split(" ".join(line.strip() for line in lines)):
            words = sentence.split()
            prose = sum(word.strip(".,:'\"()").isalpha() for word in words) >= 0.7 * len(words)
            if len(words) in _WORDS and prose and sentence[-1] in ".!?" and not _CODE.search(sentence):
                yield " ".join(words)


def _without_near_duplicates(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The first of every set of sentences that say nearly the same."""
    seen: set[str] = set()
    kept: list[set[tuple[str, ...]]] = []
    having: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for label, sentence in rows:
        words = re.sub(r"[^\w\s]|_", " ", re.sub(r"\d", "0", sentence.lower())).split()
        if " ".join(words) in seen:
            continue
        seen.add(" ".join(words))
        shingles = {tuple(words[start : start + 3]) for start in range(len(words) - 2)}
        shared = Counter(earlier for shingle in shingles for earlier in having[shingle])
        if any(count >= NEAR_DUPLICATE * (len(shingles) + len(kept[earlier]) - count) for earlier, count in shared.items()):
            continue
        for shingle in shingles:
            having[shingle].append(len(kept))
        kept.append(shingles)
        yield label, sentence


def _families(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    rows = list(rows)
    sizes = Counter(label for label, _ in rows)
    largest = sorted((label for label in sizes if sizes[label] >= FEWEST), key=lambda label: (-sizes[label], label))[:FAMILIES]
    return [row for row in rows if row[0] in largest]


def _capped(rows: list[tuple[str, str]], seed: int) -> list[dict[str, str]]:
    def draw(row: tuple[str, str]) -> bytes:
        return hashlib.sha256(f"{seed} {row[1]}".encode()).digest()

    chosen = set()
    for label in {label for label, _ in rows}:
        chosen.update(sorted((row for row in rows if row[0] == label), key=draw)[:MOST])
    return [{"text": text, "label": label} for label, text in rows if (label, text) in chosen]


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as file:  # no name, no time: same rows, same bytes
        file.write(lines.encode())
    with whole(path) as new:
        new.write_bytes(buffer.getvalue())
