"""The files and folders that settings name. A run is resumed, and a control reused, only where they have not changed."""

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

# Text settings that do not name files, or whose files are identified otherwise. All others are checked, also those of a user's own part.
NO_FILES = {
    "name",
    "stages.N.name",
    "metric",
    "report_to",
    "data.columns",
    "data.label_names",
    "data.group_column",
    "teacher.store",  # written by the run; it records its teacher
}
KNOWN_OTHERWISE = {
    "data.train",
    "data.validation",
    "data.test",
    "data.transfer",
    "data.raw",  # by their rows
    "teacher.models",
    "model",  # by their fingerprint
}
_RECORDS = ("facts.json", "environment.json", "inputs.json")  # which `finetune` leaves beside a model


def files_of(settings: BaseModel, at: str = "") -> dict[str, dict[str, str]]:
    """Dotted key → file (or folder) and hash of everything on disk that a setting names: models, word vectors, code.

    Args:
        settings: of a recipe, another command or a part.
        at: prefix of each key.
    """
    values = settings.model_dump(mode="json")
    files: dict[str, dict[str, str]] = {}
    for setting in settings_of(type(settings), values):
        general = re.sub(r"\b\d+\b", "N", setting.key).removeprefix("tasks.N.")
        if "kind" not in values and general in NO_FILES | KNOWN_OTHERWISE:  # a part's own settings may have these names
            continue
        choices = setting.type.removeprefix("list of ").split(" | ")
        for named in _texts(_value(values, setting.key)):
            path = None if named in choices else _path(values, setting.key, named)
            if path is not None:
                key = f"{at}{setting.key}" + (f", {named}" if f"{at}{setting.key}" in files else "")
                files[key] = {"file": named, "sha256": hash_of(path)}
    return files


def teacher_input(recipe: Recipe, teacher: Teacher) -> dict[str, dict[str, Any]]:
    """The teacher as an input of a run, by its fingerprint."""
    return {"teacher": {"file": ", ".join(recipe.teacher.models) or "none", "sha256": hashed(teacher.fingerprint)}}


def code_of(kind: str) -> str:
    """Hash of the file that a kind of the user's names, as `./mine.py:MyTask`; empty for one of ours."""
    return hash_of(Path(kind.rpartition(":")[0])) if ":" in kind else ""


def contents(described: Sequence[BaseModel]) -> dict[str, str]:
    """Path → hash of everything on disk that these settings name."""
    return {file["file"]: file["sha256"] for settings in described for file in files_of(settings).values()}


def hash_of(path: Path) -> str:
    """SHA-256 of a file or folder, in hex; of a model folder only weights, configuration and vocabulary count."""
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
    """The path that a setting names, as a path, `./mine.py:MyLoss`, `spacy:tagger` or a model; None where it names none."""
    place, _, name = key.rpartition(".")
    if key == "teacher.pretrained" or (name == "model" and _value(values, place).get("kind") == "pretrained"):
        try:
            return find_folder(named)  # perhaps a model of the hub
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
