"""A table of answers → the numbers of all classes, row by row: whatever form a program or a language model gave them."""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.errors import DataError

if TYPE_CHECKING:
    import datasets

CONFIDENCE = ("confidence", "probability", "score")  # columns that say how sure a label is
PREFIXES = ("p_", "prob_")  # of columns that hold the probability of a class
SHOWN = 3  # rows and names that a message lists
_ROUNDING = 0.05  # probabilities that a person or a language model wrote add up to 1 only about


class Reader:
    """One answer → the numbers of all classes, in their order. A ValueError says why there are none."""

    def __init__(self, kind: str, names: tuple[str, ...] | None) -> None:
        self.kind, self.names = kind, names
        self.percent = 0
        self.slips: dict[str, str] = {}
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

    def __call__(self, answer: Any) -> np.ndarray:
        if self.kind == "number":
            return np.array([_number(answer[0] if isinstance(answer, list) and len(answer) == 1 else answer)])
        if self.kind == "label":
            return self._of_label(*answer)
        if isinstance(answer, str):
            raise ValueError(f"a list of numbers or {{class: number}} is needed, got {answer!r:.80}")
        if answer is None:
            raise ValueError("no answer")
        values = self._of_mapping(answer) if isinstance(answer, dict) else self._of_list(answer)
        return values if self.kind == "logits" else self._probabilities(values, answer)

    def _of_list(self, answer: Any) -> np.ndarray:
        assert self.names is not None
        if not isinstance(answer, list):
            raise ValueError(f"a list of numbers or {{class: number}} is needed, got {answer!r:.80}")
        if len(answer) != len(self.names):
            raise ValueError(f"{len(answer)} {self.kind}, expected {len(self.names)}, one for each class")
        return np.array([_number(one) for one in answer])

    def _of_mapping(self, answer: Mapping[str, Any]) -> np.ndarray:
        assert self.names is not None
        values = np.full(len(self.names), np.nan)
        for name, value in answer.items():
            place = self.place(name)
            if place is None:
                raise ValueError(f"{name!r:.80} is none of the {len(self.names)} classes")
            if not math.isnan(values[place]):
                raise ValueError(f"class '{self.names[place]}' appears twice")
            values[place] = _number(value)
        if np.isnan(values).all():
            raise ValueError("no answer")
        if self.kind == "logits" and np.isnan(values).any():
            raise ValueError(f"no logit of class '{self.names[int(np.isnan(values).argmax())]}'")
        return values

    def _of_label(self, label: str | None, confidence: Any) -> np.ndarray:
        assert self.names is not None
        if label is None:
            raise ValueError("no answer")
        place = self.place(label)
        if place is None:
            raise ValueError(f"{label!r:.80} is none of the {len(self.names)} classes")
        values = np.full(len(self.names), np.nan)
        values[place] = 1.0
        if confidence is not None:
            values[place] = sure = _number(confidence)
            if 1 < sure <= 100:
                self.percent += 1
                values[place] = sure = sure / 100
            if not 1 / len(self.names) <= sure <= 1:
                raise ValueError(
                    f"a confidence of {confidence} is impossible for the likeliest of {len(self.names)} classes"
                )
        return self._shared(values)

    def _probabilities(self, values: np.ndarray, answer: Any) -> np.ndarray:
        """Checked, of sum about 1; what was not named shares the rest."""
        total, everything = float(np.nansum(values)), not np.isnan(values).any()
        if 100 * (1 - _ROUNDING) <= total <= 100 * (1 + _ROUNDING):
            self.percent += 1
            values, total = values / 100, total / 100
        wrong = (values[~np.isnan(values)] < 0).any() or total > 1 + _ROUNDING or total <= 0
        if wrong or (everything and total < 1 - _ROUNDING):
            raise ValueError(f"probabilities must be 0 or more and sum to 1, got {answer!r:.120}")
        return self._shared(values)

    def _shared(self, values: np.ndarray) -> np.ndarray:
        missing = np.isnan(values)
        if missing.any():
            values[missing] = max(0.0, 1 - float(np.nansum(values))) / missing.sum()
        return values


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
    for kind in ("logits", "probabilities"):
        if kind in there:
            return kind, [_parsed(value) for value in table[kind][:]]
    by_class = _class_columns(there, label_names, path)
    if by_class:
        given = {name: table[column][:] for name, column in by_class.items()}
        rows = (dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True))
        blank = (None, "")
        return "probabilities", [{name: one for name, one in row.items() if one not in blank} or None for row in rows]
    if "label" in there:
        sure = next((name for name in CONFIDENCE if name in there), None)
        confidences = table[sure][:] if sure else [None] * len(table)
        labels = class_names(Source(path, table))
        return "label", [(label, None if sure is None or _blank(one) else one)
                         for label, one in zip(labels, confidences, strict=True)]  # fmt: skip
    raise DataError(
        f"{path}: no teacher outputs in it: a column probabilities or logits (a list, or {{class: number}}), a column label, or one "
        f"column for each class (p_CLASS) is needed; it has {', '.join(there)}. Is the label under another name? --column label=NAME"
    )


def names_given(answers: Sequence[Any], kind: str) -> Counter[str]:
    """The names of classes in the answers, and how often each is there."""
    if kind == "label":
        return Counter(label for label, _ in answers if label is not None)
    return Counter(name for answer in answers if isinstance(answer, dict) for name in answer)


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


def _parsed(value: Any) -> Any:
    """JSON or a Python literal in a text, as CSV holds it; `{class: number}` with names as text; what a pipeline says as one."""
    if isinstance(value, str):
        for parse in (json.loads, ast.literal_eval):
            try:
                value = parse(value)
                break
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
        if isinstance(value, str):
            return value.strip() or None
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list) and value and all(isinstance(one, dict) and "label" in one for one in value):
        value = {one["label"]: next((one[name] for name in CONFIDENCE if name in one), None) for one in value}
    if isinstance(value, dict):
        return {_named(name): one for name, one in value.items() if one is not None}
    return None if isinstance(value, float) and math.isnan(value) else value


def _named(name: Any) -> str:
    return str(name).lower() if isinstance(name, bool) else str(name).strip()


def _number(value: Any) -> float:
    try:
        if value is None or isinstance(value, bool):
            raise ValueError
        number = float(value.strip(' "').removesuffix("%")) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"a number is needed, got {value!r:.80}") from None
    if not math.isfinite(number):
        raise ValueError(f"outputs must be finite, got {value}")
    return number


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
