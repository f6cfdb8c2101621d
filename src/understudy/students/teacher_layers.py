"""Some of the teacher's own layers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from understudy.errors import ModelError
from understudy.models import encoder
from understudy.students.assembly import assemble, copy_tokenizer, seeded, set_head
from understudy.students.base import Blueprint, Student
from understudy.students.vocabulary import keep_rows, reduce_vocabulary

if TYPE_CHECKING:
    from understudy.models.text_model import TextModel

DISTILBERT = [0, 2, 4, 7, 9, 11]  # of twelve


class TeacherLayers(Student):
    """The teacher with fewer layers: embeddings, chosen layers and head are copied.

    Pick it first: nothing keeps more of the teacher, and it trains in few epochs. It stays as wide as the teacher, so
    half the layers are at most twice as fast; for more speed take `narrow`, `bilstm` or `static_embeddings`.

    Args:
        layers: numbers of the layers to keep, from 0; or `alternate` (spread evenly from the first), `first`, `last`;
            `distilbert`, its 0, 2, 4, 7, 9, 11 of twelve; `all` keeps the teacher's shape, for generations of students.
        count: how many, where `layers` is a word; None keeps half.
        token_types: False keeps only type 0, which is then added to every token: outputs of single texts stay the same,
            the two sides of a pair are distinguished by the separator alone.
        pooler: False draws the pooler and the head anew.
        vocabulary: `data` drops the embedding rows of tokens that the data never uses.

    Raises:
        ValueError: a setting out of its range.

    Source: Sanh et al. 2019, arXiv:1910.01108 (every other layer, no token types, no pooler); Sun et al. 2019,
    arXiv:1908.09355 (first layers).
    """

    training: ClassVar[dict[str, Any]] = {"epochs": 3, "min_updates": 300, "batch_size": 32, "learning_rate": 1e-4}

    def __init__(
        self,
        *,
        layers: list[int] | Literal["alternate", "first", "last", "distilbert", "all"] = "alternate",
        count: int | None = None,
        token_types: bool = True,
        pooler: bool = True,
        vocabulary: Literal["teacher", "data"] = "teacher",
    ) -> None:
        if isinstance(layers, list) and (not layers or len(set(layers)) != len(layers) or count is not None):
            raise ValueError(f"layers is {layers}: list each layer once, at least one, and leave count out")
        if layers in ("all", "distilbert") and count is not None:
            raise ValueError(f"layers is '{layers}': leave count out")
        if count is not None and count < 1:
            raise ValueError(f"count is {count}: keep at least 1 layer")
        self.layers, self.count = layers, count
        self.token_types, self.pooler, self.vocabulary = token_types, pooler, vocabulary

    @property
    def copied(self) -> str:
        return "layers and word embeddings"

    def chosen(self, available: int) -> list[int]:
        """The numbers of the layers that stay, of so many.

        >>> TeacherLayers().chosen(6), TeacherLayers(layers="last", count=2).chosen(6)
        ([0, 2, 4], [4, 5])

        Raises:
            ModelError: the teacher has no such layer.
        """
        whole = available if self.layers == "all" else (available + 1) // 2
        count = whole if self.count is None else self.count
        if count > available:
            raise ModelError(f"student.count is {count}, but the teacher has {available} layers")
        if self.layers == "distilbert":
            if available != 12:
                raise ModelError(
                    f"student.layers is 'distilbert', a choice among 12 layers, but the teacher has {available}; "
                    "take 'alternate', or list layers"
                )
            return DISTILBERT.copy()
        if isinstance(self.layers, list):
            wrong = [layer for layer in self.layers if not 0 <= layer < available]
            if wrong:
                raise ModelError(f"student.layers has {wrong[0]}, but the teacher's layers are 0 to {available - 1}")
            return list(self.layers)
        if self.layers == "alternate":
            return [index * available // count for index in range(count)]
        return list(range(available - count, available) if self.layers == "last" else range(count))

    def build(self, blueprint: Blueprint) -> TextModel:
        from transformers import AutoModelForSequenceClassification

        teacher = blueprint.need_teacher("teacher_layers")
        chosen = self.chosen(len(encoder.layers(teacher.model)))
        config = copy.deepcopy(teacher.model.config)
        config.num_hidden_layers = len(chosen)
        if getattr(config, "layer_types", None):
            config.layer_types = [config.layer_types[layer] for layer in chosen]
        if config.model_type == "modernbert" and chosen[0] != 0:
            raise ModelError(
                f"student.layers starts with {chosen[0]}, but ModernBERT's first layer alone has no norm before its "
                "attention, so the student must start with layer 0 too"
            )
        set_head(config, blueprint)
        weights = encoder.weights_of_layers(teacher.model, chosen)
        tokenizer = copy_tokenizer(teacher.tokenizer)
        if not self.token_types:
            config.type_vocab_size = 1
            for name in weights:
                if name.endswith("token_type_embeddings.weight"):
                    weights[name] = weights[name][:1]
            tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        if not self.pooler or blueprint.outputs != teacher.model.config.num_labels:
            heads = tuple(f"{name}." for name in encoder.head_modules(teacher.model))
            weights = {name: weight for name, weight in weights.items() if not name.startswith(heads)}

        with seeded(blueprint.seed):
            model = AutoModelForSequenceClassification.from_config(config, dtype="float32")
        model.load_state_dict(weights, strict=False)
        if self.vocabulary == "data":
            names = tokenizer.model_input_names
            tokenizer, kept_ids = reduce_vocabulary(tokenizer, blueprint.texts)
            tokenizer.model_input_names = names
            keep_rows(model, kept_ids)
        return assemble(model, tokenizer, blueprint)
