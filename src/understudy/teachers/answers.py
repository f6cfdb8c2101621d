"""A table of answers, written by a program or a language model in many forms → the numbers of all classes, row by row."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from understudy.errors import DataError
from understudy.teachers.answer_text import answer_in, label_in, label_of
from understudy.teachers.confidence import ROUNDING, is_percent, number, probability, shared

if TYPE_CHECKING:
    import datasets

CONFIDENCE = ("confidence", "probability", "score")  # columns that hold the confidence in a label
PREFIXES = ("p_", "prob_")  # of columns that hold the probability of a class
SHOWN = 3  # rows and names that a message lists


class Labelled(NamedTuple):
    """An answer that names one class.

    Args:
        name: of the class; None where there is no answer.
        confidence: in the class, as written; None where there is none.
        written: the whole answer, where it is more than the name.
    """

    name: str | None
    confidence: Any = None
    written: str | None = None


class Reader:
    """One answer → the numbers of all classes, (classes,), in their order; a ValueError where it cannot be read.

    It also records, for notes, how answers were read: `slips` holds spellings that differ from a class in case, blanks or punctuation
    → the class; `longer` holds answers that are more than the name of a class → the class; `by_position` is True when a number was
    read as the position of a class.

    Args:
        kind: of the answers: `logits`, `probabilities`, `label` or `number`.
        names: of the classes; None for a number.
        scale: the number that means certainty in confidences and probabilities.
    """

    def __init__(self, kind: str, names: tuple[str, ...] | None, scale: float = 1) -> None:
        self.kind, self.names, self.scale = kind, names, scale
        self.slips: dict[str, str] = {}
        self.longer: dict[str, str] = {}
        self._places = {name: place for place, name in enumerate(names or ())}
        alike: dict[str, list[int]] = {}
        for name, place in self._places.items():
            alike.setdefault(folded(name), []).append(place)
        self._alike = {name: places[0] for name, places in alike.items() if len(places) == 1}
        self.by_position = False

    def place(self, name: str) -> int | None:
        """Position of a class by its name, by a name that differs only in case, blanks or punctuation, or by its number; else None."""
        if name in self._places:
            return self._places[name]
        if name.isdecimal() and int(name) < len(self._places) and not any(map(is_number, self._places)):
            self.by_position = True
            return int(name)
        place = self._alike.get(folded(name))
        if place is not None:
            assert self.names is not None
            self.slips[name] = self.names[place]
        return place

    def named_in(self, text: str) -> int:
        """Position of the only class in a text, where it is the whole text, follows a lead-in, or fills a line.

        Raises:
            ValueError: no class, or several.
        """
        assert self.names is not None
        for lines in ([text], [label_in(text)], map(label_in, text.splitlines())):
            places = {place for line in lines if (place := self.place(line)) is not None}
            if len(places) == 1:
                return places.pop()
        raise ValueError(f"{text!r:.80} is none of the {len(self.names)} classes")

    def understands(self, text: str) -> bool:
        """Whether a text gives one class."""
        try:
            return self.named_in(text) >= 0
        except ValueError:
            return False

    def mentions(self, text: str) -> bool:
        """Whether a text has the name of a class among other words, as `refund or delivery`: then it is not a misspelling."""
        words = f" {folded(text)} "
        return any(f" {name} " in words and name != words.strip() for name in self._alike)

    def __call__(self, answer: Any) -> np.ndarray:
        if self.kind == "number":
            return np.array([number(answer[0] if isinstance(answer, list) and len(answer) == 1 else answer)])
        if isinstance(answer, Labelled):
            return self._of_label(answer)
        if isinstance(answer, str) and self.kind == "probabilities":
            try:
                return self._of_label(Labelled(answer, written=answer))
            except ValueError:
                pass  # the message below asks for probabilities
        if isinstance(answer, str):
            raise ValueError(f"a list of numbers or {{class: number}} is needed, got {answer!r:.80}")
        if answer is None:
            raise ValueError("no answer")
        values = self._of_mapping(answer) if isinstance(answer, dict) else self._of_list(answer)
        return values if self.kind == "logits" else self._probabilities(values, answer)

    def _number(self, value: Any) -> float:
        return number(value) if self.kind == "logits" else probability(value, self.scale)

    def _of_list(self, answer: Any) -> np.ndarray:
        assert self.names is not None
        if not isinstance(answer, list):
            raise ValueError(f"a list of numbers or {{class: number}} is needed, got {answer!r:.80}")
        if len(answer) != len(self.names):
            raise ValueError(f"{len(answer)} {self.kind}, expected {len(self.names)}, one for each class")
        return np.array([self._number(value) for value in answer])

    def _of_mapping(self, answer: Mapping[str, Any]) -> np.ndarray:
        assert self.names is not None
        values = np.full(len(self.names), np.nan)
        for name, value in answer.items():
            place = self.place(name)
            if place is None:
                raise ValueError(f"{name!r:.80} is none of the {len(self.names)} classes")
            if not math.isnan(values[place]):
                raise ValueError(f"class '{self.names[place]}' appears twice")
            values[place] = self._number(value)
        if np.isnan(values).all():
            raise ValueError("no answer")
        if self.kind == "logits" and np.isnan(values).any():
            raise ValueError(f"no logit of class '{self.names[int(np.isnan(values).argmax())]}'")
        return values

    def _of_label(self, answer: Labelled) -> np.ndarray:
        assert self.names is not None
        if answer.name is None:
            raise ValueError("no answer")
        place = self.named_in(answer.name)
        if answer.written is not None or self.place(answer.name) is None:
            self.longer[answer.written or answer.name] = self.names[place]
        values = np.full(len(self.names), np.nan)
        values[place] = 1.0
        if answer.confidence is not None:
            values[place] = confidence = self._number(answer.confidence)
            if confidence > 1 or confidence <= 1 / len(self.names) or self._off_scale(answer.confidence):
                on = "" if self.scale == 1 or is_percent(answer.confidence) else f" on a scale of 0 to {self.scale:g}"
                raise ValueError(f"a confidence of {answer.confidence}{on} is impossible for the likeliest of {len(self.names)} classes")
        return shared(values)

    def _off_scale(self, likeliest: Any) -> bool:
        """Whether a number is probably on the scale of 0 to 1 although the others are on a larger one."""
        return self.scale > 1 and not is_percent(likeliest) and number(likeliest) < 1 + (self.scale == 100) / 1e9

    def _probabilities(self, values: np.ndarray, answer: Any) -> np.ndarray:
        """Probabilities checked to sum to about 1; classes that the answer does not name share the rest."""
        total, everything = float(np.nansum(values)), not np.isnan(values).any()
        wrong = (values[~np.isnan(values)] < 0).any() or total > 1 + ROUNDING or total <= 0
        if wrong or (everything and total < 1 - ROUNDING):
            on = "" if self.scale == 1 else f" on a scale of 0 to {self.scale:g}"
            raise ValueError(f"probabilities must be 0 or more and sum to 1{on}, got {answer!r:.120}")
        return shared(values)


def renamed(table: datasets.Dataset, columns: Mapping[str, str], path: str) -> datasets.Dataset:
    """The table with our names of columns. `columns` is for all files of a command; this one may have our names already.

    Raises:
        DataError: no column of texts, or two for the same name.
    """
    existing = table.column_names
    for ours, theirs in columns.items():
        if theirs not in existing or ours == theirs:
            continue
        if ours in existing:
            raise DataError(f"{path}: has a column '{ours}' and, as --column says, '{theirs}' for {ours}; remove one of them")
        table = table.rename_column(theirs, ours)
    if "text" not in table.column_names:
        possible = [name for name in existing if name not in ("label", "probabilities", "logits", *CONFIDENCE)]
        mapped = f" (asked for as {columns['text']})" if "text" in columns else ""
        raise DataError(
            f"{path}: a teacher's file needs the column text{mapped}; it has {', '.join(existing)}. Map it with --column text="
            + (possible[0] if len(possible) == 1 else "NAME")
        )
    return table


def answers_in(table: datasets.Dataset, path: str, label_names: Sequence[str] | None, number: bool) -> tuple[str, list[Any]]:
    """The kind of the answers in a table, and the answer of every row as far as it can be parsed.

    An answer is a list, a mapping of names to numbers, a number, or for labels a `Labelled`.

    Raises:
        DataError: no column of answers, or columns for some of the classes only.
    """
    from understudy.data.labels import class_names
    from understudy.data.tables import Source

    existing = table.column_names
    if number:
        column = next((name for name in ("logits", "label") if name in existing), None)
        if column is None:
            raise DataError(f"{path}: a teacher's file needs a number in the column label; it has {', '.join(existing)}")
        return "number", [_parsed(value) for value in table[column][:]]
    classes = frozenset(label_names or ())
    for kind in ("logits", "probabilities"):
        if kind in existing:
            return kind, [_parsed(value, None if kind == "logits" else classes) for value in table[kind][:]]
    by_class = _class_columns(existing, label_names, path)
    if by_class:
        columns = {name: table[column][:] for name, column in by_class.items()}
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        blank = (None, "")
        return "probabilities", [{name: value for name, value in row.items() if value not in blank} or None for row in rows]
    if "label" in existing:
        column = next((name for name in CONFIDENCE if name in existing), None)
        confidences = table[column][:] if column else [None] * len(table)
        coded = getattr(table.features["label"], "names", None) is not None
        labels = class_names(Source(path, table)) if coded else table["label"][:]
        return "label", [
            _labelled(label, None if _blank(confidence) else confidence, classes, f"{path}: row {row}")
            for row, (label, confidence) in enumerate(zip(labels, confidences, strict=True), start=1)
        ]
    raise DataError(
        f"{path}: no teacher outputs in it: a column probabilities or logits (a list, or {{class: number}}), a column label, or one "
        f"column for each class (p_CLASS) is needed; it has {', '.join(existing)}. Is the label under another name? --column label=NAME"
    )


def count_names(answers: Sequence[Any]) -> Counter[str]:
    """How often each name of a class occurs in the answers."""
    labels = (label_in(answer.name) for answer in answers if isinstance(answer, Labelled) and answer.name is not None)
    return Counter(labels) + Counter(name for answer in answers if isinstance(answer, dict) for name in answer)


def _class_columns(existing: Sequence[str], label_names: Sequence[str] | None, path: str) -> dict[str, str]:
    """Class → the column of its probabilities; empty where the table has no such columns."""
    if not label_names:
        return next((columns for prefix in PREFIXES if len(columns := _prefixed(existing, prefix)) > 1), {})
    for prefix in (*PREFIXES, ""):
        columns = {name: prefix + name for name in label_names if prefix + name in existing}
        unknown = set(_prefixed(existing, prefix)) - set(label_names) if prefix else set()
        if len(columns) + len(unknown) < 2 or (not columns and "label" in existing):
            continue
        if unknown:
            name = min(unknown)
            near = get_close_matches(name, label_names, n=1)
            raise DataError(f"{path}: column {prefix}{name}: {unknown_names({name: (0, near[0] if near else None)}, label_names)}")
        if missing := [name for name in label_names if name not in columns]:
            raise DataError(
                f"{path}: has columns for {len(columns)} of {len(label_names)} classes; missing are "
                f"{', '.join(prefix + name for name in missing[:12])}"
            )
        return columns
    return {}


def _prefixed(columns: Iterable[str], prefix: str) -> dict[str, str]:
    """Name without the prefix → column, of the columns that begin with it."""
    return {name.removeprefix(prefix): name for name in columns if name.startswith(prefix) and name != prefix}


def _parsed(value: Any, classes: frozenset[str] | None = None) -> Any:
    """An answer as a list, `{class: number}`, a `Labelled`, a text or a number.

    Reads JSON and Python literals in a text, as CSV holds them, and the outputs of a `transformers` pipeline.

    Args:
        value: of the column.
        classes: known names of classes, where an answer may be a label, as in `{"label": "refund"}`; None where it may not.
    """
    written = value
    if isinstance(value, str):
        value = answer_in(value)
        if isinstance(value, str):
            return value or None
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list) and value and all(isinstance(member, dict) and "label" in member for member in value):
        value = {member["label"]: next((member[name] for name in CONFIDENCE if name in member), None) for member in value}
    if isinstance(value, dict):
        value = {_named(name): share for name, share in value.items() if share is not None}
        if classes is not None and isinstance(inner := value.get("probabilities"), dict | list):
            return _parsed(inner, classes)
        if classes is not None and (label := label_of(value, classes)) is not None:
            confidence = next((value[name] for name in CONFIDENCE if name in value), None)
            return Labelled(_named(label), confidence, written=str(written))
        return value
    return None if isinstance(value, float) and math.isnan(value) else value


def _labelled(value: Any, confidence: Any, classes: frozenset[str], where: str) -> Any:
    """A label with its confidence; a mapping where the column of labels holds one."""
    from understudy.data.labels import name_of

    parsed = _parsed(value, classes) if isinstance(value, str | list | dict) else name_of(value, where)
    if isinstance(parsed, list):
        parsed = str(parsed[0] if len(parsed) == 1 else parsed)
    if isinstance(parsed, Labelled):
        return parsed if parsed.confidence is not None else parsed._replace(confidence=confidence)
    if parsed is None or isinstance(parsed, str):
        longer = isinstance(value, str) and parsed is not None and folded(parsed) != folded(value)
        name = None if parsed is None else name_of(parsed, where)
        return Labelled(name, confidence, written=str(value) if longer else None)
    return parsed


def _named(name: Any) -> str:
    """The name of a class as text; True and False as JSON writes them."""
    return str(name).lower() if isinstance(name, bool) else str(name).strip()


def is_number(name: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def is_sentence(name: str) -> bool:
    """Whether an answer is a sentence, such as a refusal, and not the name of a class.

    >>> is_sentence("I cannot answer this."), is_sentence("as soon as possible"), is_sentence("抱歉，我无法回答。")
    (True, False, True)
    """
    return bool(re.search("[.!?。！？…]$", name.strip())) and (len(name.split()) > 3 or bool(re.search("[，。！？]", name)))


def _blank(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def folded(name: str) -> str:
    """A name in lower case, with single blanks for blanks, `_` and `-`, and without quotes and punctuation around it."""
    return re.sub(r"[\s_\-]+", " ", name.strip(" \t\n\"'`.,。:;")).casefold()


def unknown_names(labels: Mapping[str, tuple[int, str | None]], known: Sequence[str]) -> str:
    """A message for names that are no class.

    Args:
        labels: unknown name → in how many rows it is (0: in none), and the class that it may be a misspelling of.
        known: names of the classes.
    """

    def described(label: str, count: int, near: str | None) -> str:
        rows = f" ({count:,} row{'s' if count > 1 else ''})" if count else ""
        return f"'{label}'{rows}" + (f"; did you mean '{near}'?" if near else "")

    some = [described(label, *count_and_near) for label, count_and_near in list(labels.items())[:SHOWN]]
    classes = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
    return (
        f"{len(labels)} answer{'s are' if len(labels) > 1 else ' is'} none of the classes {classes}: {', '.join(some)}"
        f"{', …' if len(labels) > SHOWN else ''} Fix the spelling, name all classes with --set data.label_names='[…, …]', or empty "
        "the answer, which leaves the row out"
    )
