"""Masking: words hidden behind the mask token."""

from __future__ import annotations

from random import Random

from understudy.augmenters.base import AugmentationContext, Augmenter, is_word, put
from understudy.errors import RecipeError
from understudy.models.view import MASKED


class Masking(Augmenter):
    """Each word becomes the teacher's mask token with a probability.

    It tells the student how much each word matters: "I [MASK] the comedy" leaves the teacher in doubt, "I loved the [MASK]" does not.
    So the label is the teacher's to give: the paper means the change to move its answer, and does not keep the row's label.

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

    def prepare(self, material: AugmentationContext) -> None:
        tokenizer = material.teacher.tokenizer if material.teacher else None
        if tokenizer is None or tokenizer.mask_token is None:
            raise RecipeError(
                "augmenter masking writes the teacher's mask token, but the teacher has none; remove this step"
            )

    def change(self, pieces: list[str], draw: Random) -> list[str]:
        return [
            put(MASKED, piece) if is_word(piece) and draw.random() < self.probability else piece for piece in pieces
        ]
