"""Laws of the built-in corpus."""

import gzip
import json
import re
import shutil
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from understudy.data import corpus
from understudy.data.rows import read
from understudy.data.tables import identity
from understudy.errors import DataError
from understudy.settings.data import DataSettings
from understudy.tasks.classification import Classification


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The corpus, and its rows before the split."""
    folder, whole, capped = tmp_path_factory.mktemp("corpus"), [], corpus._capped
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "_capped", lambda *given: whole.extend(capped(*given)) or whole)
        corpus.write_corpus(folder)
    return folder, {row["text"]: row["label"] for row in whole}


@pytest.fixture(scope="module")
def folder(written):
    return written[0]


@pytest.fixture(scope="module")
def rows(folder):
    return {
        name: [json.loads(line) for line in gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8")]
        for name in ("train", "validation", "test", "transfer")
    }


@pytest.fixture(scope="module")
def families(written):
    """Sentence → its label, before the split."""
    return written[1]


def test_families_are_large_enough_unequal_and_in_every_split(rows, families):
    whole = Counter(families.values())
    sizes = {name: Counter(families[row["text"]] for row in split) for name, split in rows.items()}
    assert sum(sizes.values(), Counter()) == whole
    assert all(families[row["text"]] == row["label"] for name in ("train", "validation", "test") for row in rows[name])
    assert 2 <= len(whole) <= corpus.FAMILIES
    assert {"asyncio", "email", "tkinter"} <= set(whole)
    assert min(whole.values()) >= corpus.FEWEST
    assert 2 * min(whole.values()) < max(whole.values()) <= corpus.MOST
    assert len(rows["train"]) == corpus.TRAIN_ROWS and len(rows["validation"]) == corpus.VALIDATION_ROWS
    for name, split in rows.items():
        for label, size in whole.items():
            assert abs(sizes[name][label] - len(split) * size / sum(whole.values())) <= 2
    assert all(set(row) == {"text"} for row in rows["transfer"])


def test_sentences_are_prose_and_of_one_split(rows):
    texts = [row["text"] for split in rows.values() for row in split]
    assert len({identity(text) for text in texts}) == len(texts)
    for text in texts:
        assert 5 <= len(text.split()) <= 60
        assert ">>>" not in text
    words = [frozenset(re.findall(r"\w+", text.lower())) for text in texts]
    # An independent look for near-duplicates: the same set of words. Reordered sentences are the only ones allowed.
    assert len(words) - len(set(words)) <= 0.005 * len(texts)


def test_near_duplicates_go_and_others_stay():
    said = "return the number of bytes that were read from the file"
    rows = [("a", said), ("b", f"{said.capitalize()}."), ("a", f"{said} object"), ("a", "return the name of the file")]
    assert list(corpus._without_near_duplicates(rows)) == [rows[0], rows[3]]


@pytest.mark.parametrize(
    ("docstring", "sentences"),
    [
        ("Split a path, e.g. in two parts.  Return both.", ["Split a path, e.g. in two parts."]),
        ("copy(a, b) -> None\n\nCopy a file to\nanother place.", ["Copy a file to another place."]),
        ("Example of how to use this:\n\n    if call(a, b):\n        print('and see.')", []),
        (">>> one + two + three + four + five\n15", []),
        ("x = a sentence with an assignment in it.", []),
    ],
)
def test_prose_is_told_from_code(docstring, sentences):
    assert list(corpus._split(docstring)) == sentences


def test_same_library_and_seed_give_the_same_bytes(tmp_path, monkeypatch):
    library = tmp_path / "library"
    for package in ("json", "email", "logging"):
        shutil.copytree(Path(sysconfig.get_path("stdlib")) / package, library / package)
    (library / "broken.py").write_text("def (")
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(library))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        corpus.write_corpus(tmp_path / name, seed=seed)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        f"{name}.jsonl.gz" for name in ("test", "train", "transfer", "validation")
    ]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "c" / path.name).read_bytes()


def test_python_without_sources_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(DataError, match="no sources of its standard library"):
        corpus.write_corpus(tmp_path / "corpus")


def test_the_corpus_is_read_as_it_stands(folder, rows):
    transfer = str(folder / "transfer.jsonl.gz")
    read_rows = read(DataSettings(train=str(folder), transfer=transfer), Classification(), seed=0)
    assert not any(note.startswith("Warning") for note in read_rows.notes)
    assert len(read_rows.train) == len(rows["train"])
