"""Files and folders that are complete or missing: written beside their place, then renamed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Files of a run folder; `runs/folder.py` describes what each holds.
RECIPE, FACTS, METRICS, ENVIRONMENT, INPUTS = (
    "recipe.yaml",
    "facts.json",
    "metrics.jsonl",
    "environment.json",
    "inputs.json",
)

DESCRIPTION = "export.json"  # of an export; `exporting/folder.py` describes what it holds


def is_export(folder: str | Path) -> bool:
    """Whether `understudy export` wrote this folder."""
    return (Path(folder) / DESCRIPTION).is_file()


@contextmanager
def whole(path: Path, *, writer: str = "") -> Iterator[Path]:
    """A path beside `path` to write a file or a folder to. It replaces `path` when the block ends without an error.

    A reader sees the whole new file or the previous one. Where the block writes nothing, the previous one stays.

    Args:
        path: of the file or folder to write.
        writer: name of the writer, where several may write the same file at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}{writer and '.'}{writer}.new")
    remove(new)
    try:
        yield new
    except BaseException:
        remove(new)
        raise
    if new.is_dir() and path.exists():  # a folder cannot be renamed to an existing one
        old = path.with_name(f".{path.name}.old")
        remove(old)
        path.rename(old)
        new.rename(path)
        remove(old)
    elif new.exists():
        new.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file, complete or not at all, in UTF-8. A lone surrogate, which JSON may hold and UTF-8 may not, becomes `?`."""
    with whole(path) as new:
        new.write_text(text, "utf-8", errors="replace")


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write a JSON file, complete or not at all."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, default=dict) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return json.loads(path.read_text("utf-8"))


def remove(path: Path) -> None:
    """Remove a file or a folder; a missing one is no error."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
