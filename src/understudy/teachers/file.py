"""A teacher of which only the answers are known: a file with them, as a program or a language model wrote it."""

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

_FREQUENT = 0.01  # of the answers: an unknown label as frequent as this is a class, and no slip
_SOME = 0.05  # of the answers: a sentence rarer than this is a refusal, and no class
_LEVEL = 0.01  # at which an order is refused that is right
_LEAST_CHECKED = 8  # labelled rows: even if all contradict an order, fewer do not at that level (2 · 0.5⁸ = 0.0078)
_FOLDS = 5


class FileTeacher(Teacher):
    """A black box: rows whose answers somebody wrote into a file.

    The answers are, in this order of preference, where several are there: a column `logits`; a column `probabilities`; a column of
    probabilities for each class, named as the class or with `p_` or `prob_` before it; a column `label`, perhaps with `confidence`.
    `logits` and `probabilities` hold a list in the order of the classes, or `{class: number}`. Classes that are not named share what is
    missing to 1, none with more than one that is named. For numbers, `logits` or `label` hold one. Probabilities and confidences are on
    one scale in the whole file, of 0 to 1, 5, 10 or 100.

    A row whose answer cannot be read is left out: it is in `unanswered`, and a note counts such rows.

    Args:
        path: any data file that rows can be read from; a CSV holds lists and mappings as JSON.
        columns: our name → the file's name; a file that has our names needs none.
        label_names: classes in the order of the outputs; None takes those that the file names, sorted.
        number: the task's labels are numbers.
        scale: what stands for certainty in probabilities and confidences; None: found from all of them.

    Raises:
        DataError: no column with answers, unknown classes, one text with two answers, answers of which most cannot be read, or numbers
            of more than one scale.
    """

    def __init__(
        self, path: str, columns: Mapping[str, str], label_names: Sequence[str] | None, *, number: bool = False,
        scale: float | None = None,
    ) -> None:  # fmt: skip
        from understudy.data.sources import read_table
        from understudy.data.tables import Source, identity, texts_of

        self.path = path
        self.notes: list[str] = []
        answer = columns.get("label", "label")
        table = renamed(read_table(path, {}, mixed=("label", answer)), columns, path)
        texts = texts_of(Source(path, table), "text")
        pairs = texts_of(Source(path, table), "text_pair") if "text_pair" in table.column_names else [None] * len(texts)
        kind, answers = answers_in(table, path, label_names, number)
        self.in_order = not number and any(isinstance(one, list) for one in answers)  # by place, not by name
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
            raise DataError(
                f"{path}: {len(failed)} of {len(answers)} answers cannot be used; {_first(failed.values())}"
            )
        outputs = np.stack(list(values.values()))
        shares = (
            kind == "logits"
            and names is not None
            and bool((outputs >= 0).all())
            and np.allclose(outputs.sum(1), 1, atol=1e-3)
        )
        if kind not in ("logits", "number"):
            outputs = logits_of_probabilities(_normalised(outputs))
        keys = list(map(identity, texts, pairs))
        self._by_identity = self._each_once(keys, dict(zip(values, outputs.astype(np.float32), strict=True)), kind)
        self.unanswered = frozenset(keys[row] for row in failed) - self._by_identity.keys()
        self.label_names = names
        self.fingerprint = {"answers": self._digest(), "labels": list(names or ())}
        self.in_order |= read.by_position
        notes = self._notes(read, answers, list(failed.values()), named=bool(label_names))
        self.notes = [f"{path}: {note}" for note in notes]
        if shares:
            self.notes.append(f"Warning: {path}: its logits are not below 0 and sum to 1 in every row; if they are probabilities, call the "
                              "column probabilities: as logits they are nearly the same for all classes")  # fmt: skip

    def _notes(self, read: Reader, answers: Sequence[Any], failed: Sequence[str], *, named: bool) -> Iterator[str]:
        """What was left out, and how the others were read."""
        if failed:
            yield f"{len(failed)} of {len(answers)} answers cannot be used, and their rows are left out: {_first(failed)}"
        if read.scale != 1 or any(isinstance(one, Labelled) and one.confidence is not None for one in answers):
            yield (
                f"its confidences and probabilities are read on a scale of 0 to {read.scale:g}: {0.8 * read.scale:g} as 0.8. If they are "
                "on another one, say which with --set teacher.confidence_scale=N."
            )
        if read.longer:
            said = "; ".join(
                f"{' '.join(got.split())!r:.80} as '{name}'" for got, name in list(read.longer.items())[:SHOWN]
            )
            yield f"answers that are more than the name of a class are read as the one class that they give: {said}."
        if read.slips:
            said = ", ".join(f"{got!r} as '{name}'" for got, name in list(read.slips.items())[:SHOWN])
            yield f"Spellings that differ in case, blanks or punctuation are read as the class: {said}."
        names = self.label_names
        if names and not named:
            counts = Counter(int(one.argmax()) for one in self._by_identity.values())
            said = ", ".join(f"{name} ({counts[place]:,})" for place, name in enumerate(names[:30]))
            rare = [name for place, name in enumerate(names) if counts[place] < _FREQUENT * len(answers)]
            doubt = f" Rare: {', '.join(rare[:SHOWN])}{', …' if len(rare) > SHOWN else ''}. If they are no classes, give the list of "
            doubt += "classes as data.label_names."
            yield (
                f"The classes are those of the file, {len(names)} of them, here with how many answers: {said}"
                + (", …" if len(names) > 30 else ".") + (doubt if rare else "")
            )  # fmt: skip

    def covers(self, rows: datasets.Dataset) -> bool:
        return self.answered(rows) == len(rows)

    def answered(self, rows: datasets.Dataset) -> int:
        """How many of the rows it answers."""
        return sum(key in self._by_identity for key in rows["identity"])

    def logits(self, rows: datasets.Dataset, *, device: str) -> np.ndarray:
        missing = [
            text for key, text in zip(rows["identity"], rows["text"], strict=True) if key not in self._by_identity
        ]
        if missing:
            raise DataError(
                f"{self.path}: {len(missing)} of {len(rows)} rows have no teacher output in it; the first is {missing[0][:80]!r}"
            )
        return np.stack([self._by_identity[key] for key in rows["identity"]])

    def check_order(self, rows: Sequence[datasets.Dataset], *, declared: bool) -> None:
        """Refuse lists whose order does not follow the classes, as far as labelled rows can tell; a note says what was found.

        Args:
            rows: labelled ones; those that are not in the file say nothing.
            declared: the user said what the order is.

        Raises:
            DataError: another order fits the labels far better; or no labels tell, and nobody said the order.
        """
        names = self.label_names
        if names is None or not self.in_order:
            return
        found = {
            key: label
            for part in rows
            for key, label in zip(part["identity"], part["label"], strict=True)
            if key in self._by_identity
        }
        order = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        if len(found) < _LEAST_CHECKED:
            if not declared:
                raise DataError(
                    f"{self.path}: its lists do not say which number is of which class, and too few labelled rows are in it to tell; give "
                    f"the order of the lists with --set data.label_names='[…, …]', or write {{class: number}} instead of lists"
                )
            return
        said = np.stack([self._by_identity[key] for key in found]).argmax(-1)
        labels = np.asarray(list(found.values()))

        def share(answers: np.ndarray) -> str:
            return f"{(answers == labels).mean():.0%}"

        if (better := better_order(said, labels, len(names))) is not None:
            meant = ", ".join(names[place] for place in better[:12]) + (", …" if len(names) > 12 else "")
            raise DataError(
                f"{self.path}: read in the order {order}, its answers agree with {share(said)} of {len(found)} labels; "
                f"read in the order {meant}, with {share(better[said])}. Put the numbers into the first order, or write "
                "{class: number} instead of lists (of labels, names instead of numbers)"
            )
        chance = (
            float(np.bincount(said, minlength=len(names)) @ np.bincount(labels, minlength=len(names))) / len(found) ** 2
        )
        weak = binomtest(int((said == labels).sum()), len(found), chance, alternative="greater").pvalue >= _LEVEL
        self.notes.append(
            ("Warning: " if weak else "")
            + f"{self.path}: its numbers are read in the order {order}; so its answers agree with {share(said)} of {len(found)} labels"
            + (f", which is not significantly more than by chance ({chance:.0%}): check the order." if weak else ".")
        )

    def _scale_in(self, answers: Sequence[Any]) -> float:
        """What stands for certainty in all the answers together."""
        likeliest, totals = [], []
        for answer in answers:
            given = [answer.confidence] if isinstance(answer, Labelled) else answer
            values = list(given.values() if isinstance(given, dict) else given if isinstance(given, list) else [])
            try:
                numbers = [number(value) for value in values if not is_percent(value)]
            except ValueError:
                continue  # no answer
            if numbers and min(numbers) >= 0:
                likeliest.append(max(numbers))
                totals += [] if isinstance(answer, Labelled) or len(numbers) < len(values) else [sum(numbers)]
        try:
            return scale_of(likeliest, totals)
        except ValueError as error:
            raise DataError(
                f"{self.path}: the numbers that say how sure its answers are (of each the likeliest class's) go {error}; say what stands "
                "for certainty, with --set teacher.confidence_scale=1 (or 5, 10, 100). Answers beyond that are then left out"
            ) from None

    def _names_in(self, answers: Sequence[Any]) -> tuple[str, ...]:
        """The classes that the answers name, sorted; numbers as numbers. Of several spellings the most frequent one."""
        given = count_names(answers)
        spellings: dict[str, str] = {}
        for name, count in given.most_common():
            if "\n" in name or (count < _SOME * len(answers) and is_sentence(name)):
                continue  # a refusal, or an explanation
            spellings.setdefault(folded(name), name.rstrip(".。 ") or name)
        found = list(spellings.values())
        if not found:
            raise DataError(
                f"{self.path}: nothing in it names the classes; give them in the order of the numbers, as in "
                "--set data.label_names='[bad, good]'"
            )
        if len(found) < 2:
            raise DataError(f"{self.path}: all answers are of the one class '{found[0]}'; at least two are needed")
        if len(found) > max(20, len(answers) / 2):
            raise DataError(
                f"{self.path}: {len(found)} different answers in {len(answers)} rows are too many for classes; give the classes with "
                "--set data.label_names='[…, …]', or a file with nothing but the class"
            )
        self._check_spelling(given, spellings)
        return tuple(sorted(found, key=lambda name: (0, float(name), name) if is_number(name) else (1, 0.0, name)))

    def _check_spelling(self, given: Mapping[str, int], spellings: Mapping[str, str]) -> None:
        """Refuse classes of which one is probably a misspelling of another: nobody but these answers named them."""
        from understudy.data.spelling import misspelt

        counts: Counter[str] = Counter()
        for name, count in given.items():
            if folded(name) in spellings:
                counts[spellings[folded(name)]] += count
        if slips := misspelt(counts):
            said = ", ".join(
                f"'{slip}' {counts[slip]:,} times beside '{name}' {counts[name]:,} times"
                for slip, name in slips[:SHOWN]
            )
            there = ", ".join(sorted(counts)) if len(counts) <= 12 else "…, …"
            raise DataError(
                f"{self.path}: its answers name {said}{', …' if len(slips) > SHOWN else ''}: misspelt? Correct the file; or, where these "
                f"are classes of their own, give all classes: --set data.label_names='[{there}]'"
            )

    def _check_names(self, answers: Sequence[Any], read: Reader) -> None:
        """Refuse names that are like a class, or as frequent as one, but none; an answer with a rare other is no usable one."""
        assert read.names is not None
        given = count_names(answers)
        bad: dict[str, tuple[int, str | None]] = {}
        for name, count in given.items():
            if is_sentence(name) or read.understands(name):
                continue
            near = get_close_matches(name, read.names, n=1) if len(name) < 100 and not read.mentions(name) else []
            if near or count >= max(3, _FREQUENT * len(answers)):
                bad[name] = count, near[0] if near else None
        if bad:
            raise DataError(f"{self.path}: {unknown_names(bad, read.names)}")

    def _each_once(self, keys: Sequence[str], outputs: Mapping[int, np.ndarray], kind: str) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        first: dict[str, int] = {}
        others: list[tuple[int, int]] = []
        for row, values in outputs.items():
            if not np.array_equal(found.setdefault(keys[row], values), values):
                others.append((row + 1, first[keys[row]] + 1))
            first.setdefault(keys[row], row)
        if others:
            row, before = others[0]
            raise DataError(
                f"{self.path}: row {row}: the text of row {before} with another answer"
                + (f" ({len(others)} rows are so)" if len(others) > 1 else "") + "; keep one answer of each text"
            )  # fmt: skip
        return found

    def _digest(self) -> str:
        """Of what is answered to which text: neither the file's name nor the order of its rows counts."""
        digest = hashlib.sha256()
        for key in sorted(self._by_identity):
            digest.update(key.encode() + self._by_identity[key].tobytes())
        return digest.hexdigest()


def _first(reasons: Iterable[str]) -> str:
    reasons = list(reasons)
    return "; ".join(reasons[:SHOWN]) + ("; …" if len(reasons) > SHOWN else ".")


def _normalised(values: np.ndarray) -> np.ndarray:
    return values / values.sum(-1, keepdims=True)


def better_order(said: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """Where each output belongs, where the labels show that it is not where it stands: place in the list → class.

    The order that fits best always fits better than another by chance, and the more so the more classes. So each row is tested with the
    order that fits the other rows best (five folds), and the rows that it gets right are compared with those that the given order gets
    right by McNemar's exact test.

    >>> better_order(np.array([0, 1] * 5), np.array([1, 0] * 5), 2), better_order(np.array([0, 1] * 5), np.array([0, 1] * 5), 2)
    (array([1, 0]), None)
    """
    ranks = np.zeros(len(labels), dtype=int)
    for label in np.unique(labels):
        ranks[labels == label] = np.arange((labels == label).sum())
    folds = (ranks + labels) % _FOLDS  # of each class about equally many in each
    moved = np.zeros(len(labels), dtype=int)
    for fold in range(_FOLDS):
        held_out = folds == fold
        moved[held_out] = _best_order(said[~held_out], labels[~held_out], classes)[said[held_out]]
    only_moved = int(((moved == labels) & (said != labels)).sum())
    only_kept = int(((moved != labels) & (said == labels)).sum())
    if only_moved <= only_kept or binomtest(only_moved, only_moved + only_kept).pvalue >= _LEVEL:
        return None
    return _best_order(said, labels, classes)


def _best_order(said: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The order with which most answers are the labels; where several are, outputs stay in their places."""
    counts = np.eye(classes) * 0.5
    np.add.at(counts, (said, labels), 1)
    return linear_sum_assignment(counts, maximize=True)[1]
