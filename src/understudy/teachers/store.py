"""Kept teacher outputs, found by the identity of a row, never by its position."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from understudy.errors import StoreError
from understudy.files import read_json, whole, write_json

if TYPE_CHECKING:
    import datasets

    from understudy.teachers.teacher import Teacher

FORMAT = 1
SHARD_ROWS = 2048  # outputs lost at most when a run is killed
# A half-written file this old was left by a kill; a younger one may be another run's, at work.
UNFINISHED_SECONDS = 3600


class Store:
    """A folder of shards, each whole or absent, that serves many students and runs.

    `store.json` says whose outputs these are; `shard-….npy`, named after the rows in them, hold records of (identity, logits) that are
    memory-mapped when read. The same text in any file, order or split is one row. Several runs may fill one store at a time.

    Args:
        folder: made when it is not there.
        fingerprint: of the teacher; kept outputs of another are refused.
        outputs: width of the logits.
        dtype: of what is kept; float16 halves the size and rounds at about 1e-3 of the value.

    Raises:
        StoreError: the folder holds another teacher's outputs, another format, or a damaged shard.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, Any], outputs: int, *, dtype: str = "float32") -> None:
        self.folder = folder
        self.record = np.dtype([("identity", "u1", 16), ("logits", np.dtype(dtype), (outputs,))])
        described = {"format": FORMAT, "dtype": dtype, "outputs": outputs, "teacher": fingerprint}
        marker = folder / "store.json"
        if marker.exists():
            _compare(marker, described)
        elif folder.exists() and any(folder.iterdir()):
            raise StoreError(
                f"{folder}: not a store of teacher outputs (no store.json), and not empty; give another folder"
            )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(marker, described)
        for unfinished in folder.glob(".*.new"):
            if time.time() - unfinished.stat().st_mtime > UNFINISHED_SECONDS:
                unfinished.unlink(missing_ok=True)
        self._shards = [self._open(path) for path in sorted(folder.glob("shard-*.npy"))]
        self._index()

    def __len__(self) -> int:
        """Rows kept."""
        return len(self._known)

    def missing(self, rows: datasets.Dataset) -> list[int]:
        """Positions of the rows without a kept output; each identity once."""
        keys = _keys(rows["identity"])
        absent = pc.invert(pc.is_in(keys, value_set=self._known)).to_numpy(zero_copy_only=False)
        _, first = np.unique(np.asarray(rows["identity"]), return_index=True)
        once = np.zeros(len(rows), dtype=bool)
        once[first] = True
        return np.flatnonzero(absent & once).tolist()

    def fill(self, teacher: Teacher, rows: datasets.Dataset, *, device: str = "cpu", name: str = "teacher") -> int:
        """Ask the teacher for the rows that are not kept yet, shard by shard, with a bar on stderr; returns how many."""
        from tqdm.auto import tqdm

        missing = self.missing(rows)
        with tqdm(
            total=len(missing), desc=name, unit="row", leave=False, dynamic_ncols=True, disable=not missing
        ) as bar:
            for start in range(0, len(missing), SHARD_ROWS):
                part = rows.select(missing[start : start + SHARD_ROWS])
                self.add(part["identity"], teacher.logits(part, device=device))
                bar.update(len(part))
        return len(missing)

    def add(self, identities: Sequence[str], logits: np.ndarray) -> None:
        """Keep outputs as one shard, written whole."""
        shard = np.empty(len(logits), dtype=self.record)
        shard["identity"] = _bytes(identities)
        shard["logits"] = logits
        if not np.isfinite(shard["logits"]).all():
            raise StoreError(f"{self.folder}: the teacher's outputs are not finite as {self.record['logits'].base}; "
                             "with float16, keep float32 instead (--set teacher.dtype=float32)")  # fmt: skip
        name = hashlib.blake2b(shard["identity"].tobytes(), digest_size=8).hexdigest()
        path = self.folder / f"shard-{name}.npy"
        with whole(path, writer=str(os.getpid())) as new, new.open("wb") as file:
            np.save(file, shard, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        self._shards.append(self._open(path))
        self._index()

    def logits(self, rows: datasets.Dataset) -> np.ndarray:
        """Kept outputs in the order of the rows: (rows, outputs) float32.

        Raises:
            StoreError: a row was never kept.
        """
        places = pc.index_in(_keys(rows["identity"]), value_set=self._known)
        if places.null_count:
            raise StoreError(
                f"{self.folder}: {places.null_count} of {len(rows)} rows have no cached teacher output; run `understudy teach` on them"
            )
        found = np.empty((len(rows), self.record["logits"].shape[0]), dtype=np.float32)
        places = places.to_numpy()
        ends = np.cumsum([len(shard) for shard in self._shards])
        shard_of = np.searchsorted(ends, places, side="right")
        for number, shard in enumerate(self._shards):
            here = np.flatnonzero(shard_of == number)
            found[here] = shard["logits"][places[here] - (ends[number] - len(shard))]
        return found

    def _open(self, path: Path) -> np.ndarray:
        try:
            shard = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise StoreError(
                f"{path}: truncated or damaged ({error}); delete this file, and its rows will be computed again"
            ) from error
        if shard.dtype != self.record:
            raise StoreError(f"{path}: not a shard of this store (its records are {shard.dtype}); delete this file")
        return shard

    def _index(self) -> None:
        identities = [shard["identity"] for shard in self._shards] or [np.empty((0, 16), np.uint8)]
        self._known = _binary(np.concatenate(identities))


def bytes_needed(rows: int, outputs: int, dtype: str) -> int:
    """Size of a store of so many rows.

    >>> bytes_needed(1_000_000, 20, "float16")
    56000000
    """
    return rows * (16 + outputs * np.dtype(dtype).itemsize)


def _bytes(identities: Sequence[str]) -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(identities)), dtype=np.uint8).reshape(-1, 16)


def _keys(identities: Sequence[str]) -> pa.Array:
    return _binary(_bytes(identities))


def _binary(values: np.ndarray) -> pa.Array:
    data = pa.py_buffer(np.ascontiguousarray(values).tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(values), [None, data])


def _compare(marker: Path, described: dict[str, Any]) -> None:
    try:
        found = read_json(marker)
        if not isinstance(found, dict) or not isinstance(found.get("teacher"), dict):
            raise ValueError("not the description of a store")
    except ValueError as error:
        raise StoreError(
            f"{marker}: damaged ({error}); delete the folder, and the outputs will be computed again"
        ) from error
    if found == described:
        return
    different = sorted(
        [key for key in described if key != "teacher" and found.get(key) != described[key]]
        + [f"teacher's {key}" for key, value in described["teacher"].items() if found["teacher"].get(key) != value]
        + [f"teacher's {key}" for key in found["teacher"] if key not in described["teacher"]]
    )
    raise StoreError(
        f"{marker.parent}: holds the outputs of another teacher or setting; these differ: {', '.join(different)}. "
        "Give another --store, or delete this one."
    )
