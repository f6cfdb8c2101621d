"""Masking: words replaced by the mask token."""

from __future__ import annotations

from random import Random

from understudy.augmenters.base import AugmentationContext, Augmenter, is_word, put
from understudy.errors import RecipeError
from understudy.models.view import MASKED


class Masking(Augmenter):
    """Each word becomes the teacher's mask token with a probability.

    It shows the student how much each word matters: the teacher is less sure of "I [MASK] the comedy" than of "I loved the [MASK]".
    The teacher labels the copies: the change is meant to change its output, and the paper does not keep the row's label.

    Args:
        probability: of each word.

    Raises:
        ValueError: a probability out of its range.

    Source: Tang et al. 2019, arXiv:1903.12136, section 3.3 (probability 0.1).
    """

    def __init__(self, *, probability: float = 0.1) -> None:
        if not 0 < probability < 1:
            raise ValueError(f"probability is {probability}; it must be between 0 and 1")
        self.probability = probability

    def prepare(self, context: AugmentationContext) -> None:
        tokenizer = context.teacher.tokenizer if context.teacher else None
        if tokenizer is None or tokenizer.mask_token is None:
            raise RecipeError("augmenter masking writes the teacher's mask token, but the teacher has none; remove this step")

    def change(self, pieces: list[str], draw: Random) -> list[str]:
        return [put(MASKED, piece) if is_word(piece) and draw.random() < self.probability else piece for piece in pieces]
