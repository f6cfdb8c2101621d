"""Files and folders that are complete or missing: written beside their place, then renamed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Files of a run folder; `runs/folder.py` describes what each holds.
RECIPE, FACTS, METRICS, ENVIRONMENT, INPUTS = ("recipe.yaml", "facts.json", "metrics.jsonl", "environment.json", "inputs.json")

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


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one on each line; none where there is no file. A process that was killed may have left half a line."""
    objects = []
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects


def append_json_line(path: Path, value: dict[str, Any]) -> None:
    """Add an object to such a file, on a line of its own also after half a line."""
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            half = file.read(1) != b"\n"
        else:
            half = False
        file.write((("\n" if half else "") + json.dumps(value) + "\n").encode())


def remove(path: Path) -> None:
    """Remove a file or a folder; a missing one is no error."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
