"""A model and its own tokenizer: one view of a row. Teachers and students are the same type."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from understudy.errors import ModelError
from understudy.files import whole
from understudy.models.agreement import agree, resolve_max_length
from understudy.models.folder import find_folder
from understudy.models.loading import load_network, load_tokenizer, read_config
from understudy.models.view import View, plain

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel

    from understudy.tasks import Fitted, Task

_VIEWS: WeakValueDictionary[tuple[Any, ...], View] = WeakValueDictionary()
# Keys of a config that change no output: its origin, its format, defaults of a call; labels are kept by name.
_NEUTRAL = {
    "_name_or_path",
    "architectures",
    "dtype",
    "finetuning_task",
    "id2label",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "task_specific_params",
    "torch_dtype",
    "transformers_version",
    "understudy_fitted",
    "understudy_max_length",
    "use_cache",
}


@dataclass(frozen=True)
class TextModel:
    """A sequence classifier (or regressor) of `transformers` with its tokenizer.

    Args:
        model: anything that `AutoModelForSequenceClassification` loads.
        tokenizer: a fast tokenizer; teacher and student may each have their own.
        max_length: tokens kept of a row.
    """

    model: PreTrainedModel
    tokenizer: Any
    max_length: int

    def __post_init__(self) -> None:
        # A special token that a text spells out is text. It is written into the folder, too, so that `transformers` reads alike.
        self.tokenizer.split_special_tokens = self.tokenizer.init_kwargs["split_special_tokens"] = True
        self.tokenizer.backend_tokenizer.encode_special_tokens = True

    @cached_property
    def view(self) -> View:
        """How it reads a row. Models that read alike share a view, so that rows are tokenized once for all of them."""
        tokenizer = self.tokenizer
        unknown, inputs = tokenizer.unk_token_id, tuple(tokenizer.model_input_names)
        special = () if unknown is None else tuple(sorted({*tokenizer.all_special_ids} - {unknown}))
        settings = (
            self.max_length,
            tokenizer.truncation_side,
            tokenizer.pad_token_id or 0,
            inputs,
            special,
            unknown,
            tokenizer.mask_token or tokenizer.unk_token or "",
        )
        view = View(tokenizer.backend_tokenizer, *settings)
        return _VIEWS.setdefault((self._tokenizer_hash, *settings), view)

    @cached_property
    def _tokenizer_hash(self) -> str:
        return hashlib.sha256(plain(self.tokenizer.backend_tokenizer).encode()).hexdigest()

    def around(self, model: PreTrainedModel) -> TextModel:
        """Another network with this tokenizer and view; tokenized rows are kept as long as either model is."""
        sibling = TextModel(model, self.tokenizer, self.max_length)
        sibling.__dict__["view"] = self.view
        return sibling

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        max_length: int | None = None,
        label_names: Sequence[str] | None = None,
        problem_type: str | None = None,
        masked_lm: bool = False,
        new_head: bool = False,
    ) -> TextModel:
        """Load a folder, float32, in evaluation mode.

        Args:
            folder: a `transformers` folder with safetensors weights, or the name of a model on the hub.
            max_length: tokens kept of a row; None takes the model's own, at most 512.
            label_names: names for a new head; None for a number.
            problem_type: what a new head is for (then the head may be missing in the folder); None wants a fine-tuned model.
            masked_lm: with a masked-language head, and no labels, in place of a classifier's.
            new_head: a head may be missing in the folder; `problem_type` implies it.

        Raises:
            ModelError: no such folder, pickle weights, no tokenizer, a head never trained, a model and a tokenizer that do not fit each
                other, no mask token for `masked_lm`, or too long a `max_length`.
        """
        from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

        folder = find_folder(folder)
        new_head = new_head or problem_type is not None
        config = read_config(folder, head=not (new_head or masked_lm))
        if problem_type is not None:
            set_head(config, problem_type, label_names)
        auto, kind = (
            (AutoModelForMaskedLM, "masked language model") if masked_lm else (AutoModelForSequenceClassification, "sequence classifier")
        )
        model = load_network(folder, config, auto, kind, new_head=new_head)
        tokenizer = load_tokenizer(folder, config)
        if masked_lm and tokenizer.mask_token_id is None:
            raise ModelError(f"{folder}: its tokenizer has no mask token, which a masked language model needs")
        agree(model, tokenizer, where=str(folder))
        return cls(model, tokenizer, resolve_max_length(model, tokenizer, max_length, where=str(folder)))

    @property
    def problem_type(self) -> str:
        """What its head is for, as `transformers` calls it; where the config has none, it follows from the width."""
        config: Any = self.model.config
        return config.problem_type or ("regression" if self.outputs == 1 else "single_label_classification")

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the outputs; None for a regressor."""
        if self.problem_type == "regression":
            return None
        config: Any = self.model.config
        return tuple(config.id2label[index] for index in range(self.outputs))

    @property
    def fitted(self) -> Fitted:
        """What its task is decided by besides its outputs, as its config keeps it; empty where nothing was fitted."""
        return getattr(self.model.config, "understudy_fitted", None) or {}

    def fit(self, task: Task, outputs: np.ndarray, targets: np.ndarray) -> None:
        """Keep in its config what the task fits on validation rows: outputs (rows, …), targets (rows, …)."""
        if fitted := dict(task.fit(outputs, targets)):
            self.model.config.understudy_fitted = fitted

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
        """What decides the outputs: hashes of weights, config and tokenizer, the labels, how rows are truncated and padded."""
        weights = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            weights.update(name.encode())
            weights.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
        config = {key: value for key, value in self.model.config.to_dict().items() if key not in _NEUTRAL}
        return {
            "weights": weights.hexdigest(),
            "config": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
            "tokenizer": self._tokenizer_hash,
            "inputs": [name for name in self.tokenizer.model_input_names if name != "attention_mask"],
            "truncation_side": self.tokenizer.truncation_side,
            "pad_token_id": self.tokenizer.pad_token_id,
            "labels": list(self.label_names or ()),
            "max_length": self.max_length,
        }

    def save(self, folder: str | Path) -> None:
        """Write a `transformers` folder, whole; an older one is replaced."""
        folder = Path(folder)
        self.model.config.understudy_max_length = self.max_length  # also beyond what is the default for other folders
        self.tokenizer.model_max_length = self.max_length
        # Rows that were tokenized before have left truncation set; a folder holds none, as when it was loaded.
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()
        with whole(folder, writer=str(os.getpid())) as unfinished:  # concurrent runs may keep one control
            self.model.save_pretrained(unfinished)
            self.tokenizer.save_pretrained(unfinished)
            for weights in unfinished.glob("*.safetensors"):  # safetensors lets only the owner read them
                shutil.copymode(unfinished / "config.json", weights)

    def save_into(self, folder: str | Path) -> None:
        """Save into a folder that holds other things too: complete beside it, then moved in file by file."""
        new = Path(folder) / ".model.new"
        self.save(new)
        for path in sorted(new.iterdir()):
            path.replace(Path(folder) / path.name)
        new.rmdir()


def set_head(config: Any, problem_type: str, label_names: Sequence[str] | None) -> None:
    """Write the width of a head, what it is for, and the label map into a model's config, where they travel with the model."""
    config.num_labels, config.problem_type = len(label_names or "1"), problem_type
    config.__dict__.pop("understudy_fitted", None)  # of the head before
    if label_names:
        set_label_names(config, label_names)


def set_label_names(config: Any, label_names: Sequence[str]) -> None:
    """Write the label map into a model's config."""
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: index for index, name in enumerate(label_names)}
