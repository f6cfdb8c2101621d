"""Two texts in one row of a batch: taken apart, encoded alike, compared."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from understudy.errors import ModelError


def texts_of(
    input_ids: Int[Tensor, "rows length"],
    attention_mask: Int[Tensor, "rows length"] | None,
    token_type_ids: Int[Tensor, "rows length"] | None,
    *,
    pair: bool,
) -> tuple[Int[Tensor, "texts shorter"], Int[Tensor, " texts"]]:
    """The texts of a right-padded batch, each starting at column 0, and their lengths in tokens.

    With `pair`, token type 0 is the first text and 1 the second; all first texts come before all second ones.

    Raises:
        ModelError: a pair without token types, which alone show where the second text starts.

    >>> ids = torch.tensor([[5, 6, 7, 8, 0]])
    >>> types, mask = torch.tensor([[0, 0, 1, 1, 0]]), torch.tensor([[1, 1, 1, 1, 0]])
    >>> texts, lengths = texts_of(ids, mask, types, pair=True)
    >>> [row[:length].tolist() for row, length in zip(texts, lengths)]
    [[5, 6], [7, 8]]
    """
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(input_ids.dtype)
    if not pair:
        return input_ids, mask.sum(dim=1)
    if token_type_ids is None:
        raise ModelError(
            "this student reads pairs of texts, but the batch has no token_type_ids; "
            "tokenize both texts together: tokenizer(text, text_pair)"
        )
    second_mask = mask * token_type_ids
    first_length, second_length = (mask - second_mask).sum(dim=1), second_mask.sum(dim=1)
    last = input_ids.shape[1] - 1
    columns = torch.arange(last + 1, device=input_ids.device) + first_length[:, None]
    texts = torch.cat([input_ids, input_ids.gather(1, columns.clamp(max=last))])
    lengths = torch.cat([first_length, second_length])
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        # Each text is about half as long as the row; an exported graph keeps all columns.
        texts = texts[:, : max(1, int(lengths.max()))]
    return texts, lengths


def features(vectors: Float[Tensor, "texts width"], *, pair: bool) -> Float[Tensor, "rows features"]:
    """What the head reads: u for a single text, [u, v, u∘v, |u − v|] for a pair.

    Source: Tang et al. 2019, arXiv:1903.12136, section 3.2 (the siamese form).
    """
    if not pair:
        return vectors
    first, second = vectors.unflatten(0, (2, -1))  # chunk(2) of a number of rows not known yet stops the ONNX exporter
    return torch.cat([first, second, first * second, (first - second).abs()], dim=-1)


def feature_width(width: int, *, pair: bool) -> int:
    """How wide `features` are."""
    return 4 * width if pair else width
