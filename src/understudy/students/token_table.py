"""The table of token vectors of this package's networks: its tokens, its width, and the vectors that it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from understudy.errors import ModelError
from understudy.students.vectors import read_vectors
from understudy.students.vocabulary import VocabularyKind, choose, start_from_teacher, without_ends

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerFast

    from understudy.students.base import Blueprint


@dataclass(frozen=True)
class TokenTable:
    """Tokens for the data, and vectors to start from.

    Args:
        tokenizer: without ends.
        width: of the vectors.
        teacher_rows: where the tokens stand in the teacher's table; None where they are not the teacher's.
        vectors: those that a file has.
    """

    tokenizer: PreTrainedTokenizerFast
    width: int
    teacher_rows: list[int] | None
    vectors: dict[str, np.ndarray]

    def fill(self, embedding: nn.Embedding, blueprint: Blueprint, *, scale: float) -> None:
        """Replace the random vectors by the teacher's principal components, or by the file's vectors."""
        if self.teacher_rows is not None:
            start_from_teacher(embedding, blueprint, self.teacher_rows, scale=scale)
        with torch.no_grad():
            for word, vector in self.vectors.items():
                embedding.weight[self.tokenizer.convert_tokens_to_ids(word)] = torch.from_numpy(vector)


@dataclass(frozen=True)
class TableSettings:
    """The settings of the table in a recipe.

    Args:
        vocabulary: `words` or `characters` of the data; `teacher`, the teacher's subwords; `data`, those the data uses;
            None takes `words` for a file of vectors, else `data` where a teacher is at hand.
        min_count: rarer words (or characters) are unknown.
        max_words: the most frequent are kept.
        vectors: a file of word vectors.

    Raises:
        ValueError: a setting out of its range, or vectors of words for a vocabulary of subwords.
    """

    vocabulary: VocabularyKind | None
    min_count: int
    max_words: int
    vectors: str | None

    def __post_init__(self) -> None:
        for name, size in {"min_count": self.min_count, "max_words": self.max_words}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}: at least 1 is needed")
        if self.vectors is not None and self.vocabulary in ("teacher", "data"):
            raise ValueError(f"vectors are of words, but vocabulary is '{self.vocabulary}'; allowed are 'words' and 'characters'")

    @property
    def copied(self) -> str:
        """What the vectors start from of a teacher model; empty: nothing."""
        return "" if self.vectors or self.vocabulary in ("words", "characters") else "word embeddings"

    def table(self, blueprint: Blueprint, *, student: str, setting: str, width: int | None, otherwise: int) -> TokenTable:
        """The table for this data.

        Args:
            student: its kind, for messages.
            setting: what the kind calls the width.
            width: as in the recipe; None takes that of the file.
            otherwise: where there is no file either.

        Raises:
            ModelError: the file's vectors have another width; or the teacher's subwords are wanted, and only its outputs known.
            DataError: a file that cannot be used, or no word often enough.
        """
        kind = self.vocabulary or ("words" if self.vectors else None)
        chosen = choose(blueprint, kind, student=student, min_count=self.min_count, max_words=self.max_words)
        tokenizer = without_ends(chosen.tokenizer, pair=blueprint.pair)
        vectors = read_vectors(self.vectors, tokenizer.get_vocab(), setting="student.vectors") if self.vectors else {}
        actual = next((len(vector) for vector in vectors.values()), width or otherwise)
        if width not in (None, actual):
            raise ModelError(f"student.{setting} is {width}, but {self.vectors} has vectors of width {actual}; leave it out")
        return TokenTable(tokenizer, actual, chosen.teacher_rows, vectors)
