"""Part-of-speech replacement: a word gives way to another of its kind."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from understudy.augmenters.base import ROWS_A_BATCH, AugmentationContext, Augmenter, is_word, load_model, put
from understudy.errors import DataError, ModelError, RecipeError

SUFFIX = 3  # letters at the end of a word that stand for it where it was never tagged
SPACY = "spacy:"


class PartOfSpeech(Augmenter):
    """Each word is replaced, with a probability, by a word of the same part of speech, as often as that stands in the data.

    The label is the teacher's to give: the rule "perturbs the semantics of each example", as the paper says.

    Words are tagged by a lexicon (the tag that a word has most often in tagged text; by its last letters where it was never seen), or
    by a model, which sees the sentence. Words are drawn from all the rows, so a copy depends on the other rows too.

    Args:
        tagger: a file of tagged rows with the columns `tokens` and `tags`, the folder of a token-classification model, or a spaCy
            pipeline by name or folder, as in `spacy:en_core_web_sm`.
        probability: of each word.

    Raises:
        ValueError: a probability out of its range.

    Source: Tang et al. 2019, arXiv:1903.12136, section 3.3 (probability 0.1; the paper tags with spaCy).
    """

    def __init__(self, *, tagger: str, probability: float = 0.1) -> None:
        if not 0 < probability < 1:
            raise ValueError(f"probability is {probability}; it must be between 0 and 1")
        self.tagger, self.probability = tagger, probability
        self._tags: dict[str, str] = {}
        self._words: dict[str, tuple[list[str], list[int]]] = {}

    def prepare(self, material: AugmentationContext) -> None:
        counts = Counter(
            piece.strip().lower() for text in material.texts for piece in material.pieces(text) if is_word(piece)
        )
        path = Path(self.tagger)
        if self.tagger.startswith(SPACY):
            self._tags = _tagged_by_spacy(self.tagger.removeprefix(SPACY), material)
        elif path.is_dir():
            self._tags = _tagged_by_model(path, material)
        elif path.is_file():
            self._tags = _tagged_by_lexicon(path, counts)
        else:
            raise RecipeError(
                f"part_of_speech.tagger: {path} is neither a file of tagged rows nor a model folder; "
                f"a spaCy pipeline is written {SPACY}NAME"
            )
        if not self._tags.keys() & counts.keys():
            raise DataError(
                f"part_of_speech.tagger: {self.tagger} has a tag for none of the {len(counts)} words of the data; "
                "is it for another language?"
            )
        grouped: dict[str, list[str]] = defaultdict(list)
        for word in sorted(counts):
            if word in self._tags:
                grouped[self._tags[word]].append(word)
        self._words = {tag: (words, list(accumulate(counts[word] for word in words))) for tag, words in grouped.items()}

    def change(self, pieces: list[str], draw: Random) -> list[str]:
        return [
            self._other(piece, draw) if is_word(piece) and draw.random() < self.probability else piece
            for piece in pieces
        ]

    def _other(self, piece: str, draw: Random) -> str:
        word = piece.strip()
        tag = self._tags.get(word.lower())
        if tag is None:  # a mask, say
            return piece
        words, cumulative = self._words[tag]
        found = draw.choices(words, cum_weights=cumulative)[0]
        return put(found.capitalize() if word[:1].isupper() and not word.isupper() else found, piece)


def _tagged_by_lexicon(path: Path, words: Counter[str]) -> dict[str, str]:
    """The commonest tag of each word, or of words that end alike."""
    from understudy.data.sources import read_table

    table = read_table(str(path), {})
    if not {"tokens", "tags"} <= set(table.column_names):
        raise RecipeError(
            f"part_of_speech.tagger: {path} needs the columns tokens and tags; it has {', '.join(table.column_names)}"
        )
    known: dict[str, Counter[str]] = defaultdict(Counter)
    for row, columns in enumerate(zip(table["tokens"], table["tags"], strict=True), 1):
        where = f"part_of_speech.tagger: {path}: row {row}"
        tokens, tags = (
            _listed(value, f"{where}: {name}") for name, value in zip(("tokens", "tags"), columns, strict=True)
        )
        if len(tokens) != len(tags):
            raise DataError(f"{where} has {len(tokens)} tokens and {len(tags)} tags; every token needs one tag")
        for token, tag in zip(tokens, tags, strict=True):
            known[token.lower()][tag] += 1
            known["-" + token.lower()[-SUFFIX:]][tag] += 1
    found = {}
    for word in words:
        seen = known.get(word) or known.get("-" + word[-SUFFIX:])
        if seen:
            found[word] = _commonest(seen)
    return found


def _listed(value: Any, where: str) -> list[str]:
    """The tokens or tags of a row; numbers become their names."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = value
    if not isinstance(found, list):
        raise DataError(f'{where} is {found!r:.60}; a list is needed, which CSV writes as JSON: ["a", "film"]')
    if None in found:
        raise DataError(
            f"{where} is empty at position {found.index(None) + 1} of {len(found)}; fill it in, or drop the row"
        )
    return [str(one) for one in found]


def _tagged_by_spacy(name: str, material: AugmentationContext) -> dict[str, str]:
    """The tag that the pipeline gives each word most often; a word of several tokens goes by its first."""
    try:
        import spacy
    except ImportError as error:
        raise RecipeError(
            f"part_of_speech.tagger is '{SPACY}{name}', but spaCy is not installed: `pip install spacy` (the extra spacy); "
            "a file of tagged rows, or a token-classification model, needs no spaCy"
        ) from error
    try:
        pipeline = spacy.load(name, exclude=["parser", "ner", "lemmatizer"])
    except (OSError, ImportError, ValueError) as error:
        raise RecipeError(
            f"part_of_speech.tagger: spaCy cannot load '{name}'; is it installed (`python -m spacy download {name}`)? It says: "
            f"{str(error).splitlines()[0]}"
        ) from error
    known: dict[str, Counter[str]] = defaultdict(Counter)
    for tagged in pipeline.pipe(material.texts, batch_size=ROWS_A_BATCH):
        starts = [token.idx for token in tagged]
        offset = 0
        for piece in material.pieces(tagged.text):
            if is_word(piece):
                token = tagged[bisect_right(starts, offset) - 1]
                known[piece.strip().lower()][token.tag_ or token.pos_] += 1
            offset += len(piece)
    found = {word: tag for word, seen in known.items() if (tag := _commonest(seen))}
    if not found:
        raise RecipeError(
            f"part_of_speech.tagger: the spaCy pipeline '{name}' has no tagger for parts of speech; use one that has"
        )
    return found


def _tagged_by_model(folder: Path, material: AugmentationContext) -> dict[str, str]:
    """The tag that the model gives each word most often in these texts."""
    import torch
    from transformers import AutoModelForTokenClassification

    kind = "token-classification model"
    tagger = load_model(folder, AutoModelForTokenClassification, setting="part_of_speech.tagger", kind=kind)
    config: Any = tagger.model.config
    # The head of a sentence classifier may have the names and the shape of a tagger's: only the folder's word tells them apart.
    if config.architectures and not any(name.endswith("ForTokenClassification") for name in config.architectures):
        raise ModelError(
            f"part_of_speech.tagger: {folder} is not a {kind}: it holds a {config.architectures[0]}, so its tags would be random"
        )
    texts = material.texts
    known: dict[str, Counter[str]] = defaultdict(Counter)
    for start in range(0, len(texts), ROWS_A_BATCH):
        rows = [[piece.strip() for piece in material.pieces(text)] for text in texts[start : start + ROWS_A_BATCH]]
        batch = tagger.tokenizer(
            rows,
            is_split_into_words=True,
            truncation=True,
            max_length=tagger.max_length,
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            chosen = tagger.model(**batch).logits.argmax(-1)
        for row, words in enumerate(rows):
            done = set()
            for position, word in enumerate(batch.word_ids(row)):
                if word is not None and word not in done:  # a word's first subword speaks for it
                    done.add(word)
                    known[words[word].lower()][config.id2label[int(chosen[row, position])]] += 1
    return {word: _commonest(seen) for word, seen in known.items()}


def _commonest(seen: Counter[str]) -> str:
    """The tag seen most often; of equals the first by name."""
    return min(seen, key=lambda tag: (-seen[tag], tag))
