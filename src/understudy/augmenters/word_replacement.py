"""Word replacement: a word is replaced by one that a language model expects in its place, or that is near in word vectors."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from understudy.augmenters.base import ROWS_A_BATCH, AugmentationContext, Augmenter, is_word, load_model, put
from understudy.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from understudy.models.text_model import TextModel

WORD_STARTS = ("Ġ", "▁")  # how byte-level BPE and SentencePiece write the space before a word


class WordReplacement(Augmenter):
    """Each word is replaced, with a probability, by one of the likeliest words in its place.

    A word that is one token of the masked language model is replaced by a word that the model expects there; it reads the whole text
    beside the masked one. A word of several tokens, or every word where no model is given, is replaced by one of the nearest in word
    vectors. The words of a text that are to change go through the model together. Numbers do not change. The teacher labels the
    copies: a likely word in the place of "good" may be "bad", and the paper trains on the teacher's outputs for the copies alone.

    Args:
        masked_lm: folder of a masked language model, or None.
        vectors: file of word vectors (GloVe or word2vec text, or `.npz`), or None.
        probability: of each word.
        candidates: how many words it may become, all with the same probability.

    Raises:
        ValueError: a setting out of its range, or neither model nor vectors.

    Source: Jiao et al. 2020, arXiv:1909.10351, algorithm 1 (probability 0.4, 15 candidates). Departs: its code leaves English stop words.
    """

    def __init__(self, *, masked_lm: str | None = None, vectors: str | None = None, probability: float = 0.4, candidates: int = 15) -> None:
        if not 0 < probability <= 1:
            raise ValueError(f"probability is {probability}; it must be above 0 and at most 1")
        if candidates < 1:
            raise ValueError(f"candidates is {candidates}; at least 1 is needed")
        if masked_lm is None and vectors is None:
            raise ValueError("masked_lm and vectors are both missing; give the folder of a masked language model, word vectors, or both")
        self.masked_lm, self.vectors = masked_lm, vectors
        self.probability, self.candidates = probability, candidates
        self._last_pieces: tuple[str, ...] = ()  # of the text that `_last_expected` is of
        self._last_expected: dict[int, tuple[str, ...]] = {}
        self._near = lru_cache(maxsize=None)(self._nearest)

    def prepare(self, context: AugmentationContext) -> None:
        from understudy.students.vectors import read_vectors

        if self.vectors is not None:
            vectors = read_vectors(self.vectors, None, setting="word_replacement.vectors")
            self._words = list(vectors)
            matrix = np.stack([vectors[word] for word in self._words])
            self._matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True).clip(min=1e-12)
            self._place = {word: place for place, word in reversed(list(enumerate(self._words)))}
        if self.masked_lm is not None:
            self._model = _load(Path(self.masked_lm))

    def change(self, pieces: list[str], draw: Random) -> list[str]:
        chosen = [
            place
            for place, piece in enumerate(pieces)
            if is_word(piece) and any(letter.isalpha() for letter in piece) and draw.random() < self.probability
        ]
        expected = self._expected(tuple(pieces), chosen) if self.masked_lm is not None else {}
        changed = list(pieces)
        for place in chosen:
            word = pieces[place].strip()
            choice = expected.get(place) or (self._near(word.lower()) if self.vectors is not None else ())
            if choice:
                changed[place] = put(_cased(draw.choice(choice), word), pieces[place])
        return changed

    def _expected(self, pieces: tuple[str, ...], chosen: list[int]) -> dict[int, tuple[str, ...]]:
        """Place → the words that the model expects there, at least for the chosen places.

        Copies of a text come one after the other, so the model is run once for each place of a text.
        """
        if pieces != self._last_pieces:
            self._last_pieces, self._last_expected = pieces, {}
        new = [place for place in chosen if place not in self._last_expected]
        self._last_expected |= self._run_model(pieces, new)
        return self._last_expected

    def _nearest(self, word: str) -> tuple[str, ...]:
        """The nearest words by the cosine of their vectors, the nearest first; none where the word has no vector."""
        place = self._place.get(word)
        if place is None:
            return ()
        nearest = np.argsort(-(self._matrix @ self._matrix[place]), kind="stable")
        return tuple(self._words[neighbour] for neighbour in nearest[nearest != place][: self.candidates])

    def _run_model(self, pieces: tuple[str, ...], chosen: list[int]) -> dict[int, tuple[str, ...]]:
        """Place → the words that the model expects there; none where the word is not a single token."""
        expected: dict[int, tuple[str, ...]] = dict.fromkeys(chosen, ())
        tokens = self._single_tokens(pieces) if chosen else {}
        places = [place for place in chosen if place in tokens]
        for start in range(0, len(places), ROWS_A_BATCH):
            expected |= self._likely(pieces, {place: tokens[place] for place in places[start : start + ROWS_A_BATCH]})
        return expected

    def _single_tokens(self, pieces: tuple[str, ...]) -> dict[int, str]:
        """Place → its token, of the words that are a single token (with the space before them)."""
        tokenizer = self._model.tokenizer
        whole = zip(accumulate(map(len, pieces)), pieces, strict=True)
        ends = [end - len(piece) + len(piece.rstrip()) for end, piece in whole]
        starts = [0, *ends]
        encoding = tokenizer(
            "".join(pieces).rstrip(),
            add_special_tokens=False,
            truncation=True,
            max_length=self._model.max_length,
            return_offsets_mapping=True,
        )
        tokens = defaultdict(list)
        for token, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
            tokens[bisect_left(ends, end)].append((token, start, end))
        return {
            place: tokenizer.convert_ids_to_tokens(token)
            for place, [(token, start, end), *more] in tokens.items()
            if not more and starts[place] <= start and end == ends[place] and token != tokenizer.unk_token_id
        }

    def _likely(self, pieces: tuple[str, ...], tokens: dict[int, str]) -> dict[int, tuple[str, ...]]:
        """Place → the likeliest words there, of at most `candidates`.

        Args:
            pieces: of the text.
            tokens: place → its token, each masked in a row of its own.
        """
        import torch

        model, tokenizer = self._model.model, self._model.tokenizer
        masked = ["".join([*pieces[:place], put(tokenizer.mask_token, pieces[place]), *pieces[place + 1 :]]) for place in tokens]
        batch = tokenizer(
            masked,
            ["".join(pieces)] * len(masked),
            split_special_tokens=False,
            truncation=True,
            max_length=self._model.max_length,
            padding=True,
            return_tensors="pt",
        )
        masks = batch["input_ids"] == tokenizer.mask_token_id
        first = masks.int().argmax(dim=1)  # the second text may hold a mask, too; 0 where truncation removed the mask
        # Only the masked token goes through the map to the vocabulary; for all tokens it would cost as much as the encoder.
        hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0][torch.arange(len(first)), first],))
        try:
            with torch.inference_mode():
                logits = model(**batch).logits
        finally:
            hook.remove()
        expected: dict[int, tuple[str, ...]] = {}
        for row, (place, token) in enumerate(tokens.items()):
            if not masks[row].any():
                continue  # the mask was truncated
            likely = logits[row].topk(min(3 * self.candidates, logits.shape[-1])).indices.tolist()
            # A token that does not mark the start of a word continues the one before it; it may only replace such a token.
            words = [
                tokenizer.convert_tokens_to_string([candidate]).strip()
                for candidate in tokenizer.convert_ids_to_tokens(likely)
                if candidate.startswith(WORD_STARTS) == token.startswith(WORD_STARTS)
            ]
            new = [word for word in words if word.isalpha() and word.lower() != pieces[place].strip().lower()]
            expected[place] = tuple(new[: self.candidates])
        return expected


def _cased(word: str, as_in: str) -> str:
    """A word, with a capital where the other begins with one and is not all in capitals."""
    return word.capitalize() if as_in[:1].isupper() and not as_in.isupper() else word


def _load(folder: Path) -> TextModel:
    """A masked language model with its tokenizer.

    Raises:
        RecipeError: no such folder.
        ModelError: not a masked language model, or its tokenizer has no mask token.
    """
    from transformers import AutoModelForMaskedLM

    setting, kind = "word_replacement.masked_lm", "masked language model"
    if not folder.is_dir():
        raise RecipeError(f"{setting}: no folder {folder}; give a {kind}'s, or word_replacement.vectors alone")
    loaded = load_model(folder, AutoModelForMaskedLM, setting=setting, kind=kind)
    if loaded.tokenizer.mask_token is None:
        raise ModelError(f"{setting}: {folder} is not a {kind}: its tokenizer has no mask token")
    return loaded
