"""Part-of-speech replacement: a word is replaced by another of the same part of speech."""

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

SUFFIX = 3  # a word without a tag gets that of words with the same last letters, this many
SPACY = "spacy:"


class PartOfSpeech(Augmenter):
    """Each word is replaced, with a probability, by a word of the same part of speech, drawn by its frequency in the data.

    The teacher labels the copies: the rule "perturbs the semantics of each example", as the paper says.

    Words are tagged by a lexicon (the most frequent tag of the word in tagged text; of its last letters where the word does not occur
    there), or by a model, which reads the sentence. Words are drawn from all the rows, so a copy depends on the other rows too.

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

    def prepare(self, context: AugmentationContext) -> None:
        counts = Counter(piece.strip().lower() for text in context.texts for piece in context.pieces(text) if is_word(piece))
        path = Path(self.tagger)
        if self.tagger.startswith(SPACY):
            self._tags = _tagged_by_spacy(self.tagger.removeprefix(SPACY), context)
        elif path.is_dir():
            self._tags = _tagged_by_model(path, context)
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
        return [self._replaced(piece, draw) if is_word(piece) and draw.random() < self.probability else piece for piece in pieces]

    def _replaced(self, piece: str, draw: Random) -> str:
        """A word with the same tag, in upper case as the piece; the piece itself where it has no tag, as a mask."""
        word = piece.strip()
        tag = self._tags.get(word.lower())
        if tag is None:
            return piece
        words, cumulative = self._words[tag]
        new = draw.choices(words, cum_weights=cumulative)[0]
        return put(new.capitalize() if word[:1].isupper() and not word.isupper() else new, piece)


def _tagged_by_lexicon(path: Path, words: Counter[str]) -> dict[str, str]:
    """The most frequent tag of each word, or of words with the same last letters."""
    from understudy.data.sources import read_table

    table = read_table(str(path), {})
    if not {"tokens", "tags"} <= set(table.column_names):
        raise RecipeError(f"part_of_speech.tagger: {path} needs the columns tokens and tags; it has {', '.join(table.column_names)}")
    counts: dict[str, Counter[str]] = defaultdict(Counter)  # word, or - and its last letters → how often it has each tag
    for row, columns in enumerate(zip(table["tokens"], table["tags"], strict=True), 1):
        where = f"part_of_speech.tagger: {path}: row {row}"
        tokens, tags = (_listed(value, f"{where}: {name}") for name, value in zip(("tokens", "tags"), columns, strict=True))
        if len(tokens) != len(tags):
            raise DataError(f"{where} has {len(tokens)} tokens and {len(tags)} tags; every token needs one tag")
        for token, tag in zip(tokens, tags, strict=True):
            counts[token.lower()][tag] += 1
            counts["-" + token.lower()[-SUFFIX:]][tag] += 1
    tags_of = {word: counts.get(word) or counts.get("-" + word[-SUFFIX:]) for word in words}
    return {word: _most_frequent(tags) for word, tags in tags_of.items() if tags}


def _listed(value: Any, where: str) -> list[str]:
    """The tokens or tags of a row; numbers become their names."""
    try:
        members = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        members = value
    if not isinstance(members, list):
        raise DataError(f'{where} is {members!r:.60}; a list is needed, which CSV writes as JSON: ["a", "film"]')
    if None in members:
        raise DataError(f"{where} is empty at position {members.index(None) + 1} of {len(members)}; fill it in, or drop the row")
    return [str(member) for member in members]


def _tagged_by_spacy(name: str, context: AugmentationContext) -> dict[str, str]:
    """The tag that the pipeline gives each word most often; a word of several tokens has the tag of its first."""
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
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for tagged in pipeline.pipe(context.texts, batch_size=ROWS_A_BATCH):
        starts = [token.idx for token in tagged]
        offset = 0
        for piece in context.pieces(tagged.text):
            if is_word(piece):
                token = tagged[bisect_right(starts, offset) - 1]
                counts[piece.strip().lower()][token.tag_ or token.pos_] += 1
            offset += len(piece)
    tags = {word: tag for word, word_counts in counts.items() if (tag := _most_frequent(word_counts))}
    if not tags:
        raise RecipeError(f"part_of_speech.tagger: the spaCy pipeline '{name}' has no tagger for parts of speech; use one that has")
    return tags


def _tagged_by_model(folder: Path, context: AugmentationContext) -> dict[str, str]:
    """The tag that the model gives each word most often in these texts."""
    import torch
    from transformers import AutoModelForTokenClassification

    kind = "token-classification model"
    tagger = load_model(folder, AutoModelForTokenClassification, setting="part_of_speech.tagger", kind=kind)
    config: Any = tagger.model.config
    # The weights of a sentence classifier's head may have the names and shapes of a tagger's; only the configuration tells which it is.
    if config.architectures and not any(name.endswith("ForTokenClassification") for name in config.architectures):
        raise ModelError(
            f"part_of_speech.tagger: {folder} is not a {kind}: it holds a {config.architectures[0]}, so its tags would be random"
        )
    texts = context.texts
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for start in range(0, len(texts), ROWS_A_BATCH):
        rows = [[piece.strip() for piece in context.pieces(text)] for text in texts[start : start + ROWS_A_BATCH]]
        batch = tagger.tokenizer(
            rows, is_split_into_words=True, truncation=True, max_length=tagger.max_length, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            predictions = tagger.model(**batch).logits.argmax(-1)
        for row, words in enumerate(rows):
            done = set()
            for position, word in enumerate(batch.word_ids(row)):
                if word is not None and word not in done:  # a word has the tag of its first token
                    done.add(word)
                    counts[words[word].lower()][config.id2label[int(predictions[row, position])]] += 1
    return {word: _most_frequent(tags) for word, tags in counts.items()}


def _most_frequent(counts: Counter[str]) -> str:
    """The tag with the highest count; of equals the first by name."""
    return min(counts, key=lambda tag: (-counts[tag], tag))
