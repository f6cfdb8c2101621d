"""Word replacement: a word gives way to one that fits in its place, or is near to it in meaning."""

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

WORD_STARTS = ("Ġ", "▁")  # what byte-level BPE and SentencePiece write for the space before a word


class WordReplacement(Augmenter):
    """Each word is replaced, with a probability, by one of the likeliest words in its place.

    A word that is one token of the masked language model gives way to what the model expects there, with the whole text to read beside
    the masked one; a word of several tokens, or where no model is given, to the nearest in word vectors. The words of a text that are
    to change go through the model together. Numbers are left alone. The label is the teacher's to give: what is likely in the place of
    "good" may be "bad", and the paper trains on the teacher's outputs for the copies alone.

    Args:
        masked_lm: folder of a masked language model, or None.
        vectors: file of word vectors (GloVe or word2vec text, or `.npz`), or None.
        probability: of each word.
        candidates: how many words it may become, all alike likely.

    Raises:
        ValueError: a setting out of its range, or neither model nor vectors.

    Source: Jiao et al. 2020, arXiv:1909.10351, algorithm 1 (probability 0.4, 15 candidates). Departs: its code leaves English stop words.
    """

    def __init__(
        self,
        *,
        masked_lm: str | None = None,
        vectors: str | None = None,
        probability: float = 0.4,
        candidates: int = 15,
    ) -> None:
        if not 0 < probability <= 1:
            raise ValueError(f"probability is {probability}; it must be above 0 and at most 1")
        if candidates < 1:
            raise ValueError(f"candidates is {candidates}; at least 1 is needed")
        if masked_lm is None and vectors is None:
            raise ValueError(
                "masked_lm and vectors are both missing; give the folder of a masked language model, word vectors, or both"
            )
        self.masked_lm, self.vectors = masked_lm, vectors
        self.probability, self.candidates = probability, candidates
        self._asked_of: tuple[str, ...] = ()
        self._answers: dict[int, tuple[str, ...]] = {}
        self._near = lru_cache(maxsize=None)(self._nearest)

    def prepare(self, material: AugmentationContext) -> None:
        from understudy.students.vectors import read_vectors

        if self.vectors is not None:
            found = read_vectors(self.vectors, None, setting="word_replacement.vectors")
            self._words = list(found)
            matrix = np.stack([found[word] for word in self._words])
            self._matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True).clip(min=1e-12)
            self._place = {word: place for place, word in reversed(list(enumerate(self._words)))}
        if self.masked_lm is not None:
            self._model = _load(Path(self.masked_lm))

    def change(self, pieces: list[str], draw: Random) -> list[str]:
        chosen = [place for place, piece in enumerate(pieces)
                  if is_word(piece) and any(letter.isalpha() for letter in piece) and draw.random() < self.probability]  # fmt: skip
        expected = self._expected(tuple(pieces), chosen) if self.masked_lm is not None else {}
        found = list(pieces)
        for place in chosen:
            word = pieces[place].strip()
            choice = expected.get(place) or (self._near(word.lower()) if self.vectors is not None else ())
            if choice:
                found[place] = put(_cased(draw.choice(choice), word), pieces[place])
        return found

    def _expected(self, pieces: tuple[str, ...], chosen: list[int]) -> dict[int, tuple[str, ...]]:
        """What the model expects in the places chosen; copies of a text come one after the other and share what was asked."""
        if pieces != self._asked_of:
            self._asked_of, self._answers = pieces, {}
        self._answers |= self._ask(pieces, [place for place in chosen if place not in self._answers])
        return self._answers

    def _nearest(self, word: str) -> tuple[str, ...]:
        place = self._place.get(word)
        if place is None:
            return ()
        nearest = np.argsort(-(self._matrix @ self._matrix[place]), kind="stable")
        return tuple(self._words[other] for other in nearest[nearest != place][: self.candidates])

    def _ask(self, pieces: tuple[str, ...], chosen: list[int]) -> dict[int, tuple[str, ...]]:
        """What the model expects in each of the places; nothing where the word is not one of its tokens."""
        found: dict[int, tuple[str, ...]] = dict.fromkeys(chosen, ())
        tokens = self._own_tokens(pieces) if chosen else {}
        places = [place for place in chosen if place in tokens]
        for start in range(0, len(places), ROWS_A_BATCH):
            found |= self._likely(pieces, {place: tokens[place] for place in places[start : start + ROWS_A_BATCH]})
        return found

    def _own_tokens(self, pieces: tuple[str, ...]) -> dict[int, str]:
        """The places of words that are one token, with the space before them, and that token."""
        tokenizer = self._model.tokenizer
        whole = zip(accumulate(map(len, pieces)), pieces, strict=True)
        ends = [end - len(piece) + len(piece.rstrip()) for end, piece in whole]
        starts = [0, *ends]
        cut = tokenizer(
            "".join(pieces).rstrip(), add_special_tokens=False, truncation=True, max_length=self._model.max_length,
            return_offsets_mapping=True,
        )  # fmt: skip
        tokens = defaultdict(list)
        for token, (start, end) in zip(cut["input_ids"], cut["offset_mapping"], strict=True):
            tokens[bisect_left(ends, end)].append((token, start, end))
        return {
            place: tokenizer.convert_ids_to_tokens(token)
            for place, [(token, start, end), *more] in tokens.items()
            if not more and starts[place] <= start and end == ends[place] and token != tokenizer.unk_token_id
        }

    def _likely(self, pieces: tuple[str, ...], tokens: dict[int, str]) -> dict[int, tuple[str, ...]]:
        """The words that are likeliest in the place of each of these tokens."""
        import torch

        model, tokenizer = self._model.model, self._model.tokenizer
        masked = [
            "".join([*pieces[:place], put(tokenizer.mask_token, pieces[place]), *pieces[place + 1 :]])
            for place in tokens
        ]
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
        first = masks.int().argmax(dim=1)  # the second text may hold the mask's own word; 0 where the mask was cut off
        # Of all tokens only the masked one goes through the vocabulary's map, which would cost as much as the encoder.
        hook = model.get_output_embeddings().register_forward_pre_hook(
            lambda _, inputs: (inputs[0][torch.arange(len(first)), first],)
        )
        try:
            with torch.inference_mode():
                logits = model(**batch).logits
        finally:
            hook.remove()
        found: dict[int, tuple[str, ...]] = {}
        for row, (place, token) in enumerate(tokens.items()):
            if not masks[row].any():
                continue  # cut off
            likely = logits[row].topk(min(3 * self.candidates, logits.shape[-1])).indices.tolist()
            # A token without the mark of a word's start goes on with the word before it; it may only replace its like.
            words = [
                tokenizer.convert_tokens_to_string([other]).strip()
                for other in tokenizer.convert_ids_to_tokens(likely)
                if other.startswith(WORD_STARTS) == token.startswith(WORD_STARTS)
            ]
            fit = [word for word in words if word.isalpha() and word.lower() != pieces[place].strip().lower()]
            found[place] = tuple(fit[: self.candidates])
        return found


def _cased(word: str, as_in: str) -> str:
    return word.capitalize() if as_in[:1].isupper() and not as_in.isupper() else word


def _load(folder: Path) -> TextModel:
    from transformers import AutoModelForMaskedLM

    setting, kind = "word_replacement.masked_lm", "masked language model"
    if not folder.is_dir():
        raise RecipeError(f"{setting}: no folder {folder}; give a {kind}'s, or word_replacement.vectors alone")
    loaded = load_model(folder, AutoModelForMaskedLM, setting=setting, kind=kind)
    if loaded.tokenizer.mask_token is None:
        raise ModelError(f"{setting}: {folder} is not a {kind}: its tokenizer has no mask token")
    return loaded
