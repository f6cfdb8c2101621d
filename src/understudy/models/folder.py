"""A folder of `transformers`, located and checked: which files are read, and what is refused."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

from understudy.errors import ModelError, near_folder
from understudy.files import is_export, read_json

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_POINTER = b"version https://git-lfs"
READ = ("*.json", "*.safetensors", "*.txt", "*.model")  # nothing else of a folder is opened
_OTHER_WEIGHTS = {
    "*.gguf": "GGUF weights, which are for llama.cpp; take the folder that they were made from",
    "*.onnx": "ONNX weights only; take the folder that they were exported from (or `understudy export` it yourself)",
    "*.h5": "TensorFlow weights only; convert them where you have TensorFlow",
    "*.msgpack": "Flax weights only; convert them where you have Flax",
}


def find_folder(name: str | Path) -> Path:
    """The folder of a model: this folder, or one fetched from the hub (weights as safetensors, no code).

    Raises:
        ModelError: no such folder, or one that cannot hold a model.
    """
    folder, text = Path(name), str(name)
    if folder.is_file():
        raise ModelError(f"{name}: is a file; the folder of a model is needed here")
    if not folder.is_dir():
        local = text.startswith((".", "/", "~")) or (len(folder.parts) > 1 and Path(folder.parts[0]).exists())
        if local or not _HUB_NAME.fullmatch(text):
            raise ModelError(f"{name}: no such model folder{near_folder(folder)}")
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(text, allow_patterns=list(READ)))
        except Exception as error:
            raise ModelError(
                f"{name}: no such folder{near_folder(folder)}, and no model of that name could be loaded from the hub: {first_line(error)}"
            ) from error
    check_folder(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but a model whose weights are safetensors.

    Raises:
        ModelError: with what it holds.
    """
    if (folder / "adapter_config.json").is_file():
        base = json_of(folder / "adapter_config.json").get("base_model_name_or_path")
        raise ModelError(
            f"{folder}: holds an adapter (PEFT) of {base or 'another model'}, not a whole model; merge them with "
            "model.merge_and_unload(), save that model and its tokenizer, and give that folder"
        )
    for path in (path for pattern in READ for path in sorted(folder.glob(pattern))):
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise ModelError(f"{path}: a pointer of git-lfs in place of the file; run `git lfs pull` in {folder}")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json in it; {_instead(folder)}")
    json_of(folder / "config.json")
    _check_weights(folder)


def _instead(folder: Path) -> str:
    """What a folder without a config holds."""
    if is_export(folder):
        return "it is an export of understudy, for predict, serve, benchmark and evaluate; here a `transformers` model folder is needed"
    inner = [path.parent for path in sorted(folder.glob("*/config.json"))]
    if (folder / "modules.json").is_file() and inner:
        return f"it is a sentence-transformers folder; its encoder is {inner[0]}"
    if (folder / "student" / "config.json").is_file():
        return f"it is a run folder; its model is {folder / 'student'}"
    for pattern, what in _OTHER_WEIGHTS.items():
        if path := next(iter(sorted(folder.rglob(pattern))), None):
            return f"{path.name} in it: {what}"
    if inner:
        return f"a `transformers` model folder is needed: is it {inner[0]}?"
    return "a `transformers` model folder is needed"


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    whole = folder / "model.safetensors"
    if whole.is_file():
        _check_safetensors(whole)
        return
    if index.is_file():
        shards = json_of(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError(f"{index}: damaged (no weight_map); copy it again")
        for name in sorted(set(map(str, shards.values()))):
            if not (folder / name).is_file():
                raise ModelError(f"{folder}: {name} is missing, which {index.name} names; copy the whole folder")
            _check_safetensors(folder / name)
        return
    pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in sorted(folder.glob(pattern))]
    if any("training_args" not in name for name in pickles):
        raise ModelError(
            f"{folder}: weights are pickled ({pickles[0]}), which can run any code on loading; only safetensors are "
            "read. Convert them where you trust the file: model.save_pretrained(folder)."
        )
    for pattern, what in _OTHER_WEIGHTS.items():
        if path := next(iter(sorted(folder.rglob(pattern))), None):
            raise ModelError(f"{folder}: no model.safetensors in it, but {path.name}: {what}")
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    raise ModelError(f"{folder}: no model.safetensors in it" + (f", only {', '.join(files[:3])}" if files else ""))


def _check_safetensors(path: Path) -> None:
    """Check a file's header and that the file is complete; messages of safetensors itself are less specific.

    Raises:
        ModelError: damaged, truncated, or without weights.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path}: cannot be loaded: not a safetensors file, or damaged ({first_line(error)}); copy it again") from error
    if not ends:
        raise ModelError(f"{path}: holds no weights")
    if 8 + length + max(ends) != size:
        raise ModelError(f"{path}: cannot be loaded: {size:,} bytes, {8 + length + max(ends):,} are expected; copy it again")


def first_line(error: BaseException) -> str:
    """The message of another library's exception, in one line; its class where it has none.

    Those of configs put the cause after a colon, on a line of its own.
    """
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if isinstance(error, KeyError):  # only the key
        lines[0] = f"unknown value {lines[0]}"
    return f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]


def json_of(path: Path) -> dict[str, Any]:
    """The object in a file of a model's folder.

    Raises:
        ModelError: it is none.
    """
    try:
        content = read_json(path)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f'{path}: holds a {type(content).__name__}; an object is needed: {{"…": …}}')
    return content
