"""Kept outputs are found by what a row says, survive a kill, and serve nobody whom they do not fit."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
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
    return Dataset.from_dict({"text": [row["text"] for row in rows], "identity": [identity(row["text"]) for row in rows]})


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
        np.testing.assert_array_equal(open_store(folder).logits(rows.select(order)), truth(rows.select(order)).reshape(-1, 2))
    assert len(list(folder.glob("shard-*.arrow"))) == 4 == len(list(folder.iterdir())) - 1


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
    for name, age in ((".shard-1.arrow.17.new", 7200), (".shard-2.arrow.18.new", 0)):
        (folder / name).write_bytes(b"ARROW1 half a sh")
        os.utime(folder / name, (time.time() - age,) * 2)
    kept, teacher = open_store(folder), Counting()
    assert len(kept) == 16
    assert [path.name for path in folder.glob(".*.new")] == [".shard-2.arrow.18.new"]  # another run may be writing it
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
    for where, dtype, size in ((folder, "float16", 30 * (16 + 4 + 4)), (tmp_path / "full", "float32", 30 * (16 + 4 + 8))):
        shards = [pa.ipc.open_file(path).read_all() for path in where.glob("shard-*")]
        assert sum(shard.nbytes for shard in shards) == size == bytes_needed(30, 2, dtype)


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
    open_store(folder).fill(Counting(), rows_of(4))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(store_module, "FORMAT", 3)
    with pytest.raises(StoreError, match=r"in format 2, .*Delete the folder.* or name another with --store") as caught:
        open_store(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("cut", [0, 10, 100, -1])
def test_a_truncated_shard_is_named(folder, cut):
    open_store(folder).fill(Counting(), rows_of(16))
    shard = sorted(folder.glob("shard-*"))[1]
    shard.write_bytes(shard.read_bytes()[:cut])
    with pytest.raises(StoreError, match=rf"{shard.name}: truncated or damaged.*delete this file"):
        open_store(folder).missing(rows_of(16))
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
    table = pa.table({"identity": ["a"]})
    with pa.ipc.new_file(folder / "shard-0.arrow", table.schema) as shard:
        shard.write_table(table)
    with pytest.raises(StoreError, match="not a shard of this store"):
        len(open_store(folder))


def test_opening_reads_no_shard_and_filling_reads_each_once(folder, monkeypatch):
    """However many shards there are and come: what is known is never gone through again to keep more."""
    open_store(folder).fill(Counting(), rows_of(20))
    read, opened = [], Store._read
    monkeypatch.setattr(Store, "_read", lambda self, path, column: read.append((path, column)) or opened(self, path, column))
    kept = open_store(folder)
    assert not read
    more = rows_of(60)
    assert kept.fill(Counting(), more) == len(set(more["identity"]) - set(rows_of(20)["identity"]))
    assert sorted(read) == [(path, "identity") for path in kept._paths] and len(kept._identities) > len(kept._paths)
    np.testing.assert_array_equal(kept.logits(more), truth(more))


def test_what_a_teacher_remembers_is_kept_and_not_computed_again(folder):
    rows, teacher = rows_of(30), Counting()
    some = rows.select([3, 4, 3, 29])
    np.testing.assert_array_equal(teacher.first_logits(some, device="cpu"), truth(some))
    np.testing.assert_array_equal(teacher.first_logits(some, device="cpu"), truth(some))
    kept = open_store(folder)
    assert kept.fill(teacher, rows) == 30
    assert sorted(teacher.asked) == sorted(rows["text"])
    np.testing.assert_array_equal(open_store(folder).logits(rows), truth(rows))


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
