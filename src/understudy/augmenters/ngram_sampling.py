"""N-gram sampling: only a few consecutive words of the text are kept."""

from __future__ import annotations

from random import Random

from understudy.augmenters.base import Augmenter, is_word


class NgramSampling(Augmenter):
    """With a probability, only n consecutive words are kept; n is drawn evenly from 1 to a largest.

    The teacher labels the copies: the paper calls this a more aggressive form of masking.

    Args:
        probability: of each text.
        longest: the largest n.

    Raises:
        ValueError: a setting out of its range.

    Source: Tang et al. 2019, arXiv:1903.12136, section 3.3 (probability 0.25, n from 1 to 5). In its code the step is off by default.
    """

    def __init__(self, *, probability: float = 0.25, longest: int = 5) -> None:
        if not 0 < probability <= 1:
            raise ValueError(f"probability is {probability}; it must be above 0 and at most 1")
        if longest < 1:
            raise ValueError(f"longest is {longest}; at least 1 is needed")
        self.probability, self.longest = probability, longest

    def change(self, pieces: list[str], draw: Random) -> list[str]:
        if draw.random() >= self.probability:
            return pieces
        words = [place for place, piece in enumerate(pieces) if is_word(piece)]
        if not words:
            return pieces
        count = min(draw.randint(1, self.longest), len(words))
        first = draw.randint(0, len(words) - count)
        kept = pieces[words[first] : words[first + count - 1] + 1]
        return [*kept[:-1], kept[-1].rstrip()]
