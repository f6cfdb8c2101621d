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
_OF_DATASETS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
# 0000, part-00000, data-00000-of-00002, part-00000-5e9b0e4c-…-c000
_PART = re.compile(r"(?:[A-Za-z]+[-_])?(\d+)(?:-of-(\d+))?(?:-[0-9a-f-]{8,})?")


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
    match = _NAME.fullmatch(name.partition(".")[0])
    if match is None:
        return None
    split, number, of = match.groups()
    return Shard(split, None if number is None else int(number), None if of is None else int(of))


def splits_in(folder: Path, splits: Mapping[str, Sequence[str]], formats: Collection[str]) -> dict[str, list[Path]]:
    """The files of each split that a folder holds: there, in its folder `data`, or in the one folder of a configuration.

    A split is one file of its name, shards with its name and their numbers, or a folder of its name with files that are numbered. A
    folder of numbered files without a name, as other programs write tables, is `train`.

    Args:
        splits: name → what its files' names may begin with.
        formats: endings that can be read.

    Raises:
        DataError: two files that are both one split, a shard that is missing, or several folders that hold splits.
    """
    return _within(folder, splits, formats, depth=2)


def _within(folder: Path, splits: Mapping[str, Sequence[str]], formats: Collection[str], *, depth: int) -> dict[str, list[Path]]:
    for place in (folder, folder / "data"):
        if place.is_dir() and (files := _directly_in(place, splits, formats)):
            return files
    if not depth:
        return {}
    inner = {place: files for place in _folders(folder) if (files := _within(place, splits, formats, depth=depth - 1))}
    if len(inner) > 1:
        raise DataError(f"{folder}: holds several data sets: {', '.join(map(str, list(inner)[:5]))}; give one of them")
    return next(iter(inner.values()), {})


def _directly_in(place: Path, splits: Mapping[str, Sequence[str]], formats: Collection[str]) -> dict[str, list[Path]]:
    files = _readable(place, formats)
    paths_of = {split: _files(place, split, stems, files) for split, stems in splits.items()}
    for inner in _folders(place):
        split = next((name for name, stems in splits.items() if inner.name.lower() in stems), None)
        if split is not None and (parts := _numbered(inner, split, _readable(inner, formats))):
            if paths_of[split]:
                raise DataError(f"{place}: {paths_of[split][0].name} and {inner.name}/ are both {split}; keep one, or name the file")
            paths_of[split] = parts
    if not any(paths_of.values()) and all(_PART.fullmatch(path.name.partition(".")[0]) for path in files):
        paths_of["train"] = _numbered(place, "train", files)
    return {split: paths for split, paths in paths_of.items() if paths}


def _folders(place: Path) -> list[Path]:
    return [path for path in sorted(place.iterdir()) if path.is_dir() and not path.name.startswith((".", "_"))]


def _readable(place: Path, formats: Collection[str]) -> list[Path]:
    hidden = (".", "_", "~")
    files = (path for path in sorted(place.iterdir()) if ending_of(path) in formats and path.is_file())
    return [path for path in files if not path.name.startswith(hidden) and path.name not in _OF_DATASETS]


def _numbered(folder: Path, split: str, files: Sequence[Path]) -> list[Path]:
    """The files of a folder that is one split; they may have any name where there is only one."""
    if len(files) < 2:
        return list(files)
    parts = [(_PART.fullmatch(path.name.partition(".")[0]), path) for path in files]
    if len({ending_of(path) for path in files}) > 1 or not all(match for match, _ in parts):
        names = ", ".join(path.name for path in files[:4])
        raise DataError(f"{folder}: {names} are all {split}, but no numbered parts of one format; name the file")
    shards = [(Shard(split, int(match[1]), int(match[2]) if match[2] else None), path) for match, path in parts if match]
    return _complete(folder, split, shards)


def _files(folder: Path, split: str, stems: Sequence[str], files: Sequence[Path]) -> list[Path]:
    named = [(shard, path) for path in files if (shard := of_name(path.name)) and shard.split.lower() in stems]
    whole = [path for shard, path in named if shard.number is None]
    kinds = {(shard.split, shard.of, ending_of(path)) for shard, path in named if shard.number is not None}
    if len(whole) + len(kinds) > 1:
        names = " and ".join(path.name for path in [*whole, *(path for shard, path in named if shard.number is not None)][:4])
        raise DataError(f"{folder}: {names} are both {split}; keep one, or name the file")
    return whole if whole or not named else _complete(folder, split, named)


def _complete(folder: Path, split: str, named: Sequence[tuple[Shard, Path]]) -> list[Path]:
    """The parts of a split in their order.

    Raises:
        DataError: one is missing, or there twice.
    """
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
        raise DataError(f"{folder}: the parts of {split} do not number {len(wanted)}: {', '.join(path.name for _, path in parts[:6])}")
    return [path for _, path in parts]
