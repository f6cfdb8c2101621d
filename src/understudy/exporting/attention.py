"""An encoder in a form that costs less when exported: what is not read is not computed, and attention is one operator."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from understudy.models.encoder import layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "understudy_onnx"
# The head reads the first token only, and what attention gives is added to its input in a module of its own.
_FIRST_TOKEN = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
# Every token attends to every token, with no bias between them, and attention is what `transformers` lets others supply.
_PLAIN = (*_FIRST_TOKEN, "distilbert")


def can_fuse(model: PreTrainedModel) -> bool:
    """Whether `lean` can make attention one operator in this family."""
    return model.config.model_type in _PLAIN


def lean(model: PreTrainedModel, *, fused: bool) -> PreTrainedModel:
    """A copy for export whose last layer works on the first token only, where the head reads no other: the same logits.

    Args:
        fused: attention as one operator of onnxruntime. Run by torch, such a copy gives no numbers.
    """
    model = copy.deepcopy(model)
    if model.config.model_type in _FIRST_TOKEN:
        attention: Any = layers(model)[-1].attention
        attention.self.first_token = True
        attention.output.register_forward_pre_hook(lambda _, inputs: tuple(tensor[:, :1] for tensor in inputs))
    if fused:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend)
        ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, _padding)
        model.set_attn_implementation(_NAME)
    return model


def _padding(*_: Any, attention_mask: Tensor, **__: Any) -> Tensor:
    """The mask as it is given: (rows, length), 1 where a token counts."""
    return attention_mask


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Attention of (rows, heads, length, width a head), as (rows, length, heads, width a head)."""
    rows, heads, length, width = query.shape
    if getattr(module, "first_token", False):
        query = query[:, :, :1]
    inputs = [tensor.transpose(1, 2).flatten(2) for tensor in (query, key, value)]
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        [*inputs, None, attention_mask.to(torch.int32)],
        {"num_heads": heads, "scale": width**-0.5 if scaling is None else float(scaling)},
        dtype=query.dtype,
        shape=inputs[0].shape,
        version=1,
    )
    return mixed.reshape(rows, -1, heads, width).expand(-1, length, -1, -1), None  # the caller wants all tokens
