"""A smaller pretrained model."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from understudy.models.text_model import TextModel
from understudy.students.assembly import assemble, copy_tokenizer, seeded
from understudy.students.base import Blueprint, Student
from understudy.students.vocabulary import keep_rows, reduce_vocabulary


class Pretrained(Student):
    """Any encoder in a folder or on the hub, with a new head where its own does not fit.

    Pick it where a small pretrained model of the language exists: pretraining beats any start from scratch.
    Without one, `teacher_layers` is the nearest.

    Args:
        model: a `transformers` folder, or a name on the hub.
        vocabulary: `data` drops the embedding rows of tokens that the data never uses.

    Raises:
        ValueError: no model named.
    """

    training: ClassVar[dict[str, Any]] = {"epochs": 3, "min_updates": 300, "batch_size": 32, "learning_rate": 5e-5}

    def __init__(self, *, model: str, vocabulary: Literal["model", "data"] = "model") -> None:
        if not model:
            raise ValueError("model is empty: give a folder, or a name on the hub")
        self.model, self.vocabulary = model, vocabulary

    def defaults(self) -> dict[str, Any]:
        """The learning rate fits the width of the encoder."""
        from understudy.models.rates import rate_for, width_of

        return {**self.training, "learning_rate": rate_for(width_of(self.model))}

    def build(self, blueprint: Blueprint) -> TextModel:
        with seeded(blueprint.seed):
            loaded = TextModel.load(
                self.model, max_length=blueprint.max_length, label_names=blueprint.label_names, problem_type=blueprint.head
            )
        tokenizer = copy_tokenizer(loaded.tokenizer)
        if self.vocabulary == "data":
            tokenizer, kept_ids = reduce_vocabulary(tokenizer, blueprint.texts)
            keep_rows(loaded.model, kept_ids)
        return assemble(loaded.model, tokenizer, blueprint)
