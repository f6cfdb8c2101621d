"""The files of a folder → its splits: one file each, or shards as the hub keeps them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from understudy.data.text_files import ending_of
from understudy.errors import DataError

# train, train-00000-of-00002, train-00000-of-00001-a09b74b3ef9c3b56, train-3, train_3
_NAME = re.compile(r"([A-Za-z]+)(?:[-_](\d+)(?:-of-(\d+))?(?:-[0-9a-f]{8,})?)?")


class Shard(NamedTuple):
    """What a file's name says: which split, which part of it, of how many (None where it does not say)."""

    split: str
    number: int | None
    of: int | None


def of_name(name: str) -> Shard | None:
    """
    >>> of_name("train-00000-of-00002.parquet"), of_name("test.jsonl.gz"), of_name("README.md").number
    (Shard(split='train', number=0, of=2), Shard(split='test', number=None, of=None), None)
    """
    found = _NAME.fullmatch(name.partition(".")[0])
    if found is None:
        return None
    split, number, of = found.groups()
    return Shard(split, None if number is None else int(number), None if of is None else int(of))


def splits_in(folder: Path, splits: Mapping[str, Sequence[str]], formats: Collection[str]) -> dict[str, list[Path]]:
    """The files of each split that a folder, or the folder `data` in it, holds.

    Args:
        splits: name → what its files' names may begin with.
        formats: endings that can be read.

    Raises:
        DataError: two files that are both one split, or a shard that is missing.
    """
    for place in (folder, folder / "data"):
        if place.is_dir():
            files = [path for path in sorted(place.iterdir()) if ending_of(path) in formats and path.is_file()]
            found = {split: _files(place, split, stems, files) for split, stems in splits.items()}
            if any(found.values()):
                return {split: paths for split, paths in found.items() if paths}
    return {}


def _files(folder: Path, split: str, stems: Sequence[str], files: Sequence[Path]) -> list[Path]:
    named = [(shard, path) for path in files if (shard := of_name(path.name)) and shard.split in stems]
    whole = [path for shard, path in named if shard.number is None]
    kinds = {(shard.split, shard.of, ending_of(path)) for shard, path in named if shard.number is not None}
    if len(whole) + len(kinds) > 1:
        both = " and ".join(
            path.name for path in [*whole, *(path for shard, path in named if shard.number is not None)][:4]
        )
        raise DataError(f"{folder}: {both} are both {split}; keep one, or name the file")
    if whole or not named:
        return whole
    parts = sorted((shard.number or 0, path) for shard, path in named)
    numbers, of = [number for number, _ in parts], named[0][0].of
    first = 0 if 0 in numbers or of is not None else 1
    wanted = range(first, first + (of if of is not None else max(numbers) - first + 1))
    if missing := [number for number in wanted if number not in numbers]:
        like = parts[0][1].name
        raise DataError(
            f"{folder}: of {split} there is {', '.join(path.name for _, path in parts[:4])}, but part "
            f"{', '.join(f'{number:05}' for number in missing[:5])} is missing ({len(parts)} of {len(wanted)} files like {like}); "
            "download it again, or give the files that you want by name"
        )
    if len(set(numbers)) < len(numbers) or any(number not in wanted for number in numbers):
        raise DataError(
            f"{folder}: the parts of {split} do not number {len(wanted)}: {', '.join(path.name for _, path in parts[:6])}"
        )
    return [path for _, path in parts]
