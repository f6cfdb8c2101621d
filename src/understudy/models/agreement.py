"""Whether a model and its tokenizer fit each other: tested by running the model on a few tokens, not looked up in a list of families."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from understudy.errors import ModelError
from understudy.models.encoder import word_embeddings
from understudy.models.folder import first_line

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Longer rows are truncated to this many tokens unless `data.max_length` is set; batches are padded to their own longest row only.
DEFAULT_MAX_LENGTH = 512
_PROBE = (6, 7)  # tokens; beyond the first distances, where tables of positions and of distances would look alike
_UNLIMITED = 1_000_000


def agree(model: PreTrainedModel, tokenizer: Any, *, where: str) -> None:
    """Make model and tokenizer agree on padding and inputs where that can be done without changing an answer, else refuse them.

    Raises:
        ModelError: tokens without an embedding, no token to pad with, two that differ, or a model that does not run.
    """
    _check_tokens(model, tokenizer, where)
    _agree_on_inputs(model, tokenizer)
    _agree_on_padding(model, tokenizer, where)


def _check_tokens(model: PreTrainedModel, tokenizer: Any, where: str) -> None:
    """Refuse token ids beyond the table of word embeddings."""
    try:
        rows = word_embeddings(model).num_embeddings
    except ModelError:
        return  # it has no table of word embeddings
    last = max(tokenizer.get_vocab().values(), default=-1)
    if last >= rows:
        raise ModelError(
            f"{where}: the tokenizer has {last + 1:,} tokens, the model embeddings for {rows:,}; after adding tokens, "
            "model.resize_token_embeddings(len(tokenizer)), train, and save both, or save the tokenizer that the model was trained with"
        )


def _agree_on_inputs(model: PreTrainedModel, tokenizer: Any) -> None:
    """Token types are given to a model that has at least two."""
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    tables = [module for name, module in model.named_modules() if name.endswith("token_type_embeddings")]
    if not takes or any(getattr(table, "num_embeddings", 2) < 2 for table in tables):
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]


def _agree_on_padding(model: PreTrainedModel, tokenizer: Any, where: str) -> None:
    """Make tokenizer and config pad with one token, on the right, unless the attention mask hides padding anyway."""
    config: Any = model.config
    configured, special = config.pad_token_id, set(tokenizer.all_special_ids)
    if isinstance(configured, int) and not 0 <= configured < len(tokenizer):
        configured = None  # as the -1 of some generative models
    if tokenizer.pad_token_id is None:
        token = tokenizer.convert_ids_to_tokens(configured) if configured in special else tokenizer.eos_token or tokenizer.sep_token
        if token is None:
            raise ModelError(
                f"{where}: the tokenizer has no token to pad with, and none that ends a text; set tokenizer.pad_token and save it again"
            )
        tokenizer.pad_token = token
    pad = tokenizer.pad_token_id
    if configured is None:
        config.pad_token_id = configured = pad
    if _is_own(model) or _padding_is_hidden(model, tokenizer, pad, where):
        return
    if configured in special and configured != pad:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(configured)
        if _padding_is_hidden(model, tokenizer, configured, where):
            return
    if configured != pad:
        names = [f"{tokenizer.convert_ids_to_tokens(token_id)!r} ({token_id})" for token_id in (pad, configured)]
        raise ModelError(
            f"{where}: the tokenizer pads with {names[0]}, config.json says {names[1]}, and the outputs depend on which; "
            "set pad_token_id to the token that the model was trained with, in both"
        )
    if _padding_is_hidden(model, tokenizer, pad, where, left=True):
        raise ModelError(f"{where}: {config.model_type} reads rows that are padded on the left, which this package does not do")


def _padding_is_hidden(model: PreTrainedModel, tokenizer: Any, pad: int, where: str, *, left: bool = False) -> bool:
    """Whether a row has the same outputs alone and in a batch, padded with `pad`."""
    import torch

    row, longer = _row(tokenizer, 3), _row(tokenizer, 6)
    more = [pad] * (len(longer) - len(row))
    mask = [0] * len(more)
    padded, counted = (more + row, mask + [1] * len(row)) if left else (row + more, [1] * len(row) + mask)
    alone = _outputs(model, torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long), where)[0]
    both = _outputs(model, torch.tensor([padded, longer]), torch.tensor([counted, [1] * len(longer)]), where)[0]
    if alone.shape != both.shape:  # an output a token
        both = both[-len(row) :] if left else both[: len(row)]
    return bool(torch.allclose(alone, both, rtol=1e-3, atol=1e-4 * float(alone.abs().max()) + 1e-6, equal_nan=True))


def positions_of(model: PreTrainedModel, tokenizer: Any, *, where: str) -> int | None:
    """How many tokens of a row a model has positions for; None where it counts no positions, or computes them.

    A table of positions is recognized by a row that is one token longer and looks up one entry further. Its first entry in use is found
    in the same way: some families number positions from the padding token on, or leave the first two free.
    """
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    class WatchLookups(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is functional.embedding and args[0].numel() and args[0].numel() != args[0].shape[-1] ** 2:
                lookups.append((args[1].shape[0], int(args[0].max())))
            return function(*args, **(kwargs or {}))

    if _is_own(model):
        return None
    looked_up = []
    for count in _PROBE:
        lookups: list[tuple[int, int]] = []
        row = torch.tensor([_row(tokenizer, count, whole=True)])
        with WatchLookups():
            _outputs(model, row, torch.ones_like(row), where)
        looked_up.append(lookups)
    limits = [rows - (first - (_PROBE[0] - 1)) for (rows, first), (_, second) in zip(*looked_up, strict=False) if second == first + 1]
    return min(limits, default=None)


def resolve_max_length(model: PreTrainedModel, tokenizer: Any, requested: int | None, *, where: str) -> int:
    """How many tokens of a row are kept: as requested, else as saved with the model, else as many as it can read, at most 512.

    Raises:
        ModelError: more are requested than the model has positions.
    """
    positions = positions_of(model, tokenizer, where=where)
    if requested is not None:
        if positions and requested > positions:
            raise ModelError(f"data.max_length is {requested}, but {where} has {positions} positions; give at most {positions}")
        return requested
    config: Any = model.config
    if saved := getattr(config, "understudy_max_length", None):
        return int(min(saved, positions or saved))
    trained = None if _is_own(model) else getattr(config, "max_position_embeddings", None)
    limits = [limit for limit in (positions or trained, tokenizer.model_max_length) if limit and 0 < limit < _UNLIMITED]
    return int(min([*limits, DEFAULT_MAX_LENGTH]))


def _row(tokenizer: Any, count: int, *, whole: bool = False) -> list[int]:
    """A row of one ordinary token, repeated, between what the tokenizer puts around texts.

    Args:
        whole: `count` is of all tokens.
    """
    around = tokenizer("")["input_ids"]
    special = {*tokenizer.all_special_ids, *around}
    ordinary = next((index for index in range(len(tokenizer)) if index not in special), 0)
    times = max(1, count - len(around)) if whole else count
    return [*around[:1], *[ordinary] * times, *around[1:]]


def _outputs(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, where: str) -> torch.Tensor:
    """Logits of one batch, in evaluation mode; the model keeps its mode.

    Raises:
        ModelError: the model does not run, or its logits are not finite.
    """
    import torch

    was_training = model.training
    try:
        with torch.inference_mode():
            device = next(model.parameters()).device
            outputs = model.eval()(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError(f"{where}: the model does not run on a row of {ids.shape[1]} tokens: {first_line(error)}") from error
    finally:
        model.train(was_training)
    if not torch.isfinite(outputs).all():
        raise ModelError(f"{where}: its outputs are not finite numbers; the model is damaged or diverged")
    return outputs


def _is_own(model: PreTrainedModel) -> bool:
    """A student of this package, whose rows may be of any length and padded with anything."""
    return type(model).__module__.startswith("understudy.")
