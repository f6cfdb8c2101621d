"""What every kind does in the same way: draw from the seed, set up the head, put model and tokenizer together."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from understudy.models import text_model
from understudy.models.agreement import resolve_max_length
from understudy.models.text_model import TextModel
from understudy.students.base import Blueprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from this seed inside, and leave the caller's random numbers as they were.

    >>> before = torch.get_rng_state()
    >>> with seeded(3):
    ...     first = torch.rand(1)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    # Weights are drawn on the CPU; torch.manual_seed would reach every accelerator's generator as well.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def set_head(config: Any, blueprint: Blueprint) -> None:
    """Write the head's width, what it is for and the label map into a config."""
    text_model.set_head(config, blueprint.head, blueprint.label_names)


def copy_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A copy to change freely, with no padding or truncation of its own."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def assemble(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, blueprint: Blueprint) -> TextModel:
    """The finished student, float32 and in evaluation mode.

    It keeps `blueprint.max_length` tokens of a row, else as many as the teacher, or as it can read itself where that is less.

    Raises:
        ModelError: the blueprint's length is more than the student has positions.
    """
    where = f"the student ({model.config.model_type})"
    max_length = resolve_max_length(model, tokenizer, blueprint.max_length, where=where)
    if blueprint.max_length is None and blueprint.teacher is not None:
        max_length = min(max_length, blueprint.teacher.max_length)
    tokenizer.model_max_length = max_length
    return TextModel(model.float().eval(), tokenizer, max_length)
