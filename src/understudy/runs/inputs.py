"""The files and folders that settings name: a run is resumed, and a control is taken again, only where they are as they were."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from understudy.data.rows import hashed
from understudy.errors import ModelError
from understudy.models.folder import READ, find_folder
from understudy.settings.listing import settings_of

if TYPE_CHECKING:
    from understudy.settings.recipe import Recipe
    from understudy.teachers.teacher import Teacher

# Settings of text that are no files, or whose files are known otherwise; every other one counts, also of a part of the user's own.
NO_FILES = {
    "name", "stages.N.name", "metric", "report_to", "data.columns", "data.label_names", "data.group_column",
    "teacher.store",  # is written, and knows its teacher
}  # fmt: skip
KNOWN_OTHERWISE = {
    "data.train", "data.validation", "data.test", "data.transfer", "data.raw",  # by their rows
    "teacher.models", "model",  # by what decides their outputs
}  # fmt: skip
_RECORDS = ("facts.json", "environment.json", "inputs.json")  # which `finetune` leaves beside a model


def files_of(settings: BaseModel, at: str = "") -> dict[str, dict[str, str]]:
    """Dotted key → file (or folder) and hash of everything that lies on disk and that a setting names: models, word vectors, code.

    Args:
        settings: of a recipe, of another command, or of a part.
        at: put before each key.
    """
    values = settings.model_dump(mode="json")
    found: dict[str, dict[str, str]] = {}
    for one in settings_of(type(settings), values):
        general = re.sub(r"\b\d+\b", "N", one.key).removeprefix("tasks.N.")
        if "kind" not in values and general in NO_FILES | KNOWN_OTHERWISE:  # a part's own settings may be called alike
            continue
        choices = one.type.removeprefix("list of ").split(" | ")
        for named in _texts(_value(values, one.key)):
            path = None if named in choices else _path(values, one.key, named)
            if path is not None:
                key = f"{at}{one.key}" + (f", {named}" if f"{at}{one.key}" in found else "")
                found[key] = {"file": named, "sha256": hash_of(path)}
    return found


def teacher_input(recipe: Recipe, teacher: Teacher) -> dict[str, dict[str, Any]]:
    """The teacher as one of the inputs of a run: what decides its outputs."""
    return {"teacher": {"file": ", ".join(recipe.teacher.models) or "none", "sha256": hashed(teacher.fingerprint)}}


def contents(described: Sequence[BaseModel]) -> dict[str, str]:
    """Path → hash of everything that some settings name."""
    return {one["file"]: one["sha256"] for settings in described for one in files_of(settings).values()}


def hash_of(path: Path) -> str:
    """Of a file, or of what is read of a folder: of a model its weights, settings and vocabulary, of any other all that is in it."""
    digest = hashlib.sha256()
    for file in _read_of(path):
        with file.open("rb") as opened:
            digest.update(f"{file.relative_to(path)}\n{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _read_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if (path / "config.json").is_file():
        return sorted(file for pattern in READ for file in path.glob(pattern) if file.name not in _RECORDS)
    return sorted(file for file in path.rglob("*") if file.is_file())


def _path(values: Any, key: str, named: str) -> Path | None:
    """What a setting names: a path, one with a class after it (`./mine.py:MyLoss`) or a word before it (`spacy:tagger`), or a model."""
    place, _, name = key.rpartition(".")
    if key == "teacher.pretrained" or (name == "model" and _value(values, place).get("kind") == "pretrained"):
        try:
            return find_folder(named)  # perhaps one of the hub
        except ModelError:
            return None  # refused where it is loaded
    code = named.rpartition(":")[0]
    ways = [code] if name in ("kind", "task") else [named, code, named.partition(":")[2]]
    return next((Path(way) for way in ways if way and Path(way).exists()), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _value(values: Any, key: str) -> Any:
    for name in filter(None, key.split(".")):
        values = values[int(name)] if isinstance(values, list) else values[name]
    return values
