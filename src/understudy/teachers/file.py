"""A teacher that is a file of answers, as a program or a language model wrote it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from understudy.errors import DataError
from understudy.teachers.answers import (
    SHOWN,
    Labelled,
    Reader,
    answers_in,
    count_names,
    folded,
    is_number,
    is_sentence,
    renamed,
    unknown_names,
)
from understudy.teachers.confidence import is_percent, number, scale_of
from understudy.teachers.teacher import Teacher, logits_of_probabilities

if TYPE_CHECKING:
    import datasets

_FREQUENT = 0.01  # share of the answers: an unknown label at least this frequent is a class, not a misspelling
_SOME = 0.05  # share of the answers: a sentence rarer than this is a refusal, not a class
_LEVEL = 0.01  # of the tests of an order: the probability of refusing a correct one
_LEAST_CHECKED = 8  # labelled rows: fewer cannot contradict an order at that level, even if all do (2 · 0.5⁸ = 0.0078)
_FOLDS = 5


class FileTeacher(Teacher):
    """A black box: rows whose answers are in a file.

    Where a file has several of them, the answers are the first of: a column `logits`; a column `probabilities`; a column of
    probabilities for each class, named as the class or with `p_` or `prob_` before it; a column `label`, perhaps with `confidence`.
    `logits` and `probabilities` hold a list in the order of the classes, or `{class: number}`. Classes that an answer does not name
    share the rest to 1; none is likelier than one that it names. For a task of numbers, `logits` or `label` hold a number.
    Probabilities and confidences are on one scale in the whole file: 0 to 1, 5, 10 or 100.

    A row whose answer cannot be read is left out: it is in `unanswered`, and a note counts such rows.

    Args:
        path: a file in any format that rows can be read from; a CSV holds lists and mappings as JSON.
        columns: our name → the file's name; a file that has our names needs none.
        label_names: classes in the order of the outputs; None: the classes in the file, sorted.
        number: the task's labels are numbers.
        scale: the number that means certainty in probabilities and confidences; None: inferred from all of them.

    Raises:
        DataError: no column with answers, unknown classes, one text with two answers, answers of which most cannot be read, or numbers
            of more than one scale.
    """

    def __init__(
        self, path: str, columns: Mapping[str, str], label_names: Sequence[str] | None, *, number: bool = False, scale: float | None = None
    ) -> None:
        from understudy.data.sources import read_table
        from understudy.data.tables import Source, identity, texts_of

        self.path = path
        self.notes: list[str] = []
        label_column = columns.get("label", "label")
        table = renamed(read_table(path, {}, mixed=("label", label_column)), columns, path)
        texts = texts_of(Source(path, table), "text")
        pairs = texts_of(Source(path, table), "text_pair") if "text_pair" in table.column_names else [None] * len(texts)
        kind, answers = answers_in(table, path, label_names, number)
        # Whether numbers belong to classes by their position, not by name.
        self.in_order = not number and any(isinstance(answer, list) for answer in answers)
        names = None if number else tuple(label_names or self._names_in(answers))
        if kind in ("logits", "number"):
            scale = 1
        elif scale is None:
            scale = self._scale_in(answers)
        read = Reader(kind, names, scale)
        if names is not None:
            self._check_names(answers, read)
        values: dict[int, np.ndarray] = {}
        failed: dict[int, str] = {}
        for row, answer in enumerate(answers):
            try:
                values[row] = read(answer)
            except ValueError as error:
                failed[row] = f"row {row + 1}: {error}"
        if len(failed) > len(answers) / 2:
            raise DataError(f"{path}: {len(failed)} of {len(answers)} answers cannot be used; {_first(failed.values())}")
        outputs = np.stack(list(values.values()))
        like_probabilities = (
            kind == "logits" and names is not None and bool((outputs >= 0).all()) and np.allclose(outputs.sum(1), 1, atol=1e-3)
        )
        if kind not in ("logits", "number"):
            outputs = logits_of_probabilities(_normalised(outputs))
        keys = list(map(identity, texts, pairs))
        self._by_identity = self._each_once(keys, dict(zip(values, outputs.astype(np.float32), strict=True)))
        self.unanswered = frozenset(keys[row] for row in failed) - self._by_identity.keys()
        self.label_names = names
        self.fingerprint = {"answers": self._digest(), "labels": list(names or ())}
        self.in_order |= read.by_position
        notes = self._notes(read, answers, list(failed.values()), named=bool(label_names))
        self.notes = [f"{path}: {note}" for note in notes]
        if like_probabilities:
            self.notes.append(
                f"Warning: {path}: its logits are not below 0 and sum to 1 in every row; if they are probabilities, call the "
                "column probabilities: as logits they are nearly the same for all classes"
            )

    def _notes(self, read: Reader, answers: Sequence[Any], failed: Sequence[str], *, named: bool) -> Iterator[str]:
        """Notes on the answers that are left out, and on how the others are read."""
        if failed:
            yield f"{len(failed)} of {len(answers)} answers cannot be used, and their rows are left out: {_first(failed)}"
        if read.scale != 1 or any(isinstance(answer, Labelled) and answer.confidence is not None for answer in answers):
            yield (
                f"its confidences and probabilities are read on a scale of 0 to {read.scale:g}: {0.8 * read.scale:g} as 0.8. If they are "
                "on another one, say which with --set teacher.confidence_scale=N."
            )
        if read.longer:
            examples = "; ".join(f"{' '.join(got.split())!r:.80} as '{name}'" for got, name in list(read.longer.items())[:SHOWN])
            yield f"answers that are more than the name of a class are read as the one class that they give: {examples}."
        if read.slips:
            examples = ", ".join(f"{got!r} as '{name}'" for got, name in list(read.slips.items())[:SHOWN])
            yield f"Spellings that differ in case, blanks or punctuation are read as the class: {examples}."
        names = self.label_names
        if names and not named:
            counts = Counter(int(logits.argmax()) for logits in self._by_identity.values())
            counted = ", ".join(f"{name} ({counts[place]:,})" for place, name in enumerate(names[:30]))
            rare = [name for place, name in enumerate(names) if counts[place] < _FREQUENT * len(answers)]
            doubt = f" Rare: {', '.join(rare[:SHOWN])}{', …' if len(rare) > SHOWN else ''}. If they are no classes, give the list of "
            doubt += "classes as data.label_names."
            yield (
                f"The classes are those of the file, {len(names)} of them, here with how many answers: {counted}"
                + (", …" if len(names) > 30 else ".")
                + (doubt if rare else "")
            )

    def covers(self, rows: datasets.Dataset) -> bool:
        return self.answered(rows) == len(rows)

    def answered(self, rows: datasets.Dataset) -> int:
        """How many of the rows have an answer."""
        return sum(key in self._by_identity for key in rows["identity"])

    def logits(self, rows: datasets.Dataset, *, device: str) -> np.ndarray:
        missing = [text for key, text in zip(rows["identity"], rows["text"], strict=True) if key not in self._by_identity]
        if missing:
            raise DataError(
                f"{self.path}: {len(missing)} of {len(rows)} rows have no teacher output in it; the first is {missing[0][:80]!r}"
            )
        return np.stack([self._by_identity[key] for key in rows["identity"]])

    def check_order(self, rows: Sequence[datasets.Dataset], *, declared: bool) -> None:
        """Compare the order of the lists with the order of the classes on labelled rows, and add a note with the agreement.

        Args:
            rows: labelled rows; those that are not in the file are ignored.
            declared: the user gave the order.

        Raises:
            DataError: another order fits the labels significantly better; or there are too few labels, and the user gave no order.
        """
        names = self.label_names
        if names is None or not self.in_order:
            return
        labels_by_identity = {
            key: label for part in rows for key, label in zip(part["identity"], part["label"], strict=True) if key in self._by_identity
        }
        order = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        if len(labels_by_identity) < _LEAST_CHECKED:
            if not declared:
                raise DataError(
                    f"{self.path}: its lists do not say which number is of which class, and too few labelled rows are in it to tell; give "
                    f"the order of the lists with --set data.label_names='[…, …]', or write {{class: number}} instead of lists"
                )
            return
        predictions = np.stack([self._by_identity[key] for key in labels_by_identity]).argmax(-1)
        labels = np.asarray(list(labels_by_identity.values()))
        count = len(labels)

        def agreement(predictions: np.ndarray) -> str:
            return f"{(predictions == labels).mean():.0%}"

        if (better := better_order(predictions, labels, len(names))) is not None:
            better_names = ", ".join(names[place] for place in better[:12]) + (", …" if len(names) > 12 else "")
            raise DataError(
                f"{self.path}: read in the order {order}, its answers agree with {agreement(predictions)} of {count} labels; "
                f"read in the order {better_names}, with {agreement(better[predictions])}. Put the numbers into the first order, or write "
                "{class: number} instead of lists (of labels, names instead of numbers)"
            )
        frequencies = [np.bincount(classes, minlength=len(names)) for classes in (predictions, labels)]
        chance = float(frequencies[0] @ frequencies[1]) / count**2
        weak = binomtest(int((predictions == labels).sum()), count, chance, alternative="greater").pvalue >= _LEVEL
        self.notes.append(
            ("Warning: " if weak else "")
            + f"{self.path}: its numbers are read in the order {order}; so its answers agree with "
            + f"{agreement(predictions)} of {count} labels"
            + (f", which is not significantly more than by chance ({chance:.0%}): check the order." if weak else ".")
        )

    def _scale_in(self, answers: Sequence[Any]) -> float:
        """The number that means certainty, from all the answers together."""
        likeliest, totals = [], []
        for answer in answers:
            written = [answer.confidence] if isinstance(answer, Labelled) else answer
            values = list(written.values() if isinstance(written, dict) else written if isinstance(written, list) else [])
            try:
                numbers = [number(value) for value in values if not is_percent(value)]
            except ValueError:
                continue  # not an answer
            if numbers and min(numbers) >= 0:
                likeliest.append(max(numbers))
                totals += [] if isinstance(answer, Labelled) or len(numbers) < len(values) else [sum(numbers)]
        try:
            return scale_of(likeliest, totals)
        except ValueError as error:
            raise DataError(
                f"{self.path}: its confidences (of each answer, the number of the likeliest class) go {error}; give the number that means "
                "certainty, with --set teacher.confidence_scale=1 (or 5, 10, 100). Answers beyond that are then left out"
            ) from None

    def _names_in(self, answers: Sequence[Any]) -> tuple[str, ...]:
        """The classes that the answers name, each in its most frequent spelling; sorted, numbers by value.

        Raises:
            DataError: no names, only one, too many for classes, or one that is probably a misspelling of another.
        """
        counts = count_names(answers)
        spellings: dict[str, str] = {}
        for name, count in counts.most_common():
            if "\n" in name or (count < _SOME * len(answers) and is_sentence(name)):
                continue  # a refusal, or an explanation
            spellings.setdefault(folded(name), name.rstrip(".。 ") or name)
        names = list(spellings.values())
        if not names:
            raise DataError(
                f"{self.path}: nothing in it names the classes; give them in the order of the numbers, as in "
                "--set data.label_names='[bad, good]'"
            )
        if len(names) < 2:
            raise DataError(f"{self.path}: all answers are of the one class '{names[0]}'; at least two are needed")
        if len(names) > max(20, len(answers) / 2):
            raise DataError(
                f"{self.path}: {len(names)} different answers in {len(answers)} rows are too many for classes; give the classes with "
                "--set data.label_names='[…, …]', or a file with nothing but the class"
            )
        self._check_spelling(counts, spellings)
        return tuple(sorted(names, key=lambda name: (0, float(name), name) if is_number(name) else (1, 0.0, name)))

    def _check_spelling(self, name_counts: Mapping[str, int], spellings: Mapping[str, str]) -> None:
        """Refuse classes of which one is probably a misspelling of another, where the classes are known from the answers only.

        Args:
            name_counts: name in the answers → how often.
            spellings: folded name → its class.

        Raises:
            DataError: there is such a class.
        """
        from understudy.data.spelling import misspelt

        counts: Counter[str] = Counter()
        for name, count in name_counts.items():
            if folded(name) in spellings:
                counts[spellings[folded(name)]] += count
        if slips := misspelt(counts):
            misspellings = ", ".join(
                f"'{slip}' {counts[slip]:,} times beside '{name}' {counts[name]:,} times" for slip, name in slips[:SHOWN]
            )
            classes = ", ".join(sorted(counts)) if len(counts) <= 12 else "…, …"
            raise DataError(
                f"{self.path}: its answers name {misspellings}{', …' if len(slips) > SHOWN else ''}: misspelt? Correct the file; or, where "
                f"these are classes of their own, give all classes: --set data.label_names='[{classes}]'"
            )

    def _check_names(self, answers: Sequence[Any], read: Reader) -> None:
        """Refuse unknown names that are similar to a class, or as frequent as one. Answers with other unknown names are left out.

        Raises:
            DataError: there are such names.
        """
        assert read.names is not None
        unknown: dict[str, tuple[int, str | None]] = {}
        for name, count in count_names(answers).items():
            if is_sentence(name) or read.understands(name):
                continue
            near = get_close_matches(name, read.names, n=1) if len(name) < 100 and not read.mentions(name) else []
            if near or count >= max(3, _FREQUENT * len(answers)):
                unknown[name] = count, near[0] if near else None
        if unknown:
            raise DataError(f"{self.path}: {unknown_names(unknown, read.names)}")

    def _each_once(self, keys: Sequence[str], outputs: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
        """Identity → outputs.

        Args:
            keys: identity of every row.
            outputs: row → its outputs, of the answers that could be read.

        Raises:
            DataError: a text has two answers.
        """
        by_identity: dict[str, np.ndarray] = {}
        first: dict[str, int] = {}
        contradictions: list[tuple[int, int]] = []
        for row, values in outputs.items():
            if not np.array_equal(by_identity.setdefault(keys[row], values), values):
                contradictions.append((row + 1, first[keys[row]] + 1))
            first.setdefault(keys[row], row)
        if contradictions:
            row, before = contradictions[0]
            raise DataError(
                f"{self.path}: row {row}: the text of row {before} with another answer"
                + (f" ({len(contradictions)} rows are so)" if len(contradictions) > 1 else "")
                + "; keep one answer of each text"
            )
        return by_identity

    def _digest(self) -> str:
        """Hash of the texts with their outputs; it does not depend on the file's name or the order of its rows."""
        digest = hashlib.sha256()
        for key in sorted(self._by_identity):
            digest.update(key.encode() + self._by_identity[key].tobytes())
        return digest.hexdigest()


def _first(reasons: Iterable[str]) -> str:
    """The first few reasons in a line."""
    reasons = list(reasons)
    return "; ".join(reasons[:SHOWN]) + ("; …" if len(reasons) > SHOWN else ".")


def _normalised(values: np.ndarray) -> np.ndarray:
    """Rows scaled to sum 1: (rows, classes)."""
    return values / values.sum(-1, keepdims=True)


def better_order(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """The order of the classes, place in the list → class, where it fits the labels significantly better than the given order.

    By chance alone the order that fits best fits better than the given one, and the more so the more classes. So each row is tested
    with the order that fits the other rows best (five folds), and its correct rows are compared with those of the given order by
    McNemar's exact test.

    Args:
        predictions: the place of the largest number in each list: (rows,).
        labels: (rows,).
        classes: number of classes.

    Returns:
        (classes,); None where no order is significantly better.

    >>> better_order(np.array([0, 1] * 5), np.array([1, 0] * 5), 2), better_order(np.array([0, 1] * 5), np.array([0, 1] * 5), 2)
    (array([1, 0]), None)
    """
    ranks = np.zeros(len(labels), dtype=int)
    for label in np.unique(labels):
        ranks[labels == label] = np.arange((labels == label).sum())
    folds = (ranks + labels) % _FOLDS  # each fold has about equally many rows of a class
    reordered = np.zeros(len(labels), dtype=int)
    for fold in range(_FOLDS):
        held_out = folds == fold
        reordered[held_out] = _best_order(predictions[~held_out], labels[~held_out], classes)[predictions[held_out]]
    only_reordered = int(((reordered == labels) & (predictions != labels)).sum())
    only_given = int(((reordered != labels) & (predictions == labels)).sum())
    if only_reordered <= only_given or binomtest(only_reordered, only_reordered + only_given).pvalue >= _LEVEL:
        return None
    return _best_order(predictions, labels, classes)


def _best_order(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The order with the most correct predictions, place in the list → class; of equal orders the one nearest to the given."""
    counts = np.eye(classes) * 0.5
    np.add.at(counts, (predictions, labels), 1)
    return linear_sum_assignment(counts, maximize=True)[1]
