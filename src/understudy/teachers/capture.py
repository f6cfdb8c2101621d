"""Outputs of a model: of rows, in batches of similar length; and of one batch, with hidden states and attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from understudy.data.examples import batch_of, fields_of
from understudy.models import encoder
from understudy.models.view import batches_by_length
from understudy.signals import Attention, Needs, Signals

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel

    from understudy.models.text_model import TextModel


@torch.inference_mode()
def logits_of(
    model: TextModel, rows: datasets.Dataset, *, device: str = "cpu", batch_size: int = 64, remember: bool = True
) -> np.ndarray:
    """Logits of every row, in the order of the rows: (rows, outputs) float32.

    Rows are taken in order of length, so that a batch has next to no padding.

    Args:
        rows: with `text` and perhaps `text_pair`.
        batch_size: rows of a batch at most; long rows come in smaller ones.
        remember: False tokenizes the rows anew, and for this time only.
    """
    fields = fields_of(model, rows, remember=remember)
    found = np.zeros((len(rows), model.outputs), dtype=np.float32)
    with placed(model.model, device) as network:
        for some in batches_by_length(fields["input_ids"].lengths, batch_size):
            inputs = {name: one.to(device) for name, one in batch_of(fields, some).items()}
            found[some] = network(**inputs).logits.float().cpu().numpy()
    return found


@contextmanager
def placed(network: PreTrainedModel, device: str) -> Iterator[PreTrainedModel]:
    """A network on a device, in evaluation mode; afterwards it is where it was."""
    before = network.device
    # A decorator of transformers hides the signature of `to` from the type checker.
    network.to(device).eval()  # type: ignore[arg-type]
    try:
        yield network
    finally:
        network.to(before)  # type: ignore[arg-type]


def signals_of(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], needs: Needs, *, run: Callable[..., Any] | None = None
) -> tuple[Any, Signals]:
    """Run a model on a batch; return its outputs, and what was needed of it in float32.

    Queries, keys and values are noted by hooks on the layers asked for, so that the model keeps its fast attention kernel.

    Args:
        inputs: what the model takes.
        needs: what to note.
        run: calls the model, where something is wrapped around it; None: the model itself.

    Raises:
        ModelError: no queries and keys are found in this family.
    """
    noted: dict[int, dict[str, Any]] = {}
    hooks = [
        hook for layer in sorted(needs.attention)
        for hook in _watch(encoder.projections(model, layer), noted.setdefault(layer, {}))
    ]  # fmt: skip
    try:
        inside = {"output_hidden_states": True} if needs.hidden_states else {}
        outputs = (run or model)(**inputs, **inside)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, Signals(
        logits=outputs.logits.float(),
        hidden_states={layer: outputs.hidden_states[layer].float() for layer in needs.hidden_states},
        attention={layer: _attention(noted[layer]) for layer in needs.attention},
    )


def _watch(parts: encoder.Projections, noted: dict[str, Any]) -> Iterator[Any]:
    """Hooks that note what goes into and out of the maps of one attention."""

    def arguments(module: Any, given: tuple, named: dict[str, Any]) -> None:
        known = inspect.signature(module.forward).bind_partial(*given, **named).arguments
        noted["bias"], noted["rotation"] = known.get("position_bias"), known.get("position_embeddings")

    def output_of(name: str) -> Callable[..., None]:
        def note(module: Any, given: tuple, output: Tensor) -> None:
            noted[name] = output

        return note

    noted["heads"], noted["window"] = parts.heads, parts.window
    yield parts.attention.register_forward_pre_hook(arguments, with_kwargs=True)
    if parts.query is parts.key:
        yield parts.query.register_forward_hook(output_of("joined"))
        return
    for name in ("query", "key", "value"):
        yield getattr(parts, name).register_forward_hook(output_of(name))


def _attention(noted: Mapping[str, Any]) -> Attention:
    whole = noted["joined"].chunk(3, dim=-1) if "joined" in noted else (noted["query"], noted["key"], noted["value"])
    query, key, value = (
        one.float().unflatten(-1, (noted["heads"], -1)).transpose(1, 2) for one in whole
    )  # (rows, heads, positions, head width)
    if noted["rotation"] is not None:
        from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

        query, key = apply_rotary_pos_emb(query, key, *noted["rotation"], unsqueeze_dim=1)
    bias, visible = noted["bias"], None
    if noted["window"] is not None:
        place = torch.arange(query.shape[2], device=query.device)
        visible = (place[:, None] - place).abs() <= noted["window"]
    return Attention(query, key, value, None if bias is None else bias.float(), visible)
