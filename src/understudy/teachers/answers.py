"""A table of answers → the numbers of all classes, row by row: whatever form a program or a language model gave them."""

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

CONFIDENCE = ("confidence", "probability", "score")  # columns that say how sure a label is
PREFIXES = ("p_", "prob_")  # of columns that hold the probability of a class
SHOWN = 3  # rows and names that a message lists


class Labelled(NamedTuple):
    """An answer that names one class.

    Args:
        written: all that was written, where it is more than the name.
    """

    name: str | None
    confidence: Any = None
    written: str | None = None


class Reader:
    """One answer → the numbers of all classes, in their order. A ValueError says why there are none.

    Args:
        scale: what stands for certainty in confidences and probabilities.
    """

    def __init__(self, kind: str, names: tuple[str, ...] | None, scale: float = 1) -> None:
        self.kind, self.names, self.scale = kind, names, scale
        self.slips: dict[str, str] = {}
        self.taken: dict[str, str] = {}
        self._places = {name: place for place, name in enumerate(names or ())}
        alike: dict[str, list[int]] = {}
        for name, place in self._places.items():
            alike.setdefault(folded(name), []).append(place)
        self._alike = {name: places[0] for name, places in alike.items() if len(places) == 1}
        self.by_position = False

    def place(self, name: str) -> int | None:
        """Where a class stands: by its name, one that differs in case, blanks or punctuation only, or its number among names."""
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
        """The one class that a text gives, by itself, after a lead-in, or on a line of its own.

        Raises:
            ValueError: none, or several.
        """
        assert self.names is not None
        for lines in ([text], [label_in(text)], map(label_in, text.splitlines())):
            found = {place for line in lines if (place := self.place(line)) is not None}
            if len(found) == 1:
                return found.pop()
        raise ValueError(f"{text!r:.80} is none of the {len(self.names)} classes")

    def understands(self, text: str) -> bool:
        try:
            return self.named_in(text) >= 0
        except ValueError:
            return False

    def mentions(self, text: str) -> bool:
        """Whether a class stands among other words, as in `refund or delivery`: that is no misspelling of it."""
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
                pass  # what is needed here is probabilities
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
        return np.array([self._number(one) for one in answer])

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
            self.taken[answer.written or answer.name] = self.names[place]
        values = np.full(len(self.names), np.nan)
        values[place] = 1.0
        if answer.confidence is not None:
            values[place] = sure = self._number(answer.confidence)
            if sure > 1 or sure <= 1 / len(self.names) or self._off_scale(answer.confidence):
                on = "" if self.scale == 1 or is_percent(answer.confidence) else f" on a scale of 0 to {self.scale:g}"
                raise ValueError(
                    f"a confidence of {answer.confidence}{on} is impossible for the likeliest of {len(self.names)} classes"
                )
        return shared(values)

    def _off_scale(self, likeliest: Any) -> bool:
        """Whether a number is more likely one of 0 to 1 among ratings."""
        return self.scale > 1 and not is_percent(likeliest) and number(likeliest) < 1 + (self.scale == 100) / 1e9

    def _probabilities(self, values: np.ndarray, answer: Any) -> np.ndarray:
        """Checked, of sum about 1; what was not named shares the rest."""
        total, everything = float(np.nansum(values)), not np.isnan(values).any()
        wrong = (values[~np.isnan(values)] < 0).any() or total > 1 + ROUNDING or total <= 0
        if wrong or (everything and total < 1 - ROUNDING):
            on = "" if self.scale == 1 else f" on a scale of 0 to {self.scale:g}"
            raise ValueError(f"probabilities must be 0 or more and sum to 1{on}, got {answer!r:.120}")
        return shared(values)


def renamed(table: datasets.Dataset, columns: Mapping[str, str], path: str) -> datasets.Dataset:
    """The table under our names. `columns` holds for all files of a command; this one may have our names already."""
    there = table.column_names
    for ours, theirs in columns.items():
        if theirs not in there or ours == theirs:
            continue
        if ours in there:
            raise DataError(
                f"{path}: has a column '{ours}' and, as --column says, '{theirs}' for {ours}; remove one of them"
            )
        table = table.rename_column(theirs, ours)
    if "text" not in table.column_names:
        known = [name for name in there if name not in ("label", "probabilities", "logits", *CONFIDENCE)]
        asked = f" (asked for as {columns['text']})" if "text" in columns else ""
        raise DataError(
            f"{path}: a teacher's file needs the column text{asked}; it has {', '.join(there)}. Map it with --column text="
            + (known[0] if len(known) == 1 else "NAME")
        )
    return table


def answers_in(
    table: datasets.Dataset, path: str, label_names: Sequence[str] | None, number: bool
) -> tuple[str, list[Any]]:
    """What kind of answers the table holds, and the answer of every row, as far as it can be parsed: a list, a mapping, a
    number; or of labels the name and the confidence."""
    from understudy.data.labels import class_names
    from understudy.data.tables import Source

    there = table.column_names
    if number:
        column = next((name for name in ("logits", "label") if name in there), None)
        if column is None:
            raise DataError(f"{path}: a teacher's file needs a number in the column label; it has {', '.join(there)}")
        return "number", [_parsed(value) for value in table[column][:]]
    classes = frozenset(label_names or ())
    for kind in ("logits", "probabilities"):
        if kind in there:
            return kind, [_parsed(value, None if kind == "logits" else classes) for value in table[kind][:]]
    by_class = _class_columns(there, label_names, path)
    if by_class:
        given = {name: table[column][:] for name, column in by_class.items()}
        rows = (dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True))
        blank = (None, "")
        return "probabilities", [{name: one for name, one in row.items() if one not in blank} or None for row in rows]
    if "label" in there:
        sure = next((name for name in CONFIDENCE if name in there), None)
        confidences = table[sure][:] if sure else [None] * len(table)
        coded = getattr(table.features["label"], "names", None) is not None
        labels = class_names(Source(path, table)) if coded else table["label"][:]
        return "label", [
            _labelled(label, None if _blank(one) else one, classes, f"{path}: row {row}")
            for row, (label, one) in enumerate(zip(labels, confidences, strict=True), start=1)
        ]
    raise DataError(
        f"{path}: no teacher outputs in it: a column probabilities or logits (a list, or {{class: number}}), a column label, or one "
        f"column for each class (p_CLASS) is needed; it has {', '.join(there)}. Is the label under another name? --column label=NAME"
    )


def names_given(answers: Sequence[Any]) -> Counter[str]:
    """The names of classes in the answers, and how often each is there."""
    labels = (label_in(answer.name) for answer in answers if isinstance(answer, Labelled) and answer.name is not None)
    return Counter(labels) + Counter(name for answer in answers if isinstance(answer, dict) for name in answer)


def _class_columns(there: Sequence[str], label_names: Sequence[str] | None, path: str) -> dict[str, str]:
    """Class → the column of its probabilities; nothing where the table has no such columns."""
    if not label_names:
        return next((found for prefix in PREFIXES if len(found := _prefixed(there, prefix)) > 1), {})
    for prefix in (*PREFIXES, ""):
        found = {name: prefix + name for name in label_names if prefix + name in there}
        others = set(_prefixed(there, prefix)) - set(label_names) if prefix else set()
        if len(found) + len(others) < 2 or (not found and "label" in there):
            continue
        if others:
            name = min(others)
            near = get_close_matches(name, label_names, n=1)
            raise DataError(
                f"{path}: column {prefix}{name}: {unknown_names({name: (0, near[0] if near else None)}, label_names)}"
            )
        if missing := [name for name in label_names if name not in found]:
            raise DataError(f"{path}: has columns for {len(found)} of {len(label_names)} classes; missing are "
                            f"{', '.join(prefix + name for name in missing[:12])}")  # fmt: skip
        return found
    return {}


def _prefixed(there: Iterable[str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): name for name in there if name.startswith(prefix) and name != prefix}


def _parsed(value: Any, classes: frozenset[str] | None = None) -> Any:
    """JSON or a Python literal in a text, as CSV holds it; `{class: number}` with names as text; what a pipeline says as one.

    Args:
        classes: those that are known, where an answer may be a label, as in `{"label": "refund"}`; None where it may not.
    """
    given = value
    if isinstance(value, str):
        value = answer_in(value)
        if isinstance(value, str):
            return value or None
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list) and value and all(isinstance(one, dict) and "label" in one for one in value):
        value = {one["label"]: next((one[name] for name in CONFIDENCE if name in one), None) for one in value}
    if isinstance(value, dict):
        value = {_named(name): one for name, one in value.items() if one is not None}
        if classes is not None and isinstance(inner := value.get("probabilities"), dict | list):
            return _parsed(inner, classes)
        if classes is not None and (label := label_of(value, classes)) is not None:
            sure = next((value[name] for name in CONFIDENCE if name in value), None)
            return Labelled(_named(label), sure, written=str(given))
        return value
    return None if isinstance(value, float) and math.isnan(value) else value


def _labelled(value: Any, confidence: Any, classes: frozenset[str], where: str) -> Any:
    from understudy.data.labels import name_of

    found = _parsed(value, classes) if isinstance(value, str | list | dict) else name_of(value, where)
    if isinstance(found, list):
        found = str(found[0] if len(found) == 1 else found)
    if isinstance(found, Labelled):
        return found if found.confidence is not None else found._replace(confidence=confidence)
    if found is None or isinstance(found, str):
        more = isinstance(value, str) and found is not None and folded(found) != folded(value)
        name = None if found is None else name_of(found, where)
        return Labelled(name, confidence, written=str(value) if more else None)
    return found


def _named(name: Any) -> str:
    return str(name).lower() if isinstance(name, bool) else str(name).strip()


def is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def is_sentence(name: str) -> bool:
    """Whether an answer is a sentence, as a refusal is, rather than the name of a class.

    >>> is_sentence("I cannot answer this."), is_sentence("as soon as possible"), is_sentence("抱歉，我无法回答。")
    (True, False, True)
    """
    return bool(re.search("[.!?。！？…]$", name.strip())) and (
        len(name.split()) > 3 or bool(re.search("[，。！？]", name))
    )


def _blank(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def folded(name: str) -> str:
    """A class without what a careless answer adds: case, blanks, `_` and `-`, quotes, a full stop."""
    return re.sub(r"[\s_\-]+", " ", name.strip(" \t\n\"'`.,。:;")).casefold()


def unknown_names(labels: Mapping[str, tuple[int, str | None]], known: Sequence[str]) -> str:
    def said(label: str, count: int, near: str | None) -> str:
        rows = f" ({count:,} row{'s' if count > 1 else ''})" if count else ""
        return f"'{label}'{rows}" + (f"; did you mean '{near}'?" if near else "")

    some = [said(label, *found) for label, found in list(labels.items())[:SHOWN]]
    classes = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
    return (
        f"{len(labels)} answer{'s are' if len(labels) > 1 else ' is'} none of the classes {classes}: {', '.join(some)}"
        f"{', …' if len(labels) > SHOWN else ''} Fix the spelling, name all classes with --set data.label_names='[…, …]', or empty "
        "the answer, which leaves the row out"
    )
