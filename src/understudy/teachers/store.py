"""Kept teacher outputs, found by the identity of a row, never by its position."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from functools import cached_property
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

FORMAT = 2
MARKER = "store.json"
SHARD_ROWS = 2048  # outputs lost at most when a run is killed
# A half-written file this old was left by a kill; a younger one may be another run's, at work.
UNFINISHED_SECONDS = 3600


class Store:
    """A folder of shards, each whole or absent, that serves many students and runs.

    `store.json` says whose outputs these are. `shard-….arrow` (Arrow IPC), named after the rows in it, holds of each row its `identity`
    and its `logits`: a list of positions, one for a classification, each with a number for every class. Opening lists the names; the
    identities are read once, at the first question, and the logits of the rows that are asked for. The same text in any file, order or
    split is one row. Several runs may fill one store at a time.

    Args:
        folder: made when it does not exist.
        fingerprint: of the teacher; kept outputs of another are refused.
        outputs: width of the logits.
        dtype: of what is kept; float16 halves the size and rounds at about 1e-3 of the value.

    Raises:
        StoreError: the folder holds another teacher's outputs, another format, or (later) a damaged shard.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, Any], outputs: int, *, dtype: str = "float32") -> None:
        self.folder, self.outputs, self.dtype = folder, outputs, np.dtype(dtype)
        self.schema = pa.schema({
            "identity": pa.binary(16), "logits": pa.list_(pa.list_(pa.from_numpy_dtype(self.dtype), outputs)),
        })  # fmt: skip
        described = {"format": FORMAT, "dtype": dtype, "outputs": outputs, "teacher": fingerprint}
        marker = folder / MARKER
        if marker.exists():
            _compare(marker, described)
        elif folder.exists() and any(folder.iterdir()):
            raise StoreError(
                f"{folder}: not a store of teacher outputs (no {MARKER}), and not empty; give another folder"
            )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(marker, described)
        for unfinished in folder.glob(".*.new"):
            if time.time() - unfinished.stat().st_mtime > UNFINISHED_SECONDS:
                unfinished.unlink(missing_ok=True)
        self._paths = sorted(folder.glob("shard-*.arrow"))

    def __len__(self) -> int:
        """Rows kept."""
        return len(self._known)

    def missing(self, rows: datasets.Dataset) -> list[int]:
        """Positions of the rows without a kept output; each identity once."""
        identities = rows["identity"][:]
        kept = pc.is_in(_keys(identities), value_set=self._known).to_pylist()
        first: dict[str, int] = {}
        for place, identity in enumerate(identities):
            if not kept[place]:
                first.setdefault(identity, place)
        return list(first.values())

    def fill(self, teacher: Teacher, rows: datasets.Dataset, *, device: str = "cpu", name: str = "teacher") -> int:
        """Run the teacher on the rows that are not kept yet, shard by shard, with a bar on stderr; returns how many.

        Outputs that the teacher remembers are kept as they are.
        """
        from tqdm.auto import tqdm

        missing = self.missing(rows)
        if not missing:
            return 0
        identities = rows["identity"][:]
        known = [identities[place] for place in missing if identities[place] in teacher.remembered]
        if known:
            self.add(known, np.stack([teacher.remembered[identity] for identity in known]))
        new = [place for place in missing if identities[place] not in teacher.remembered]
        with (
            teacher.at(device),
            tqdm(total=len(new), desc=name, unit="row", leave=False, dynamic_ncols=True, disable=not new) as bar,
        ):
            for start in range(0, len(new), SHARD_ROWS):
                part = rows.select(new[start : start + SHARD_ROWS])
                self.add(part["identity"], teacher.logits(part, device=device))
                bar.update(len(part))
        return len(missing)

    def add(self, identities: Sequence[str], logits: np.ndarray) -> None:
        """Keep outputs, (rows, outputs), as one shard, written whole."""
        kept = np.ascontiguousarray(logits, dtype=self.dtype)
        if not np.isfinite(kept).all():
            raise StoreError(f"{self.folder}: the teacher's outputs are not finite as {self.dtype}; "
                             "with float16, keep float32 instead (--set teacher.dtype=float32)")  # fmt: skip
        keys = _keys(identities)
        positions = pa.FixedSizeListArray.from_arrays(pa.array(kept.reshape(-1)), self.outputs)
        rows = pa.ListArray.from_arrays(np.arange(len(keys) + 1, dtype=np.int32), positions)
        name = hashlib.blake2b("".join(identities).encode(), digest_size=8).hexdigest()
        path = self.folder / f"shard-{name}.arrow"
        with whole(path, writer=str(os.getpid())) as new, new.open("wb") as file:
            with pa.ipc.new_file(file, self.schema) as shard:
                shard.write(pa.record_batch([keys, rows], schema=self.schema))
            file.flush()
            os.fsync(file.fileno())
        self._identities[path] = keys

    def logits(self, rows: datasets.Dataset) -> np.ndarray:
        """Kept outputs in the order of the rows: (rows, outputs) float32.

        Raises:
            StoreError: a row was never kept.
        """
        found = pc.index_in(_keys(rows["identity"][:]), value_set=self._known)
        if found.null_count:
            raise StoreError(
                f"{self.folder}: {found.null_count} of {len(rows)} rows have no cached teacher output; run `understudy teach` on them"
            )
        places, start = found.to_numpy(), 0
        logits = np.empty((len(rows), self.outputs), dtype=np.float32)
        for path, identities in self._identities.items():
            here = np.flatnonzero((places >= start) & (places < start + len(identities)))
            if here.size:
                kept = self._read(path, "logits").take(pa.array(places[here] - start))
                logits[here] = kept.flatten().flatten().to_numpy().reshape(-1, self.outputs)
            start += len(identities)
        return logits

    @cached_property
    def _identities(self) -> dict[Path, pa.Array]:
        """Shard → the identities in it, in the order of their rows; read once, then appended to."""
        return {path: self._read(path, "identity") for path in self._paths}

    @property
    def _known(self) -> pa.ChunkedArray:
        return pa.chunked_array(list(self._identities.values()), type=pa.binary(16))

    def _read(self, path: Path, column: str) -> pa.Array:
        """A column of a shard."""
        try:
            with pa.memory_map(str(path)) as file:
                schema = pa.ipc.open_file(file).schema
                if schema == self.schema:
                    only = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(column)])
                    kept = pa.ipc.open_file(file, options=only).get_batch(0)[column]
                    kept.validate(full=True)
                    return kept
        except (ValueError, OSError) as error:
            raise StoreError(
                f"{path}: truncated or damaged ({error}); delete this file, and its rows will be computed again"
            ) from error
        raise StoreError(f"{path}: not a shard of this store (it holds {schema}); delete this file")


def bytes_needed(rows: int, outputs: int, dtype: str) -> int:
    """Size of a store of so many rows.

    >>> bytes_needed(1_000_000, 20, "float16")
    60000000
    """
    return rows * (16 + 4 + outputs * np.dtype(dtype).itemsize)


def _keys(identities: Sequence[str]) -> pa.Array:
    data = pa.py_buffer(bytes.fromhex("".join(identities)))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(identities), [None, data])


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
    if found.get("format") != FORMAT:
        raise StoreError(
            f"{marker.parent}: teacher outputs in format {found.get('format')}, of another version of understudy; this one reads format "
            f"{FORMAT}. Delete the folder, and the outputs will be computed again, or name another with --store"
        )
    different = sorted(
        [key for key in described if key != "teacher" and found.get(key) != described[key]]
        + [f"teacher's {key}" for key, value in described["teacher"].items() if found["teacher"].get(key) != value]
        + [f"teacher's {key}" for key in found["teacher"] if key not in described["teacher"]]
    )
    raise StoreError(
        f"{marker.parent}: holds the outputs of another teacher or setting; these differ: {', '.join(different)}. "
        "Give another --store, or delete this one."
    )
