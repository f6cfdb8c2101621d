"""Where the parts of an encoder classifier of `transformers` are; the only place that depends on its family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from understudy.errors import ModelError
from understudy.signals import Shape

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet", "modernbert", "deberta-v2")
# Families whose scores were verified to be query · key / √width, plus the layer's own bias; others only look alike.
ATTENTION_FAMILIES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "mpnet",
    "modernbert",
    "ernie",
    "data2vec-text",
    "megatron-bert",
    "rembert",
    "roberta-prelayernorm",
    "xlm-roberta-xl",
)
# Under a layer: the module of the attention, and its maps.
_ATTENTION = {
    "attention.self": ("query", "key", "value"),  # bert, roberta, xlm-roberta, camembert, electra
    "attention": ("q_lin", "k_lin", "v_lin"),  # distilbert
    "attention.attn": ("q", "k", "v"),  # mpnet
    "attn": ("Wqkv",),  # modernbert
}
# Under a layer whose norms come after its sums: what the attention writes with, its norm, the feed-forward maps, their norm.
_BLOCKS = (
    ("attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
    ("attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),  # distilbert
    ("attention.attn.o", "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),  # mpnet
)
_LAYERS = ("encoder.layer", "transformer.layer", "layers")  # under the base model


def layers(model: PreTrainedModel) -> nn.ModuleList:
    """The transformer layers, first to last.

    Raises:
        ModelError: layers are shared, or are where no known family has them.
    """
    for path in _LAYERS:
        module = _module(model.base_model, path)
        if isinstance(module, nn.ModuleList):
            return module
    if _module(model.base_model, "encoder.albert_layer_groups") is not None:
        reason = "all its layers share one set of weights, so there is none to pick"
    else:
        reason = f"no list of layers at {' or '.join(f'{type(model.base_model).__name__}.{path}' for path in _LAYERS)}"
    raise ModelError(f"{_name(model)}: {reason}; supported families are {', '.join(FAMILIES)}")


def has_layers(model: PreTrainedModel) -> bool:
    """Whether `layers` returns any."""
    base = getattr(model, "base_model", None)  # a script's own module has none
    return base is not None and any(isinstance(_module(base, path), nn.ModuleList) for path in _LAYERS)


def embeddings(model: PreTrainedModel) -> nn.Module:
    """Everything before the first layer: word, position and token-type embeddings with their norm.

    Raises:
        ModelError: the model has no module `embeddings`.
    """
    module = _module(model.base_model, "embeddings")
    if module is None:
        raise ModelError(
            f"{_name(model)}: no module {type(model.base_model).__name__}.embeddings; understood families are {', '.join(FAMILIES)}"
        )
    return module


def word_embeddings(model: PreTrainedModel) -> nn.Embedding:
    """The table with one row a token.

    Raises:
        ModelError: the model names none, or not as an `nn.Embedding`.
    """
    try:
        table = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        table = None
    if not isinstance(table, nn.Embedding):
        raise ModelError(f"{_name(model)}: get_input_embeddings() gives no nn.Embedding")
    return table


def pooler(model: PreTrainedModel) -> nn.Module | None:
    """The dense layer between the last layer and the head that the base model owns; None where the head has its own."""
    return _module(model.base_model, "pooler")


def head_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """What turns the last hidden states into logits, by name: the pooler, and what has weights beside the base."""
    heads = {
        name: module for name, module in model.named_children() if module is not model.base_model and any(True for _ in module.parameters())
    }
    pooling = pooler(model)
    return heads if pooling is None else {name_of(model, pooling): pooling, **heads}


def name_of(model: PreTrainedModel, module: nn.Module) -> str:
    """The dotted name of a module inside the model, as its weights carry it."""
    return next(name for name, candidate in model.named_modules() if candidate is module)


@dataclass(frozen=True)
class Projections:
    """The linear maps of one layer's attention.

    Args:
        attention: the module whose call they are part of.
        query, key, value: one map each; the same one thrice where a family joins them.
        heads: how many.
        window: how far from itself a token sees; None where it sees the whole row.
    """

    attention: nn.Module
    query: nn.Module
    key: nn.Module
    value: nn.Module
    heads: int
    window: int | None = None


def projections(model: PreTrainedModel, layer: int) -> Projections:
    """Where one layer makes queries, keys and values; 1 is the first layer.

    Raises:
        ModelError: they are where no known family has them, or the family's scores are more than their products.
    """
    module = layers(model)[layer - 1]
    known = _projections(module, model.config.num_attention_heads)
    if known is not None and model.config.model_type in ATTENTION_FAMILIES:
        limit = getattr(known.attention, "sliding_window", None)  # modernbert, which counts the token itself
        return known if limit is None else replace(known, window=limit - 1)
    if known is not None:
        reason = f"{type(known.attention).__name__} has queries and keys, but its attention scores may be more than their products"
    else:
        looked = " or ".join(f"{path}.{names[0]}" for path, names in _ATTENTION.items())
        reason = f"no queries and keys found in {type(module).__name__}: looked for {looked}"
    raise ModelError(
        f"{_name(model)}: {reason}. Objectives that compare attention know the families {', '.join(ATTENTION_FAMILIES)}; "
        "hidden_states needs none"
    )


@dataclass(frozen=True)
class Block:
    """The maps and norms of one layer whose norms come after its sums.

    Args:
        attention: makes queries, keys and values, one map each.
        output: writes the attention's values into the hidden states.
        attention_norm: of the sum of both.
        up, down: the feed-forward part.
        norm: of the sum with it.
    """

    attention: Projections
    output: nn.Linear
    attention_norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear
    norm: nn.LayerNorm


def block(model: PreTrainedModel, layer: int) -> Block:
    """All maps of one layer; 1 is the first layer.

    Raises:
        ModelError: a family that joins maps, takes the norms before the sums, or computes something more.
    """
    module = layers(model)[layer - 1]
    attention = _projections(module, model.config.num_attention_heads)
    for names in _BLOCKS:
        parts: list[Any] = [_module(module, name) for name in names]
        if attention is None or not all(parts):
            continue
        known = {weight for part in (attention.query, attention.key, attention.value, *parts) for weight in part.parameters()}
        if known == set(module.parameters()):  # else it computes something more
            return Block(attention, *parts)
    raise ModelError(
        f"{_name(model)}: {type(module).__name__} is not made as the layers of bert, roberta, xlm-roberta, camembert, distilbert, electra "
        "and mpnet are, and only these can be projected"
    )


def distance_bias(model: PreTrainedModel) -> nn.Embedding | None:
    """What a head adds to its scores by the distance of two tokens, a column a head; None where the family adds nothing."""
    table = _module(model.base_model, "encoder.relative_attention_bias")  # mpnet
    return table if isinstance(table, nn.Embedding) else None


def shape(model: PreTrainedModel, name: str) -> Shape:
    """The sizes of a model, as objectives need them: outputs, layers, width and heads.

    Args:
        name: of the model, for messages.
    """
    config = getattr(model, "config", None)
    outputs = getattr(config, "num_labels", None) or 0
    language_head = getattr(model, "get_output_embeddings", lambda: None)()
    if config is not None and language_head is not None:
        outputs = config.vocab_size
    if config is None or not hasattr(model, "base_model"):  # a script's own module
        return Shape(name, outputs)
    try:
        layers(model)
    except ModelError as error:
        return Shape(name, outputs, why=str(error))
    return Shape(name, outputs, len(layers(model)), config.hidden_size, config.num_attention_heads)


def weights_of_layers(model: PreTrainedModel, chosen: Sequence[int]) -> dict[str, Tensor]:
    """All weights of the model with only the chosen layers, which are numbered anew from 0."""
    prefix = name_of(model, layers(model)) + "."
    weights = model.state_dict()
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(prefix)}
    for new, old in enumerate(chosen):
        start = f"{prefix}{old}."
        kept |= {f"{prefix}{new}.{name[len(start) :]}": tensor for name, tensor in weights.items() if name.startswith(start)}
    return kept


def _projections(layer: nn.Module, heads: int) -> Projections | None:
    for path, names in _ATTENTION.items():
        attention = _module(layer, path)
        if attention is not None and all(hasattr(attention, name) for name in names):
            query, key, value = [getattr(attention, name) for name in names] * (3 // len(names))
            return Projections(attention, query, key, value, heads=heads)
    return None


def _module(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _name(model: PreTrainedModel) -> str:
    return f"{type(model).__name__} ({model.config.model_type})"
