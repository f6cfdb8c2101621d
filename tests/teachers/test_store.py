"""Kept outputs are found by what a row says, survive a kill, and serve nobody whom they do not fit."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

from tiny import tiny_rows
from understudy.data.tables import identity
from understudy.errors import StoreError
from understudy.teachers import store as store_module
from understudy.teachers.store import Store, bytes_needed
from understudy.teachers.teacher import Teacher

FINGERPRINT = {"weights": "w", "tokenizer": "t", "labels": ["bad", "good"], "max_length": 64}


def rows_of(count: int, *, seed: int = 0) -> Dataset:
    rows = tiny_rows(count, seed=seed)
    return Dataset.from_dict(
        {"text": [row["text"] for row in rows], "identity": [identity(row["text"]) for row in rows]}
    )


def truth(rows: Dataset) -> np.ndarray:
    """Two numbers that only the text decides."""
    return np.asarray([[len(text), sum(map(ord, text)) / 100] for text in rows["text"]], np.float32)


class Counting(Teacher):
    """Answers `truth`, remembers what it was asked, and gives out after so many rows."""

    fingerprint = FINGERPRINT

    def __init__(self, patience: int = 10**9) -> None:
        self.asked: list[str] = []
        self.patience = patience

    def logits(self, rows, *, device):
        if len(self.asked) + len(rows) > self.patience:
            raise KeyboardInterrupt
        self.asked += rows["text"]
        return truth(rows)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_ROWS", 8)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "outputs"


def open_store(folder, *, outputs=2, dtype="float32", **fingerprint) -> Store:
    return Store(folder, FINGERPRINT | fingerprint, outputs, dtype=dtype)


def test_every_order_and_split_finds_its_rows(folder):
    rows, kept, teacher = rows_of(30), open_store(folder), Counting()
    assert kept.fill(teacher, rows) == 30 == len(kept)
    for order in (np.arange(30), np.random.default_rng(0).permutation(30), np.array([3, 3, 29]), np.array([], int)):
        np.testing.assert_array_equal(
            open_store(folder).logits(rows.select(order)), truth(rows.select(order)).reshape(-1, 2)
        )
    assert len(list(folder.glob("shard-*.npy"))) == 4 == len(list(folder.iterdir())) - 1


def test_nothing_is_asked_twice(folder):
    rows, more, teacher = rows_of(20), concatenate_datasets([rows_of(20), rows_of(20, seed=1)]), Counting()
    kept = open_store(folder)
    assert kept.fill(teacher, concatenate_datasets([rows, rows])) == 20
    assert kept.fill(teacher, more.shuffle(seed=1)) == len(set(more["identity"])) - 20
    assert open_store(folder).fill(teacher, more) == 0
    assert len(teacher.asked) == len(set(teacher.asked)) == len(set(more["text"]))
    np.testing.assert_array_equal(kept.logits(more), truth(more))


def test_a_killed_filling_goes_on(folder):
    rows, impatient = rows_of(30), Counting(patience=20)
    with pytest.raises(KeyboardInterrupt):
        open_store(folder).fill(impatient, rows)
    assert len(impatient.asked) == 16
    # A kill while a shard is written leaves a file that no reader takes for one; in time it is removed.
    for name, age in ((".shard-1.npy.17.new", 7200), (".shard-2.npy.18.new", 0)):
        (folder / name).write_bytes(b"\x93NUMPY half a sh")
        os.utime(folder / name, (time.time() - age,) * 2)
    kept, teacher = open_store(folder), Counting()
    assert len(kept) == 16
    assert [path.name for path in folder.glob(".*.new")] == [".shard-2.npy.18.new"]  # another run may be writing it
    assert kept.fill(teacher, rows) == 14
    assert not set(teacher.asked) & set(impatient.asked)
    np.testing.assert_array_equal(kept.logits(rows), truth(rows))


def test_a_kill_between_rename_and_next_shard_loses_nothing(folder, monkeypatch):
    """The shard has its final name only once it is whole: at every earlier moment there is none."""
    rows, kept = rows_of(8), open_store(folder)
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        kept.add(rows["identity"], truth(rows))
    assert not list(folder.glob("shard-*"))
    monkeypatch.undo()
    assert len(open_store(folder)) == 0


def test_a_full_disk_leaves_no_shard(folder, monkeypatch):
    rows, kept = rows_of(8), open_store(folder)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kept.add(rows["identity"], truth(rows))
    assert not list(folder.glob("shard-*"))


def test_float16_halves_and_rounds(folder, tmp_path):
    rows = rows_of(30)
    for where, dtype in ((folder, "float16"), (tmp_path / "full", "float32")):
        open_store(where, dtype=dtype).fill(Counting(), rows)
    kept = open_store(folder, dtype="float16").logits(rows)
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept, truth(rows), rtol=1e-3)
    for where, dtype, size in ((folder, "float16", 30 * (16 + 4)), (tmp_path / "full", "float32", 30 * (16 + 8))):
        assert sum(np.load(path).nbytes for path in where.glob("shard-*")) == size == bytes_needed(30, 2, dtype)


def test_values_that_float16_cannot_hold_are_refused(folder):
    rows = rows_of(2)
    kept = open_store(folder, dtype="float16")
    with pytest.raises(StoreError, match=r"not finite as float16.*dtype=float32"), np.errstate(over="ignore"):
        kept.add(rows["identity"], np.full((2, 2), 1e6, np.float32))
    assert len(kept) == 0 and not list(folder.glob("shard-*"))
    with pytest.raises(StoreError, match="not finite"):
        open_store(folder, dtype="float16").add(rows["identity"], np.full((2, 2), np.nan, np.float32))


def test_a_row_never_kept_is_told(folder):
    kept = open_store(folder)
    kept.fill(Counting(), rows_of(10))
    with pytest.raises(StoreError, match=r"10 of 20 rows have no cached teacher output.*understudy teach"):
        kept.logits(concatenate_datasets([rows_of(10), rows_of(20, seed=2).select(range(10))]))


def test_one_store_is_filled_by_two_at_once(folder):
    """Two runs of one teacher side by side, each with rows of its own and some in common."""
    first, second = open_store(folder), open_store(folder)
    mine, theirs = rows_of(20), concatenate_datasets([rows_of(12, seed=3), rows_of(20).select(range(8))])
    first.fill(Counting(), mine)
    second.fill(Counting(), theirs)
    for kept, rows in ((first, mine), (second, theirs), (open_store(folder), mine), (open_store(folder), theirs)):
        np.testing.assert_array_equal(kept.logits(rows), truth(rows))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"weights": "other"}, "teacher's weights"),
        ({"tokenizer": "other"}, "teacher's tokenizer"),
        ({"labels": ["good", "bad"]}, "teacher's labels"),
        ({"max_length": 32}, "teacher's max_length"),
        ({"combine": "geometric"}, "teacher's combine"),
        ({"dtype": "float16"}, "dtype"),
        ({"outputs": 3}, "outputs"),
        ({"weights": "other", "max_length": 32, "dtype": "float16"}, "dtype, teacher's max_length, teacher's weights"),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, dict) else "",
)
def test_of_another_teacher_or_setting(folder, changed, named):
    open_store(folder).fill(Counting(), rows_of(4))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(StoreError, match=f"these differ: {named}\\. Give another --store") as caught:
        open_store(folder, **changed)
    assert str(folder) in str(caught.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_of_an_older_format(folder, monkeypatch):
    open_store(folder)
    monkeypatch.setattr(store_module, "FORMAT", 2)
    with pytest.raises(StoreError, match="these differ: format"):
        open_store(folder)


@pytest.mark.parametrize("cut", [0, 10, 100, -1])
def test_a_truncated_shard_is_named(folder, cut):
    open_store(folder).fill(Counting(), rows_of(16))
    shard = sorted(folder.glob("shard-*"))[1]
    shard.write_bytes(shard.read_bytes()[:cut])
    with pytest.raises(StoreError, match=rf"{shard.name}: truncated or damaged.*delete this file"):
        open_store(folder)
    shard.unlink()  # as it says
    kept = open_store(folder)
    assert kept.fill(Counting(), rows_of(16)) == 8
    np.testing.assert_array_equal(kept.logits(rows_of(16)), truth(rows_of(16)))


@pytest.mark.parametrize("deleted", [0, 1, 2])
def test_a_deleted_shard_is_computed_again_and_no_other_is_lost(folder, deleted):
    rows = rows_of(24)
    open_store(folder).fill(Counting(), rows)
    sorted(folder.glob("shard-*"))[deleted].unlink()
    assert open_store(folder).fill(Counting(), rows) == 8
    again = open_store(folder)
    assert len(again) == 24
    np.testing.assert_array_equal(again.logits(rows), truth(rows))


def test_a_shard_of_something_else(folder):
    open_store(folder)
    np.save(folder / "shard-0.npy", np.zeros(3))
    with pytest.raises(StoreError, match="not a shard of this store"):
        open_store(folder)


def test_pickles_are_not_opened(folder):
    open_store(folder)
    np.save(folder / "shard-0.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="truncated or damaged"):
        open_store(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"', '{"format": 1}'])
def test_a_garbage_marker(folder, content):
    open_store(folder)
    (folder / "store.json").write_text(content)
    with pytest.raises(StoreError, match=r"store.json: damaged .*delete the folder"):
        open_store(folder)


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="not a store of teacher outputs"):
        open_store(tmp_path)
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == '["thesis.txt"]'
