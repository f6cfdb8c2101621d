"""Outputs of a model: logits of many rows, in batches of similar length; and of one batch with hidden states and attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from understudy.data.examples import batch_of, fields_of
from understudy.machine import move
from understudy.models import encoder
from understudy.models.view import batches_by_length
from understudy.signals import Attention, Needs, Signals

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel

    from understudy.models.text_model import TextModel


@torch.inference_mode()
def logits_of(model: TextModel, rows: datasets.Dataset, *, device: str = "cpu", batch_size: int = 64, remember: bool = True) -> np.ndarray:
    """Logits of every row, in the order of the rows: (rows, outputs) float32.

    Batches are of similar length, so that they have almost no padding.

    Args:
        model: a network with its tokenizer.
        rows: with `text` and perhaps `text_pair`.
        device: to run on; afterwards the network is moved back.
        batch_size: at most; long rows come in smaller batches.
        remember: keep the tokens for the next call with these rows; False tokenizes them for this call only.
    """
    fields = fields_of(model, rows, remember=remember)
    logits = np.zeros((len(rows), model.outputs), dtype=np.float32)
    with placed(model.model, device) as network:
        for indices in batches_by_length(fields["input_ids"].lengths, batch_size):
            inputs = {name: tensor.to(device) for name, tensor in batch_of(fields, indices).items()}
            logits[indices] = network(**inputs).logits.float().cpu().numpy()
    return logits


@contextmanager
def placed(network: PreTrainedModel, device: str) -> Iterator[PreTrainedModel]:
    """A network on a device, in evaluation mode; afterwards it is moved back."""
    before = network.device
    move(network, device).eval()
    try:
        yield network
    finally:
        move(network, before)


def signals_of(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], needs: Needs, *, run: Callable[..., Any] | None = None
) -> tuple[Any, Signals]:
    """Run a model on a batch. Returns its outputs, and the needed signals in float32.

    Queries, keys and values are recorded by hooks on the needed layers, so that the model keeps its fast attention kernel.

    Args:
        model: the network.
        inputs: its arguments.
        needs: the signals to record.
        run: calls the model, where it is wrapped; None: the model itself.

    Raises:
        ModelError: the queries and keys of this model family are not known.
    """
    recorded: dict[int, dict[str, Any]] = {}
    hooks = [
        hook for layer in sorted(needs.attention) for hook in _record(encoder.projections(model, layer), recorded.setdefault(layer, {}))
    ]
    try:
        options = {"output_hidden_states": True} if needs.hidden_states else {}
        outputs = (run or model)(**inputs, **options)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, Signals(
        logits=outputs.logits.float(),
        hidden_states={layer: outputs.hidden_states[layer].float() for layer in needs.hidden_states},
        attention={layer: _attention(recorded[layer]) for layer in needs.attention},
    )


def _record(parts: encoder.Projections, recorded: dict[str, Any]) -> Iterator[Any]:
    """Register hooks that record the projections of one layer's attention, and its arguments that depend on positions."""

    def record_arguments(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        arguments = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
        recorded["bias"], recorded["rotation"] = arguments.get("position_bias"), arguments.get("position_embeddings")

    def record_output(name: str) -> Callable[..., None]:
        def record(module: Any, args: tuple, output: Tensor) -> None:
            recorded[name] = output

        return record

    recorded["heads"], recorded["window"] = parts.heads, parts.window
    yield parts.attention.register_forward_pre_hook(record_arguments, with_kwargs=True)
    if parts.query is parts.key:
        yield parts.query.register_forward_hook(record_output("joined"))
        return
    for name in ("query", "key", "value"):
        yield getattr(parts, name).register_forward_hook(record_output(name))


def _attention(recorded: Mapping[str, Any]) -> Attention:
    """Queries, keys and values of what `_record` recorded: (rows, heads, positions, head width)."""
    joined = recorded.get("joined")
    projections = [recorded[name] for name in ("query", "key", "value")] if joined is None else joined.chunk(3, dim=-1)
    query, key, value = (projection.float().unflatten(-1, (recorded["heads"], -1)).transpose(1, 2) for projection in projections)
    if recorded["rotation"] is not None:
        from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

        query, key = apply_rotary_pos_emb(query, key, *recorded["rotation"], unsqueeze_dim=1)
    bias, visible = recorded["bias"], None
    if recorded["window"] is not None:
        place = torch.arange(query.shape[2], device=query.device)
        visible = (place[:, None] - place).abs() <= recorded["window"]
    return Attention(query, key, value, None if bias is None else bias.float(), visible)
