"""Labels → numbers: one label map for all files, in the order of the model's classes; one class a row, several, or a number."""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.data.tables import UNLABELLED, Source, Table, listed, need_column
from understudy.errors import DataError

if TYPE_CHECKING:
    from understudy.settings.data import DataSettings
    from understudy.tasks import Column

MOST_CLASSES = 1000
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")
_MARKS = ("|", ";", ",")  # between several names in a text: of these the first that is there
_COMMA = re.compile(r"[-+]?\d+,\d+")


@dataclass(frozen=True)
class Classes:
    """The label map: every name that may stand in the data → the index of its class.

    Args:
        several: a row may have several of them, or none.
    """

    names: tuple[str, ...]
    index: Mapping[str, int]
    whose: str
    by_position: bool = False
    several: bool = False

    def of(self, label: Any) -> tuple[str, ...]:
        """The names that a label stands for."""
        places = np.flatnonzero(label) if self.several else [int(label)]
        return tuple(self.names[place] for place in places)

    def counts(self, labels: np.ndarray) -> np.ndarray:
        """How many of these rows, all of them labelled, have each class."""
        return (labels == 1).sum(axis=0) if self.several else np.bincount(labels, minlength=len(self.names))


def no_data(names: Sequence[str] | None, answer: Column) -> Classes | None:
    """The label map where no row has a label; None for numbers."""
    return None if answer.kind == "number" else Classes(tuple(names or ()), {}, "", several=answer.kind == "classes")


def class_map(train: Source, settings: DataSettings, label_names: Sequence[str] | None, answer: Column) -> Classes | None:
    """Decide the order of the classes: the model's, else the recipe's, else the data set's own, else sorted; None for numbers."""
    need_column(train, answer.name)
    if answer.kind == "number":
        return None
    several = answer.kind == "classes"
    declared = settings.label_names
    dataset_names = tuple(_class_label_names(train) or ())
    counts = Counter(name for names in all_names(train, several=several) for name in names or ())
    if declared is not None and len(set(declared)) != len(declared):
        raise DataError(f"data.label_names: {listed(declared)}: each name may appear only once")
    if label_names is None and declared is None and not dataset_names:
        _check_plausible(counts, train.where)
        by_number = {name: number for name in sorted(counts) if (number := _number(name)) is not None}
        # By number where all are numbers, so that 10 comes after 9.
        names = tuple(sorted(by_number, key=by_number.__getitem__) if len(by_number) == len(counts) else sorted(counts))
        return Classes(names, {name: position for position, name in enumerate(names)}, train.where, several=several)
    aliases: list[tuple[str, ...]] = []  # other names of the same classes in the same order
    if label_names is not None:
        names, whose = tuple(label_names), "the model"
        generic = all(map(_is_generic, range(len(names)), names))
        _check_same(names, declared, generic)
        aliases += [dataset_names, declared or ()] if generic else []  # nobody named them in the model
    elif declared is not None:
        names, whose, aliases = declared, "data.label_names", [dataset_names]
    else:
        names, whose = dataset_names, train.where
    # An integer that is no name is a position; where names are integers themselves, it could be meant either way.
    positions = {} if any(_INTEGER.fullmatch(name) for name in names) else {str(number): number for number in range(len(names))}
    index = dict(positions)
    for alias in [*aliases, names]:
        if len(alias) == len(names):
            index |= {name: position for position, name in enumerate(alias)}
    by_position = declared is None and any(name in positions for name in counts)
    return Classes(names, index, whose, by_position, several)


def _is_generic(position: int, name: str) -> bool:
    """Whether a class has the name that `transformers` gives where nobody named it, or its number."""
    return name in (f"LABEL_{position}", str(position))


def _check_same(names: tuple[str, ...], declared: tuple[str, ...] | None, generic: bool) -> None:
    if declared is None or declared == names:
        return
    comparison = f"data.label_names is {listed(declared)}; the model has {listed(names)}"
    if set(declared) == set(names):
        raise DataError(
            f"{comparison}: the same names in another order, so that integer labels would mean other classes. Leave "
            "data.label_names out if the data follow the model's order, or write the labels as names"
        )
    if not generic or len(declared) != len(names):
        raise DataError(f"{comparison}: not the same classes. Leave data.label_names out, or use a model of these classes")


def _check_plausible(counts: Counter[str], where: str) -> None:
    rows, numeric = counts.total(), all(_number(name) is not None for name in counts)
    measured = numeric and len(counts) > 20 and not all(_INTEGER.fullmatch(name) for name in counts)
    if measured or len(counts) > MOST_CLASSES or (rows >= 20 and len(counts) > 0.8 * rows):
        hint = "for numbers use --task similarity" if numeric else "is this the right column? Set it with --column label=NAME"
        raise DataError(f"{where}: {len(counts)} different labels in {rows} rows, too many for classes; {hint}")


def _number(text: str) -> float | None:
    """
    >>> _number("4.5"), _number("nan"), _number("four")
    (4.5, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def class_names(source: Source) -> list[str | None]:
    """The label of every row by its name; None where there is none."""
    values, names = source.dataset[source.answer][:], _class_label_names(source)
    if names is not None:  # a ClassLabel of `datasets`, where -1 is "no label"
        return [None if value is None or value < 0 else names[value] for value in values]
    return [name_of(value, f"{source.where}: row {row}") for row, value in enumerate(values, start=1)]


def all_names(source: Source, *, several: bool) -> list[list[str] | None]:
    """The labels of every row by their names, where it may have `several` or none of them; None where the label is missing."""
    if not several:
        return [None if name is None else [name] for name in class_names(source)]
    values, names = source.dataset[source.answer][:], _class_label_names(source)
    if names is not None:
        return [None if value is None else [names[number] for number in value] for value in values]
    texts = [value for value in values if isinstance(value, str)]
    mark = next((mark for mark in _MARKS if any(mark in _outside_brackets(value) for value in texts)), ",")
    return [_several(value, mark, f"{source.where}: row {row}") for row, value in enumerate(values, start=1)]


def _class_label_names(source: Source) -> list[str] | None:
    """The names of a `ClassLabel` of `datasets`, or of a list of them."""
    kind = source.dataset.features[source.answer]
    return getattr(getattr(kind, "feature", kind), "names", None)


def _outside_brackets(text: str) -> str:
    return "" if text.lstrip().startswith("[") else text


def _several(value: Any, mark: str, where: str) -> list[str] | None:
    """The names in a list, or in a text: a list as JSON or Python writes it, or names with a mark between them."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):
            value = _list_in(text, where)
        else:
            return [name for part in text.split(mark) if (name := name_of(part, where)) is not None] or None
    if not isinstance(value, list):
        name = name_of(value, where)
        return None if name is None else [name]
    names = [name_of(item, where) for item in value]
    if None in names:
        raise DataError(f"{where}: a label without a name in {value!r:.60}; an empty list says that none applies")
    return [name for name in names if name is not None]


def _list_in(text: str, where: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError):
            continue
    raise DataError(f'{where}: a list of labels that cannot be read, {text!r:.60}; write it as JSON, as in ["joy", "love"]')


def name_of(value: Any, where: str) -> str | None:
    """The name that a label is, however it was written; None where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float | Decimal):
        # Integers of a column with gaps are often written as 1.0, 2.0, …
        return re.sub(r"^(-?\d+)\.0$", r"\1", str(value).strip()) or None
    raise DataError(f"{where}: a label must be one name or number, got {value!r:.60}")


def indices(source: Source, classes: Classes) -> np.ndarray:
    """The class of every row, (rows,); where it may have several, which of them it has, (rows, classes) of 0 and 1."""
    rows = len(source.dataset)
    labels = np.full((rows, len(classes.names)) if classes.several else rows, UNLABELLED, dtype=np.int64)
    for row, names in enumerate(all_names(source, several=classes.several)):
        if names is None:
            continue
        for name in names:
            if name not in classes.index:
                raise _unknown(source.where, row, name, classes)
        places = [classes.index[name] for name in names]
        if classes.several:
            labels[row] = 0
            labels[row, places] = 1
        else:
            labels[row] = places[0]
    return labels


def _unknown(where: str, row: int, name: str, classes: Classes) -> DataError:
    if all(map(_is_generic, range(len(classes.names)), classes.names)):
        example = ",".join(f"NAME_{number}" for number in range(min(len(classes.names), 3)))
        return DataError(
            f"{where}: row {row + 1}: label '{name}', but {classes.whose} calls its classes {listed(classes.names)}, "
            f"which are no names; say what they stand for, in this order: --set data.label_names=[{example}"
            f"{',…' if len(classes.names) > 3 else ''}], or in id2label of its config.json"
        )
    return DataError(
        f"{where}: row {row + 1}: label '{name}' is none of the {len(classes.names)} classes of "
        f"{classes.whose}: {listed(classes.names)}.{_near(name, classes.names)} Correct the label, or remove such rows"
    )


def _near(name: str, names: Sequence[str]) -> str:
    """
    >>> _near("Request_Refund", ["request_refund", "other"]), _near("x", ["y"])
    (" Did you mean 'request_refund'?", '')
    """
    same = next((candidate for candidate in names if candidate.casefold() == name.casefold()), None)
    near = [same] if same else get_close_matches(name, names, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def numbers(source: Source) -> np.ndarray:
    labels, values = np.full(len(source.dataset), math.nan), source.dataset[source.answer][:]
    if any(isinstance(value, str) and _COMMA.fullmatch(value.strip()) for value in values):
        values = _without_commas(values, source.where)
    for row, value in enumerate(values):
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        number = _number(str(value))  # of True, a list, … None
        if number is None:
            raise DataError(
                f"{source.where}: row {row + 1}: {source.answer} {value!r:.40} is not a finite number; "
                "for classes use --task classification"
            )
        labels[row] = number
    return labels


def _without_commas(values: Sequence[Any], where: str) -> list[Any]:
    """Decimal commas, as in `3,5`, as points."""
    commas = [value for value in values if isinstance(value, str) and _COMMA.fullmatch(value.strip())]
    if any("." in value for value in values if isinstance(value, str)) or all(
        len(value.strip().partition(",")[2]) == 3 for value in commas
    ):
        raise DataError(
            f"{where}: label '{commas[0]}' has a comma, which may separate thousands or decimals; write it with a point, or without a comma"
        )
    return [value.replace(",", ".") if isinstance(value, str) else value for value in values]


def check_enough(train: Table, classes: Classes | None) -> None:
    labels = train.labels[~train.unlabelled]
    distinct = np.unique(labels, axis=0)
    if len(distinct) == 0:
        raise DataError(
            f"{train.where}: no row has a label; give some labelled rows, and the others with --transfer; where no row has a label at all, "
            "give the file to `distill` with --transfer instead of --train"
        )
    if len(distinct) == 1:
        only = (", ".join(f"'{name}'" for name in classes.of(distinct[0])) or "[]") if classes else str(distinct[0])
        raise DataError(f"{train.where}: all {len(labels)} labelled rows have the one label {only}; at least two are needed")


def check_seen(table: Table, train: Table, classes: Classes) -> None:
    """Refuse a class that no training row has."""
    seen = classes.counts(train.labels[~train.unlabelled]) > 0
    for row in np.flatnonzero((table.labels == 1) @ ~seen if classes.several else ~seen[table.labels]):
        name = next(name for name in classes.of(table.labels[row]) if not seen[classes.names.index(name)])
        raise DataError(
            f"{table.where}: row {row + 1}: label '{name}' never occurs in {train.where}, which has "
            f"{listed([classes.names[place] for place in np.flatnonzero(seen)])}; add train rows of it, or remove it here"
        )
