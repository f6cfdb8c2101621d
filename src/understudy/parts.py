"""Kind → class. The folders are the registry.

A part is a public class in a file of one of the `FOLDERS`, named like its kind: `soft_targets.py` holds `SoftTargets`. A new file
in the folder is all that a new part needs. `./mine.py:MyLoss` names a class in a file of the user's. The settings of a part are
the keyword arguments of its `__init__`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

FOLDERS = ("augmenters", "objectives", "students", "tasks")
_HERE = Path(__file__).parent


def kinds(folder: str) -> dict[str, str]:
    """Kinds in a folder, each with the first line of its docstring. Imports none of them.

    >>> sorted(kinds("tasks"))
    ['classification', 'multilabel', 'similarity']
    """
    summaries = {}
    for path in sorted((_HERE / folder).glob("*.py")):
        classes = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
        for node in classes:
            if node.name.lower() == path.stem.replace("_", "") and node.bases:
                summaries[path.stem] = (ast.get_docstring(node) or "").partition("\n")[0]
    return summaries


@cache
def part(folder: str, kind: str) -> Any:
    """The class of a kind, a subclass of its folder's base class.

    Raises:
        RecipeError: the kind is unknown, or the user's file cannot be used.
    """
    if ":" in kind:
        return _part_of_user(folder, kind)
    if kind not in kinds(folder):
        raise RecipeError(f"{folder[:-1]} '{kind}' is unknown; {did_you_mean(kind, kinds(folder))}")
    module = importlib.import_module(f"understudy.{folder}.{kind}")
    return next(value for name, value in vars(module).items() if name.lower() == kind.replace("_", "") and inspect.isclass(value))


def _part_of_user(folder: str, kind: str) -> type:
    """The class that `./mine.py:MyClass` names."""
    file, _, name = kind.rpartition(":")
    path = Path(file)
    if not path.is_file() or path.suffix != ".py":
        raise RecipeError(f"'{kind}': no Python file {path}; write it as ./mine.py:MyClass")
    module_name = f"understudy_own_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):x}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise RecipeError(f"'{kind}': {path} cannot be imported: {type(error).__name__}: {error}") from error
    cls = getattr(module, name, None)
    if not inspect.isclass(cls):
        raise RecipeError(f"'{kind}': {path} has no class {name}")
    base = folder[:-1].capitalize()
    if not issubclass(cls, getattr(importlib.import_module(f"understudy.{folder}"), base)):
        raise RecipeError(f"'{kind}': {name} is not a subclass of understudy.{folder}.{base}")
    return cls


@cache
def settings_of(cls: type) -> type[BaseModel]:
    """A pydantic model of the keyword arguments of a part, which validates the settings of every part in the same way.

    Types come from the signature. Unknown keys are refused.
    """
    import typing

    from pydantic import ConfigDict, create_model

    hints = typing.get_type_hints(getattr(cls, "__init__"))  # noqa: B009 (mypy: unsound on an instance; this is a class)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }
    return create_model(f"{cls.__name__}Settings", __config__=ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False), **fields)
