"""A masked-language head on a student's encoder, and its metrics."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from understudy.errors import ModelError
from understudy.models import encoder
from understudy.models.text_model import TextModel
from understudy.students.assembly import seeded
from understudy.tasks import metric_named

METRIC = "masked_accuracy"


class MaskedLMScores:
    """The task of a masked language model, as far as a training needs it; metrics are computed from the sums of `token_scores`."""

    metric = staticmethod(metric_named)

    def logits(self, outputs: Tensor) -> Tensor:
        return outputs

    def scores(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return token_scores(outputs, labels)

    def validated(self, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Fraction of masked tokens that have the highest logit, and perplexity: exp of their mean −log probability (nats)."""
        loss, right, count = scores.sum(axis=0).tolist()
        return {METRIC: right / max(count, 1.0), "perplexity": math.exp(min(loss / max(count, 1.0), 700.0))}


def token_scores(logits: Float[Tensor, "rows positions tokens"], labels: Int[Tensor, "rows positions"]) -> Float[Tensor, "rows 3"]:
    """For each row: the sum of −log probability (nats) of its labels, how many have the highest logit, how many there are.

    Positions with the label -100 are not counted.

    >>> logits = torch.tensor([[[0.0, 0.0], [9.0, 0.0]]])
    >>> [round(score, 2) for score in token_scores(logits, torch.tensor([[-100, 0]]))[0].tolist()]
    [0.0, 1.0, 1.0]
    """
    counted = labels != -100
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    right = (logits.argmax(-1) == labels) & counted
    return torch.stack([loss.sum(1), right.sum(1).to(loss), counted.sum(1).to(loss)], dim=1)


def with_head(student: TextModel, seed: int, teacher: TextModel | None = None) -> TextModel:
    """A masked language model with the student's own encoder: training it trains the student.

    The weights of the head are copied from the teacher's where shapes agree; its output is tied to the word embeddings.

    Raises:
        ModelError: the student has no encoder, or its family no masked-language head.
    """
    from transformers import AutoModelForMaskedLM

    config: Any = copy.deepcopy(student.model.config)
    if not encoder.has_layers(student.model):
        raise ModelError(
            f"a stage with masked_lm needs a transformer, but this student is {config.model_type}; "
            "take teacher_layers, narrow or pretrained"
        )
    if student.tokenizer.mask_token_id is None:
        raise ModelError("a stage with masked_lm masks tokens, but the student's tokenizer has no mask token")
    try:
        with seeded(seed):
            model: PreTrainedModel = AutoModelForMaskedLM.from_config(config, dtype="float32")
    except ValueError as error:
        raise ModelError(f"{config.model_type}: `transformers` has no masked-language head for this family") from error
    if teacher is not None:
        weights, teacher_weights, base = model.state_dict(), teacher.model.state_dict(), f"{model.base_model_prefix}."
        model.load_state_dict(
            {
                name: weight
                for name, weight in teacher_weights.items()
                if not name.startswith(base) and name in weights and weights[name].shape == weight.shape
            },
            strict=False,
        )
    setattr(model, model.base_model_prefix, student.model.base_model)
    model.tie_weights()
    return student.around(model.eval())
