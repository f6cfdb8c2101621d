"""A model and its own tokenizer: one view of a row. Teachers and students are the same type."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Longer texts are cut here unless `data.max_length` says otherwise; batches are padded to their own longest row only.
DEFAULT_MAX_LENGTH = 512
# Of a config, what changes no output: where it comes from, how it was written down, what a call may ask for; labels are kept by name.
_NEUTRAL = {
    "_name_or_path", "architectures", "dtype", "finetuning_task", "id2label", "label2id", "output_attentions",
    "output_hidden_states", "problem_type", "return_dict", "task_specific_params", "torch_dtype", "transformers_version",
    "use_cache",
}  # fmt: skip
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class TextModel:
    """A sequence classifier (or regressor) of `transformers` with the tokenizer that feeds it.

    Args:
        model: anything that `AutoModelForSequenceClassification` loads.
        tokenizer: a fast tokenizer; teacher and student may each have their own.
        max_length: tokens kept of a row.
    """

    model: PreTrainedModel
    tokenizer: Any
    max_length: int

    @classmethod
    def load(cls, folder: str | Path, *, max_length: int | None = None, label_names: Sequence[str] | None = None,
             outputs: int | None = None, masked_lm: bool = False, new_head: bool = False) -> TextModel:  # fmt: skip
        """Load a folder, float32, in evaluation mode.

        Args:
            folder: a `transformers` folder with safetensors weights, or the name of a model on the hub.
            max_length: tokens kept of a row; None takes the model's own, at most 512.
            label_names: names for a new head (then the head may be missing in the folder); None wants a fine-tuned model.
            outputs: width of a new head; 1 for regression.
            masked_lm: with a masked-language head, and no labels, in place of a classifier's.
            new_head: a head may be missing in the folder; `outputs` says so too.

        Raises:
            ModelError: no such folder, pickle weights, no tokenizer, a head never trained, no mask token for `masked_lm`, or too long
                a `max_length`.
        """
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

        import understudy.students.register  # noqa: F401  (own student kinds become known to the Auto classes)

        folder = _local(folder)
        new_head = new_head or outputs is not None
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if outputs is not None:
            config.num_labels = outputs
            config.problem_type = "regression" if label_names is None else "single_label_classification"
            if label_names is not None:
                set_label_names(config, label_names)
        try:
            model, report = (AutoModelForMaskedLM if masked_lm else AutoModelForSequenceClassification).from_pretrained(
                folder, config=config, dtype="float32", use_safetensors=True, local_files_only=True,
                output_loading_info=True, ignore_mismatched_sizes=new_head,
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            kind = "masked language model" if masked_lm else "sequence classifier"
            raise ModelError(f"{folder}: cannot be loaded as a {kind}: {_first_line(error)}") from error
        random = [name for name in report["missing_keys"] if "position_ids" not in name and "pooler" not in name]
        if random and not new_head:
            what, command = ("no masked language model", "pretrain") if masked_lm else ("not fine-tuned", "finetune")
            raise ModelError(
                f"{folder}: {what}: its head would start at random ({', '.join(sorted(random)[:3])} missing). "
                f"Run `understudy {command}` on it first."
            )
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise ModelError(f"{folder}: no tokenizer that loads: {_first_line(error)}") from error
        # Without its file, some families' tokenizers load all the same, and know no word but the special ones.
        if not tokenizer.is_fast or len(tokenizer) <= len(tokenizer.all_special_ids):
            raise ModelError(f"{folder}: no tokenizer.json (or vocabulary) found; save the tokenizer into this folder")
        if masked_lm and tokenizer.mask_token_id is None:
            raise ModelError(f"{folder}: its tokenizer has no mask token, which a masked language model needs")
        # Some folders (the packaged MiniLM among them) carry padding and truncation of their own; batches decide here.
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
        return cls(model.eval(), tokenizer, resolve_max_length(config, tokenizer, max_length, where=str(folder)))

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the logits; None for a regressor."""
        config: Any = self.model.config
        if config.num_labels == 1 or config.problem_type == "regression":
            return None
        return tuple(config.id2label[index] for index in range(self.outputs))

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return int(self.model.config.num_labels or 0)

    @property
    def parameters(self) -> int:
        """Number of parameters, shared ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the outputs: hashes of weights, config and tokenizer, the labels, the length, how rows are cut and padded."""
        tokenizer = copy.deepcopy(self.tokenizer.backend_tokenizer)
        tokenizer.no_truncation()  # what a call left set says nothing of the tokenizer
        tokenizer.no_padding()
        weights = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            weights.update(name.encode())
            weights.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
        config = {key: value for key, value in self.model.config.to_dict().items() if key not in _NEUTRAL}
        return {
            "weights": weights.hexdigest(),
            "config": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
            "tokenizer": hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
            "inputs": [name for name in self.tokenizer.model_input_names if name != "attention_mask"],
            "truncation_side": self.tokenizer.truncation_side,
            "pad_token_id": self.tokenizer.pad_token_id,
            "labels": list(self.label_names or ()),
            "max_length": self.max_length,
        }

    def save(self, folder: str | Path) -> None:
        """Write a `transformers` folder with a model card, whole: beside its place first, then renamed. An older one is replaced."""
        from understudy.export.origin import Origin
        from understudy.model_card import model_card

        folder = Path(folder)
        new = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        self.model.save_pretrained(new)
        self.tokenizer.model_max_length = self.max_length
        self.tokenizer.save_pretrained(new)
        (new / "README.md").write_text(model_card(self, Origin(folder.name)), "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)

    def save_into(self, folder: str | Path) -> None:
        """Save into a folder that holds other things too: complete beside it, then moved in file by file."""
        new = Path(folder) / ".model.new"
        self.save(new)
        for path in sorted(new.iterdir()):
            path.replace(Path(folder) / path.name)
        new.rmdir()


def set_label_names(config: Any, label_names: Sequence[str]) -> None:
    """Write the label map into a model's config, where it travels with the model."""
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: index for index, name in enumerate(label_names)}


def resolve_max_length(config: Any, tokenizer: Any, asked: int | None, *, where: str) -> int:
    """Tokens that a model can read at most; what the user asked for must not be beyond it.

    Raises:
        ModelError: asked for more than the model has positions.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= (config.pad_token_id or 0) + 1  # these families number positions from pad_token_id + 1
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit and limit < 1_000_000]
    if asked is not None:
        if positions and asked > positions:
            raise ModelError(
                f"data.max_length is {asked}, but {where} has {positions} positions; ask for at most {positions}"
            )
        return asked
    return min([*limits, DEFAULT_MAX_LENGTH])


def _local(name: str | Path) -> Path:
    """The folder of a model: as given, or fetched from the hub (weights as safetensors, no code)."""
    folder = Path(name)
    if not folder.is_dir():
        if not _HUB_NAME.fullmatch(str(name)):
            raise ModelError(f"{name}: no such model folder")
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
        except Exception as error:
            raise ModelError(
                f"{name}: no such folder here, and the hub did not give a model of that name: {_first_line(error)}"
            ) from error
    _check_folder(folder)
    return folder


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json in it; a `transformers` folder is needed")
    try:
        json.loads((folder / "config.json").read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'}: not JSON: {error}") from error
    if not any(folder.glob("*.safetensors")):
        pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)]
        if pickles:
            raise ModelError(
                f"{folder}: weights are pickled ({pickles[0]}), which can run any code on loading; only safetensors are "
                "read. Convert them where you trust the file: model.save_pretrained(folder)."
            )
        raise ModelError(f"{folder}: no model.safetensors in it")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
