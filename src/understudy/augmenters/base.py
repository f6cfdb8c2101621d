"""What an augmenter is."""

from __future__ import annotations

import re
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from understudy.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from understudy.models.text_model import TextModel

Words = Literal["characters", "jieba"]
ROWS_A_BATCH = 64  # through the model of a step

# A Chinese character, a word with what is joined to it by - or ', or a run of anything else; each with the spaces behind it.
_PIECE = re.compile(r"[\u3400-\u9fff]\s*|[^\W\u3400-\u9fff]+(?:['’-][^\W\u3400-\u9fff]+)*\s*|[^\w\s]+\s*|\s+")
_CHINESE = re.compile(r"[\u3400-\u9fff]+\s*")


@dataclass(frozen=True)
class AugmentationContext:
    """What augmenters may draw from.

    Args:
        texts: of the rows to be augmented, both sides of pairs.
        teacher: None where only its outputs are known.
        words: units of Chinese text.
    """

    texts: Sequence[str]
    teacher: TextModel | None = None
    words: Words = "characters"

    def pieces(self, text: str) -> list[str]:
        """The text as augmenters are given it."""
        return pieces_of(text, words=self.words)


class Augmenter(ABC):
    """A way to change a text; the keyword arguments of `__init__` are its settings in a recipe.

    `keeps_label` says whether a changed text still deserves the label of its row. Then the control `alone` learns from it, too; where
    only the teacher can label it, that is part of what the teacher gives.
    """

    keeps_label: ClassVar[bool] = False

    def prepare(self, material: AugmentationContext) -> None:
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


def pieces_of(text: str, *, words: Words = "characters") -> list[str]:
    """Words and punctuation, each with the spaces behind it. Joined, they are the text again.

    Args:
        words: Chinese goes by character, or by word as jieba finds them.

    Raises:
        RecipeError: jieba is not installed.

    >>> pieces_of("a well-made film, isn't it?"), pieces_of("好看的film")
    (['a ', 'well-made ', 'film', ', ', "isn't ", 'it', '?'], ['好', '看', '的', 'film'])
    """
    if words == "characters":
        return _PIECE.findall(text)
    pieces: list[str] = []
    place = 0
    for run in _CHINESE.finditer(text):
        *found, last = _jieba().cut(run[0].rstrip())
        pieces += [*_PIECE.findall(text[place : run.start()]), *found, put(last, run[0])]
        place = run.end()
    return pieces + _PIECE.findall(text[place:])


@cache
def _jieba() -> Any:
    """A tokenizer of jieba, with its own dictionary.

    Raises:
        RecipeError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its regular expressions are of an older Python
            import jieba
    except ImportError as error:
        raise RecipeError(
            "augment.words is 'jieba', but jieba is not installed: `pip install jieba` (the extra chinese); "
            "'characters' needs no package"
        ) from error
    jieba.setLogLevel("WARNING")
    tokenizer = jieba.Tokenizer()
    # It keeps its dictionary in a file of the common temporary folder, where another version, or anybody, may have put one.
    with tempfile.TemporaryDirectory() as tokenizer.tmp_dir:
        tokenizer.initialize()
    return tokenizer


def load_model(folder: Path, auto: Any, *, setting: str, kind: str) -> TextModel:
    """The model of a step, with its head, in evaluation mode.

    Args:
        auto: the class of `transformers` that loads it.
        setting: that names the folder, for messages.
        kind: what the folder should hold, for messages.

    Raises:
        ModelError: it holds another kind of model, or none, or no tokenizer.
    """
    from understudy.models.agreement import agree, resolve_max_length
    from understudy.models.folder import check_folder
    from understudy.models.loading import load_network, load_tokenizer, read_config
    from understudy.models.text_model import TextModel

    try:
        check_folder(folder)
        config = read_config(folder, head="token" in kind)
        model = load_network(folder, config, auto, kind, new_head=False)
        tokenizer = load_tokenizer(folder, config)
        agree(model, tokenizer, where=str(folder))
    except ModelError as error:
        raise ModelError(f"{setting}: {folder} is not a {kind}: {error}") from error
    return TextModel(model, tokenizer, resolve_max_length(model, tokenizer, None, where=str(folder)))


def is_word(piece: str) -> bool:
    """Whether a piece is more than punctuation."""
    return any(letter.isalnum() for letter in piece)


def put(word: str, piece: str) -> str:
    """A word in the place of a piece, with the piece's spaces.

    >>> put("dull", "gripping ")
    'dull '
    """
    return word + piece[len(piece.rstrip()) :]
