"""Tokens that the given texts never use, left out of a model: embeddings are half of a small one."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from understudy.errors import DataError, ExportError
from understudy.exporting.parity import Expected, complaints, parity
from understudy.models.text_model import TextModel
from understudy.students.vocabulary import keep_rows, reduce_vocabulary

if TYPE_CHECKING:
    from understudy.tasks import Task


def pruned(model: TextModel, texts: Iterable[str]) -> TextModel:
    """A copy that knows only the tokens of these texts, and single characters to spell what is new.

    Texts made of these tokens get the same outputs. Give texts like those that the model will be run on: training rows, text of the field.

    Raises:
        ModelError: a tokenizer or an encoder whose tokens cannot be numbered anew.
        DataError: no texts.
    """
    texts = list(texts)
    if not texts:
        raise DataError("no texts to keep the tokens of; give a file with at least one row")
    tokenizer, kept = reduce_vocabulary(model.tokenizer, texts)
    tokenizer.model_input_names, tokenizer.truncation_side = (model.tokenizer.model_input_names, model.tokenizer.truncation_side)
    network = copy.deepcopy(model.model)
    keep_rows(network, kept)
    return TextModel(network, tokenizer, model.max_length)


def effect(model: TextModel, small: TextModel, reference: Expected, task: Task, *, allow_loss: bool) -> dict[str, Any]:
    """What pruning saved and changed, on rows whose tokens were not all kept.

    Args:
        model: before.
        small: after.
        reference: the outputs of `model` for its validation rows.
        allow_loss: accept outputs that differ more than those of an int8 export may.

    Returns:
        `tokens` and `parameters`, each before and after; the figures of `parity`, and whether they `passed`.

    Raises:
        ExportError: its outputs differ by more than is allowed, with the figures.
    """
    figures = parity(reference, small, task)
    failures = complaints(figures, "pruned", task)
    if failures and not allow_loss:
        raise ExportError(
            f"the pruned model does not match the original: {' and '.join(failures)}. Give --prune more text, or --allow-loss"
        )
    return {
        "tokens": [len(model.tokenizer), len(small.tokenizer)],
        "parameters": [model.parameters, small.parameters],
        **figures,
        "passed": not failures,
    }
