"""Cached teacher outputs, looked up by the identity of a row, never by its position."""

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
# An unfinished file this old was left by a killed run; a younger one may belong to a run that is writing it.
UNFINISHED_SECONDS = 3600


class Store:
    """A folder of shards, each complete or absent, that many students and runs share.

    `store.json` describes the teacher. `shard-….arrow` (Arrow IPC), named after the rows in it, holds for each row its `identity` and
    its `logits`: a list of positions, one for a classification, each with a number for every class. Opening a store only lists the
    shards. The identities are read once, when first needed; logits are read for the rows in question only. The same text in any file,
    order or split is one row. Several runs may fill one store at the same time.

    Args:
        folder: made when it does not exist.
        fingerprint: of the teacher; a store of another teacher is refused.
        outputs: width of the logits.
        dtype: of the cached outputs; float16 halves the size and rounds at about 1e-3 of the value.

    Raises:
        StoreError: the folder holds another teacher's outputs, another format, or (later) a damaged shard.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, Any], outputs: int, *, dtype: str = "float32") -> None:
        self.folder, self.outputs, self.dtype = folder, outputs, np.dtype(dtype)
        self.schema = pa.schema({"identity": pa.binary(16), "logits": pa.list_(pa.list_(pa.from_numpy_dtype(self.dtype), outputs))})
        description = {"format": FORMAT, "dtype": dtype, "outputs": outputs, "teacher": fingerprint}
        marker = folder / MARKER
        if marker.exists():
            _compare(marker, description)
        elif folder.exists() and any(folder.iterdir()):
            raise StoreError(f"{folder}: not a store of teacher outputs (no {MARKER}), and not empty; give another folder")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(marker, description)
        for unfinished in folder.glob(".*.new"):
            if time.time() - unfinished.stat().st_mtime > UNFINISHED_SECONDS:
                unfinished.unlink(missing_ok=True)
        self._paths = sorted(folder.glob("shard-*.arrow"))

    def __len__(self) -> int:
        """Number of rows in the store."""
        return len(self._known)

    def missing(self, rows: datasets.Dataset) -> list[int]:
        """Positions of the rows without a cached output; each identity once."""
        identities = rows["identity"][:]
        cached = pc.is_in(_keys(identities), value_set=self._known).to_pylist()
        first: dict[str, int] = {}
        for place, identity in enumerate(identities):
            if not cached[place]:
                first.setdefault(identity, place)
        return list(first.values())

    def fill(self, teacher: Teacher, rows: datasets.Dataset, *, device: str = "cpu", name: str = "teacher") -> int:
        """Run the teacher on the rows without a cached output, shard by shard, with a progress bar on stderr.

        Outputs that the teacher remembers are stored without running it.

        Args:
            teacher: of the store's fingerprint.
            rows: with `text`, perhaps `text_pair`, and `identity`.
            device: to run the teacher on.
            name: of the teacher, for the progress bar.

        Returns:
            How many rows were added.
        """
        from tqdm.auto import tqdm

        missing = self.missing(rows)
        if not missing:
            return 0
        identities = rows["identity"][:]
        remembered = [identities[place] for place in missing if identities[place] in teacher.remembered]
        if remembered:
            self.add(remembered, np.stack([teacher.remembered[identity] for identity in remembered]))
        new = [place for place in missing if identities[place] not in teacher.remembered]
        with teacher.at(device), tqdm(total=len(new), desc=name, unit="row", leave=False, dynamic_ncols=True, disable=not new) as bar:
            for start in range(0, len(new), SHARD_ROWS):
                part = rows.select(new[start : start + SHARD_ROWS])
                self.add(part["identity"], teacher.logits(part, device=device))
                bar.update(len(part))
        return len(missing)

    def add(self, identities: Sequence[str], logits: np.ndarray) -> None:
        """Store outputs as one shard, complete or not at all.

        Args:
            identities: of the rows.
            logits: (rows, outputs).

        Raises:
            StoreError: they are not finite numbers of the store's dtype.
        """
        values = np.ascontiguousarray(logits, dtype=self.dtype)
        if not np.isfinite(values).all():
            raise StoreError(
                f"{self.folder}: the teacher's outputs are not finite as {self.dtype}; "
                "with float16, keep float32 instead (--set teacher.dtype=float32)"
            )
        keys = _keys(identities)
        positions = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), self.outputs)
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
        """Cached outputs in the order of the rows: (rows, outputs) float32.

        Raises:
            StoreError: a row has no cached output, or a shard is damaged.
        """
        indices = pc.index_in(_keys(rows["identity"][:]), value_set=self._known)
        if indices.null_count:
            raise StoreError(
                f"{self.folder}: {indices.null_count} of {len(rows)} rows have no cached teacher output; run `understudy teach` on them"
            )
        places, start = indices.to_numpy(), 0
        logits = np.empty((len(rows), self.outputs), dtype=np.float32)
        for path, identities in self._identities.items():
            in_shard = np.flatnonzero((places >= start) & (places < start + len(identities)))
            if in_shard.size:
                values = self._read(path, "logits").take(pa.array(places[in_shard] - start))
                logits[in_shard] = values.flatten().flatten().to_numpy().reshape(-1, self.outputs)
            start += len(identities)
        return logits

    @cached_property
    def _identities(self) -> dict[Path, pa.Array]:
        """Shard → the identities in it, in the order of their rows; read once, then appended to."""
        return {path: self._read(path, "identity") for path in self._paths}

    @property
    def _known(self) -> pa.ChunkedArray:
        """The identities of all rows in the store, shard after shard."""
        return pa.chunked_array(list(self._identities.values()), type=pa.binary(16))

    def _read(self, path: Path, column: str) -> pa.Array:
        """A column of a shard.

        Raises:
            StoreError: the shard is damaged, or has other columns.
        """
        try:
            with pa.memory_map(str(path)) as file:
                schema = pa.ipc.open_file(file).schema
                if schema == self.schema:
                    options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(column)])
                    values = pa.ipc.open_file(file, options=options).get_batch(0)[column]
                    values.validate(full=True)
                    return values
        except (ValueError, OSError) as error:
            raise StoreError(f"{path}: truncated or damaged ({error}); delete this file, and its rows will be computed again") from error
        raise StoreError(f"{path}: not a shard of this store (it holds {schema}); delete this file")


def bytes_needed(rows: int, outputs: int, dtype: str) -> int:
    """Size of a store in bytes.

    >>> bytes_needed(1_000_000, 20, "float16")
    60000000
    """
    return rows * (16 + 4 + outputs * np.dtype(dtype).itemsize)


def _keys(identities: Sequence[str]) -> pa.Array:
    """Identities, which are hexadecimal text, as 16 bytes each."""
    data = pa.py_buffer(bytes.fromhex("".join(identities)))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(identities), [None, data])


def _compare(marker: Path, expected: dict[str, Any]) -> None:
    """Refuse a store whose description is not the expected one.

    Raises:
        StoreError: another teacher, setting or format, or a damaged description.
    """
    try:
        existing = read_json(marker)
        if not isinstance(existing, dict) or not isinstance(existing.get("teacher"), dict):
            raise ValueError("not the description of a store")
    except ValueError as error:
        raise StoreError(f"{marker}: damaged ({error}); delete the folder, and the outputs will be computed again") from error
    if existing == expected:
        return
    if existing.get("format") != FORMAT:
        raise StoreError(
            f"{marker.parent}: teacher outputs in format {existing.get('format')}, of another version of understudy; this one reads format "
            f"{FORMAT}. Delete the folder, and the outputs will be computed again, or name another with --store"
        )
    different = sorted(
        [key for key in expected if key != "teacher" and existing.get(key) != expected[key]]
        + [f"teacher's {key}" for key, value in expected["teacher"].items() if existing["teacher"].get(key) != value]
        + [f"teacher's {key}" for key in existing["teacher"] if key not in expected["teacher"]]
    )
    raise StoreError(
        f"{marker.parent}: holds the outputs of another teacher or setting; these differ: {', '.join(different)}. "
        "Give another --store, or delete this one."
    )
