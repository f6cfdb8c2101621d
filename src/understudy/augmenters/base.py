"""The base class of augmenters, the context that they are given, and the pieces of a text that they change."""

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

# A Chinese character, a word (with parts joined by - or '), or a run of other characters; each with the spaces after it.
_PIECE = re.compile(r"[\u3400-\u9fff]\s*|[^\W\u3400-\u9fff]+(?:['’-][^\W\u3400-\u9fff]+)*\s*|[^\w\s]+\s*|\s+")
_CHINESE = re.compile(r"[\u3400-\u9fff]+\s*")


@dataclass(frozen=True)
class AugmentationContext:
    """The texts and the teacher that augmenters may use.

    Args:
        texts: of the rows to be augmented, both sides of pairs.
        teacher: None where only the outputs of the teacher are known.
        words: units of Chinese text.
    """

    texts: Sequence[str]
    teacher: TextModel | None = None
    words: Words = "characters"

    def pieces(self, text: str) -> list[str]:
        """The text split as augmenters get it."""
        return pieces_of(text, words=self.words)


class Augmenter(ABC):
    """A way to change a text; the keyword arguments of `__init__` are its settings in a recipe.

    `keeps_label` is True where the row's label still holds for a changed text. Then the control `alone` is trained on such rows too;
    where only the teacher can label them, they are part of what the teacher contributes.
    """

    keeps_label: ClassVar[bool] = False

    def prepare(self, context: AugmentationContext) -> None:
        """Called once, before any text is changed.

        Raises:
            RecipeError: something that the step needs is missing.
        """
        del context

    @abstractmethod
    def change(self, pieces: list[str], draw: Random) -> list[str]:
        """The pieces of a text, changed.

        Args:
            pieces: as from `pieces_of`; not empty.
            draw: the only source of randomness.
        """


def pieces_of(text: str, *, words: Words = "characters") -> list[str]:
    """Words and punctuation, each with the spaces after it. Joined, they are the text again.

    Args:
        text: to split.
        words: Chinese is split into characters, or into words by jieba.

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
        *first, last = _jieba().cut(run[0].rstrip())
        pieces += [*_PIECE.findall(text[place : run.start()]), *first, put(last, run[0])]
        place = run.end()
    return pieces + _PIECE.findall(text[place:])


@cache
def _jieba() -> Any:
    """A tokenizer of jieba with the dictionary of its package.

    Raises:
        RecipeError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer versions of Python warn about its regular expressions
            import jieba
    except ImportError as error:
        raise RecipeError(
            "augment.words is 'jieba', but jieba is not installed: `pip install jieba` (the extra chinese); 'characters' needs no package"
        ) from error
    jieba.setLogLevel("WARNING")
    tokenizer = jieba.Tokenizer()
    # By default it caches its dictionary in the shared temporary folder, where another version or another user may have put one.
    with tempfile.TemporaryDirectory() as tokenizer.tmp_dir:
        tokenizer.initialize()
    return tokenizer


def load_model(folder: Path, auto: Any, *, setting: str, kind: str) -> TextModel:
    """The model of a step, with its head, in evaluation mode.

    Args:
        folder: of the model.
        auto: the class of `transformers` that loads it.
        setting: the setting that names the folder, for messages.
        kind: what the folder should hold, for messages.

    Raises:
        ModelError: the folder holds another kind of model, no model, or no tokenizer.
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
    """A word followed by the spaces of the piece that it replaces.

    >>> put("dull", "gripping ")
    'dull '
    """
    return word + piece[len(piece.rstrip()) :]
