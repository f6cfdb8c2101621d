"""Loads a folder of `transformers`: no code of the folder runs, nothing is prompted for, and what does not fit is named."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import ModelError
from understudy.models.folder import first_line, json_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
_LOG = logging.getLogger("understudy")


def read_config(folder: Path, *, head: bool) -> Any:
    """The config of a model, its label map checked.

    Args:
        head: the head that the folder holds will answer; else its labels and its problem do not matter.

    Raises:
        ModelError: an unknown family, code in the folder, quantized weights, or a label map that is not one text for each class.
    """
    from transformers import CONFIG_MAPPING

    import understudy.students.register  # noqa: F401  (own student kinds become known to the Auto classes)

    described = json_of(folder / "config.json")
    where, family = folder / "config.json", described.get("model_type")
    own_code = described.pop("auto_map", None)
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        if own_code:
            raise ModelError(
                f"{folder}: the model is code in its folder (auto_map, model_type {family!r}), which is never run; take a model of a "
                "family that `transformers` has itself"
            )
        if family is None:
            raise ModelError(f'{where}: model_type is missing, which names the family, as in "model_type": "bert"')
        raise ModelError(f"{where}: model_type {family!r} {_unknown(folder, family, list(CONFIG_MAPPING))}")
    for name in [name for name in described if name.endswith("_implementation") or name == "use_kernels"]:
        described.pop(name)  # how it is computed, not what; the name may be that of code on the hub
    quantized = described.get("quantization_config")
    if quantized:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise ModelError(
            f"{folder}: its weights are quantized ({method or 'quantization_config'}), which cannot be trained, distilled or exported "
            "here; give the model as it was before, or dequantize it and save that"
        )
    if head:
        described["id2label"] = _labels(described, where)
    else:
        for name in ("id2label", "num_labels", "problem_type"):
            described.pop(name, None)
    label2id = described.pop("label2id", None)
    if head:
        _check_inverse(label2id, described["id2label"], where)
    try:
        config = CONFIG_MAPPING[family].from_dict(described)
    except Exception as error:
        raise ModelError(f"{where}: {first_line(error)}") from error
    if head:
        inverse: Any = {name: number for number, name in (config.id2label or {}).items()}
        config.label2id = inverse
    return config


def _check_inverse(label2id: Any, names: dict[int, str], where: Path) -> None:
    """Refuse a label2id that gives a class another number than id2label: which of them the head was trained with is unknown.

    One that names other classes only is left over from another model, as `transformers` writes it where only id2label is set.
    """
    if not isinstance(label2id, dict):
        return
    numbers = {name: number for number, name in names.items()}
    for name, number in label2id.items():
        if name in numbers and str(number) != str(numbers[name]):
            raise ModelError(
                f"{where}: label2id gives '{name}' the number {number}, but id2label {numbers[name]}; id2label counts where they agree: "
                "correct one of them, or remove label2id"
            )


def _unknown(folder: Path, family: Any, known: list[str]) -> str:
    """What follows the name of a family that is not known."""
    import transformers

    near = get_close_matches(str(family).lower(), known, n=1, cutoff=0.75)
    code = next((path.name for path in sorted(folder.glob("*.py"))), None)
    if code:
        more = f"The folder holds code ({code}), which is never run; take a model of a family that `transformers` has itself."
    elif near:
        more = f"Did you mean '{near[0]}'?"
    else:
        more = "A newer family needs a newer `transformers`; else take a model of a family that it has, such as bert."
    return f"is unknown to the installed `transformers` {transformers.__version__}. {more}"


@cache
def _note_code(folder: Path, family: str) -> None:
    _LOG.warning(
        f"Note: {folder}: config.json names code of its own (auto_map), which is never run; the model is read as the {family!r} of "
        "`transformers`."
    )


def _labels(described: dict[str, Any], where: Path) -> dict[int, str]:
    """The label map, id → name; where the folder has none, the names are LABEL_0, LABEL_1, … as `transformers` gives them.

    Raises:
        ModelError: a map that is not one name for each output.
    """
    declared: Any = described.get("id2label")
    problem = described.get("problem_type")
    count = described.pop("num_labels", None)
    if problem not in (None, *_PROBLEMS):
        raise ModelError(f"{where}: problem_type is {problem!r}; allowed are {', '.join(_PROBLEMS)}")
    if declared is None:
        count = 2 if count is None else count
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ModelError(f"{where}: num_labels is {count!r}; a number of classes is needed")
        declared = {str(number): f"LABEL_{number}" for number in range(count)}
    how = '; correct id2label: {"0": "NAME", …}, a name for each output of the head'
    if isinstance(declared, list):
        declared = {str(number): name for number, name in enumerate(declared)}
    if not isinstance(declared, dict) or not declared:
        raise ModelError(f"{where}: id2label is {declared!r:.60}{how}")
    try:
        numbered = {int(number): name for number, name in declared.items()}
    except (TypeError, ValueError):
        raise ModelError(f"{where}: id2label has {', '.join(map(repr, declared))[:80]} where the numbers 0, 1, … are needed{how}") from None
    if sorted(numbered) != list(range(len(declared))) or (isinstance(count, int) and count != len(declared)):
        wanted = f"{count} classes" if isinstance(count, int) and count != len(declared) else "the numbers 0, 1, … without a gap"
        raise ModelError(f"{where}: id2label names {', '.join(map(str, sorted(numbered)))[:80]}, but {wanted} are needed{how}")
    bad = [number for number, name in numbered.items() if name is None or isinstance(name, list | dict) or not str(name).strip()]
    if bad:
        raise ModelError(f"{where}: id2label of {bad[0]} is {numbered[bad[0]]!r}, which is not a name{how}")
    names = {number: str(name) for number, name in sorted(numbered.items())}
    twice = next((name for name in names.values() if list(names.values()).count(name) > 1), None)
    if twice is not None:
        raise ModelError(f"{where}: id2label has the name '{twice}' twice{how}")
    if problem == "regression" and len(names) > 1:
        raise ModelError(f"{where}: problem_type is regression with {len(names)} outputs; only a single number is known here")
    if problem == "single_label_classification" and len(names) == 1:
        raise ModelError(f"{where}: id2label has one name, but problem_type is single_label_classification{how}")
    return names


@contextmanager
def _without_load_report() -> Iterator[None]:
    """Silence the table that `transformers` prints of weights that do not fit; here they are reported, or refused, in one line."""
    log = logging.getLogger("transformers.modeling_utils")

    def keep(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in str(record.msg)

    log.addFilter(keep)
    try:
        yield
    finally:
        log.removeFilter(keep)


def load_network(folder: Path, config: Any, auto: Any, kind: str, *, new_head: bool) -> PreTrainedModel:
    """The network with its weights, float32, in evaluation mode.

    Args:
        auto: the class of `transformers` that loads it.
        kind: what the folder should hold, for messages.
        new_head: its head may be missing, or of another width; then it is drawn at random.

    Raises:
        ModelError: weights that are missing, of other shapes, or no numbers.
    """
    import torch

    if type(config) not in auto._model_mapping:
        raise ModelError(
            f"{folder}: `transformers` has no {kind} for model_type {config.model_type!r}; take an encoder of texts, such as bert"
        )
    try:
        with _without_load_report():
            model, report = auto.from_pretrained(
                folder,
                config=config,
                dtype="float32",
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError(f"{folder}: cannot be loaded as a {kind}: {first_line(error)}") from error
    base = f"{model.base_model_prefix}." if model.base_model is not model else ""
    missing = sorted(name for name in report["missing_keys"] if "position_ids" not in name)
    if missing and not new_head:
        what, command = ("no masked language model", "pretrain") if "masked" in kind else ("not fine-tuned", "finetune")
        raise ModelError(
            f"{folder}: {what}: its head would be initialized at random ({', '.join(missing[:3])} missing). "
            f"Run `understudy {command}` on it first."
        )
    drawn = [name for name in missing if base and name.startswith(base) and "pooler" not in name]
    if drawn:
        raise ModelError(
            f"{folder}: {len(drawn)} weights of its {config.model_type} encoder would start at random "
            f"({', '.join(drawn[:2])} missing); is config.json of another model than the weights?"
        )
    strange = [
        name for name in sorted(report["unexpected_keys"]) if base and name.startswith(base) and not re.search("pooler|position_ids", name)
    ]
    own_code = json_of(folder / "config.json").get("auto_map")
    if own_code and strange:
        raise ModelError(
            f"{folder}: the model is code in its folder (auto_map), which is never run: the {config.model_type!r} of `transformers` "
            f"has no place for {len(strange)} of its weights ({', '.join(strange[:2])})"
        )
    for name, saved, configured in sorted(map(tuple, report["mismatched_keys"])):
        if new_head and not (base and name.startswith(base)):
            continue
        if name.startswith(base or "\0") or saved[1:] != configured[1:]:
            raise ModelError(f"{folder}: {name} is {_shape(saved)} in the weights, but config.json makes it {_shape(configured)}")
        raise ModelError(
            f"{folder}: its head has {saved[0]} outputs ({name}), but config.json names {configured[0]} labels "
            f"({', '.join(map(str, config.id2label.values()))[:60]}); correct id2label, a name for each output"
        )
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ModelError(f"{folder}: its weights are not finite numbers ({name}); it is damaged or diverged")
    if own_code:
        _note_code(folder, config.model_type)
    return model.eval()


def load_tokenizer(folder: Path, config: Any) -> Any:
    """The tokenizer of a model with this checked config, which truncates and pads nothing by itself.

    Raises:
        ModelError: none, one without a vocabulary, or one that is code in the folder.
    """
    from transformers import AutoTokenizer

    settings = json_of(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    if (folder / "tokenizer.json").is_file():
        json_of(folder / "tokenizer.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, local_files_only=True, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:
        reason = "it is code in the folder (auto_map), which is never run" if "auto_map" in settings else first_line(error)
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {reason}") from error
    # Without its file, some families' tokenizers load all the same, and know no word but the special ones.
    if not tokenizer.is_fast or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"{folder}: no tokenizer.json (or vocabulary) found; save the tokenizer into this folder")
    # Some folders (the packaged MiniLM among them) carry padding and truncation of their own; batches decide here.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def _shape(sizes: Iterable[int]) -> str:
    return " × ".join(map(str, sizes))
