"""Files of word vectors: what is read, and how a broken one is refused."""

import gzip
import io

import numpy as np
import pytest

from understudy.augmenters import AugmentationContext
from understudy.augmenters.word_replacement import WordReplacement
from understudy.errors import DataError
from understudy.students.vectors import read_vectors

TEXT = "film 1 2 3\nfun 4 5 6\n"
WORDS, VECTORS = np.array(["film", "fun"]), np.array([[1.0, 2, 3], [4, 5, 6]])


def packed(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def spoilt(content: bytes) -> bytes:
    """Other bytes in the first array, none in the directory at the archive's end."""
    return content[:60] + bytes(byte ^ 0xFF for byte in content[60:120]) + content[120:]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.txt", TEXT.encode()),
        ("blank_at_the_end.txt", f"{TEXT}\n  \n\n".encode()),
        ("tabs.txt", TEXT.replace(" ", "\t").encode()),
        ("a_tab_and_spaces.txt", TEXT.replace("film ", "film\t").replace("fun ", "fun\t").encode()),
        ("word2vec.txt", f"2\t3\n{TEXT}".encode()),
        ("byte_order_mark.txt", b"\xef\xbb\xbf" + f"2 3\n{TEXT}".encode()),
        ("v.txt.gz", gzip.compress(TEXT.encode())),
        ("gzip_without_its_ending.txt", gzip.compress(TEXT.encode())),
        ("v.npz", packed(words=WORDS, vectors=VECTORS)),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
@pytest.mark.parametrize("words", [None, ["film", "fun", "plot"]], ids=["all", "some"])
def test_files_that_are_read(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    found = read_vectors(tmp_path / name, words, setting="student.vectors")
    assert {word: vector.tolist() for word, vector in found.items()} == {"film": [1, 2, 3], "fun": [4, 5, 6]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "holds no vectors"),
        ("header.txt", b"0 300\n", "holds no vectors"),
        ("nan.txt", b"film 1 nan 3\n", "the vector of 'film' has a number that is not finite"),
        ("large.txt", b"film 1 1e39 3\n", "the vector of 'film' has a number that is not finite"),
        ("cut.txt.gz", gzip.compress(TEXT.encode())[:-9], "truncated or damaged .* copy it again"),
        ("spoilt.txt.gz", gzip.compress(TEXT.encode())[:-9] + b"\0" * 9, "truncated or damaged .* copy it again"),
        ("empty.npz", b"", "not an .npz archive, or truncated"),
        ("text.npz", TEXT.encode(), "not an .npz archive, or truncated"),
        ("renamed_npy.npz", saved(VECTORS), "not an .npz archive, or truncated"),
        ("cut.npz", packed(words=WORDS, vectors=VECTORS)[:-30], "not an .npz archive, or truncated"),
        ("spoilt.npz", spoilt(packed(words=WORDS, vectors=VECTORS)), "the archive is damaged"),
        ("no_arrays.npz", packed(), "needs arrays 'words' and 'vectors'"),
        ("no_rows.npz", packed(words=WORDS[:0], vectors=VECTORS[:0]), "holds no vectors"),
        ("no_width.npz", packed(words=WORDS, vectors=VECTORS[:, :0]), "needed are n words as text and n × width numbers"),
        ("texts.npz", packed(words=WORDS, vectors=VECTORS.astype(str)), "needed are n words as text and n × width numbers"),
        ("objects.npz", packed(words=WORDS.astype(object), vectors=VECTORS), "holds Python objects, .* words have to be text"),
        ("nan.npz", packed(words=WORDS, vectors=VECTORS * np.nan), "the vector of 'film' has a number that is not finite"),
        ("large.npz", packed(words=WORDS, vectors=VECTORS * 1e39), "the vector of 'film' has a number that is not finite"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
@pytest.mark.parametrize("setting", ["student.vectors", "word_replacement.vectors"])
def test_files_that_are_refused(name, content, message, setting, tmp_path):
    (tmp_path / name).write_bytes(content)
    step = WordReplacement(vectors=str(tmp_path / name))
    with pytest.raises(DataError, match=rf"{setting}: .*{name}: (got words .*)?{message}"):
        (
            read_vectors(tmp_path / name, ["film", "fun"], setting=setting)
            if setting == "student.vectors"
            else step.prepare(AugmentationContext(["a film"]))
        )
