"""What an augmenter is."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from understudy.text_model import TextModel

# A Chinese character, a word with what is joined to it by - or ', or a run of anything else; each with the spaces behind it.
_PIECE = re.compile(r"[\u3400-\u9fff]\s*|[^\W\u3400-\u9fff]+(?:['’-][^\W\u3400-\u9fff]+)*\s*|[^\w\s]+\s*|\s+")


@dataclass(frozen=True)
class Material:
    """What augmenters may draw from.

    Args:
        texts: of the rows to be augmented, both sides of pairs.
        teacher: None where only its outputs are known.
    """

    texts: Sequence[str]
    teacher: TextModel | None = None


class Augmenter(ABC):
    """A way to change a text; the keyword arguments of `__init__` are its settings in a recipe."""

    def prepare(self, material: Material) -> None:
        """Called once, before any text is changed.

        Raises:
            RecipeError: something that is needed is not there.
        """
        del material

    @abstractmethod
    def change(self, pieces: list[str], draw: Random) -> list[str]:
        """The pieces of a text, changed.

        Args:
            pieces: as from `pieces_of`; not empty.
            draw: the only source of chance.
        """


def pieces_of(text: str) -> list[str]:
    """Words and punctuation, each with the spaces behind it; Chinese by character. Joined, they are the text again.

    >>> pieces_of("a well-made film, isn't it?"), pieces_of("好看的film")
    (['a ', 'well-made ', 'film', ', ', "isn't ", 'it', '?'], ['好', '看', '的', 'film'])
    """
    return _PIECE.findall(text)


def is_word(piece: str) -> bool:
    """Whether a piece is more than punctuation."""
    return any(letter.isalnum() for letter in piece)


def put(word: str, piece: str) -> str:
    """A word in the place of a piece, with the piece's spaces.

    >>> put("dull", "gripping ")
    'dull '
    """
    return word + piece[len(piece.rstrip()) :]
