"""Labels → numbers: one label map for all files, in the order of the model's classes."""

from __future__ import annotations

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

MOST_CLASSES = 1000
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")
_COMMA = re.compile(r"[-+]?\d+,\d+")


@dataclass(frozen=True)
class Classes:
    """The label map: every name that may stand in the data → the index of its class."""

    names: tuple[str, ...]
    index: Mapping[str, int]
    whose: str
    by_position: bool = False


def class_map(train: Source, settings: DataSettings, label_names: Sequence[str] | None) -> Classes:
    """Decide the order of the classes: the model's, else the recipe's, else the data set's own, else sorted."""
    need_column(train, "label")
    declared = settings.label_names
    own = tuple(getattr(train.dataset.features["label"], "names", ()))
    found = Counter(name for name in class_names(train) if name is not None)
    if declared is not None and len(set(declared)) != len(declared):
        raise DataError(f"data.label_names: {listed(declared)}: each name may appear only once")
    if label_names is None and declared is None and not own:
        _check_plausible(found, train.where)
        by_number = {name: number for name in sorted(found) if (number := _number(name)) is not None}
        # By number where all are numbers, so that 10 comes after 9.
        names = tuple(sorted(by_number, key=by_number.__getitem__) if len(by_number) == len(found) else sorted(found))
        return Classes(names, {name: position for position, name in enumerate(names)}, train.where)
    aliases: list[tuple[str, ...]] = []  # other names of the same classes in the same order
    if label_names is not None:
        names, whose = tuple(label_names), "the model"
        generic = all(map(_is_generic, range(len(names)), names))
        _check_same(names, declared, generic)
        aliases += [own, declared or ()] if generic else []  # nobody named them in the model
    elif declared is not None:
        names, whose, aliases = declared, "data.label_names", [own]
    else:
        names, whose = own, train.where
    # An integer that is no name is a position; where names are integers themselves, it could be meant either way.
    positions = {} if any(_INTEGER.fullmatch(name) for name in names) else {str(one): one for one in range(len(names))}
    index = dict(positions)
    for alias in [*aliases, names]:
        if len(alias) == len(names):
            index |= {name: position for position, name in enumerate(alias)}
    return Classes(names, index, whose, by_position=declared is None and any(name in positions for name in found))


def _is_generic(position: int, name: str) -> bool:
    """Whether a class has the name that `transformers` gives where nobody named it, or its number."""
    return name in (f"LABEL_{position}", str(position))


def _check_same(names: tuple[str, ...], declared: tuple[str, ...] | None, generic: bool) -> None:
    if declared is None or declared == names:
        return
    both = f"data.label_names is {listed(declared)}; the model has {listed(names)}"
    if set(declared) == set(names):
        raise DataError(
            f"{both}: the same names in another order, so that integer labels would mean other classes. Leave "
            "data.label_names out if the data follow the model's order, or write the labels as names"
        )
    if not generic or len(declared) != len(names):
        raise DataError(f"{both}: not the same classes. Leave data.label_names out, or use a model of these classes")


def _check_plausible(found: Counter[str], where: str) -> None:
    rows, numeric = found.total(), all(_number(name) is not None for name in found)
    measured = numeric and len(found) > 20 and not all(_INTEGER.fullmatch(name) for name in found)
    if measured or len(found) > MOST_CLASSES or (rows >= 20 and len(found) > 0.8 * rows):
        hint = (
            "for numbers use --task similarity"
            if numeric
            else "is this the right column? Set it with --column label=NAME"
        )
        raise DataError(f"{where}: {len(found)} different labels in {rows} rows, too many for classes; {hint}")


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
    values = source.dataset["label"][:]
    names = getattr(source.dataset.features["label"], "names", None)
    if names is not None:  # a ClassLabel of `datasets`, where -1 is "no label"
        return [None if value is None or value < 0 else names[value] for value in values]
    return [name_of(value, f"{source.where}: row {row}") for row, value in enumerate(values, start=1)]


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
    indices = np.full(len(source.dataset), UNLABELLED, dtype=np.int64)
    for row, name in enumerate(class_names(source)):
        if name is None:
            continue
        if name not in classes.index:
            if all(map(_is_generic, range(len(classes.names)), classes.names)):
                example = ",".join(f"NAME_{number}" for number in range(min(len(classes.names), 3)))
                raise DataError(
                    f"{source.where}: row {row + 1}: label '{name}', but {classes.whose} calls its classes {listed(classes.names)}, "
                    f"which are no names; say what they stand for, in this order: --set data.label_names=[{example}"
                    f"{',…' if len(classes.names) > 3 else ''}], or in id2label of its config.json"
                )
            raise DataError(
                f"{source.where}: row {row + 1}: label '{name}' is none of the {len(classes.names)} classes of "
                f"{classes.whose}: {listed(classes.names)}.{_near(name, classes.names)} Correct the label, or remove such rows"
            )
        indices[row] = classes.index[name]
    return indices


def _near(name: str, known: Sequence[str]) -> str:
    """
    >>> _near("Request_Refund", ["request_refund", "other"]), _near("x", ["y"])
    (" Did you mean 'request_refund'?", '')
    """
    same = next((one for one in known if one.casefold() == name.casefold()), None)
    near = [same] if same else get_close_matches(name, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def numbers(source: Source) -> np.ndarray:
    found, values = np.full(len(source.dataset), math.nan), source.dataset["label"][:]
    if any(isinstance(value, str) and _COMMA.fullmatch(value.strip()) for value in values):
        values = _without_commas(values, source.where)
    for row, value in enumerate(values):
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        number = _number(str(value))  # of True, a list, … None
        if number is None:
            raise DataError(
                f"{source.where}: row {row + 1}: label {value!r:.40} is not a finite number; "
                "for classes use --task classification"
            )
        found[row] = number
    return found


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
    distinct = np.unique(labels)
    if len(distinct) == 0:
        raise DataError(
            f"{train.where}: no row has a label; give some labelled rows, and the others with --transfer; where no row has a label at all, "
            "give the file to `distill` with --transfer instead of --train"
        )
    if len(distinct) == 1:
        only = f"'{classes.names[int(distinct[0])]}'" if classes else str(distinct[0])
        raise DataError(
            f"{train.where}: all {len(labels)} labelled rows have the one label {only}; at least two are needed"
        )


def check_seen(table: Table, train: Table, names: tuple[str, ...]) -> None:
    seen = np.unique(train.labels[~train.unlabelled])
    unseen = np.flatnonzero(~np.isin(table.labels, seen))
    if unseen.size:
        row = int(unseen[0])
        raise DataError(
            f"{table.where}: row {row + 1}: label '{names[int(table.labels[row])]}' never occurs in {train.where}, "
            f"which has {listed([names[int(one)] for one in seen])}; add train rows of it, or remove it here"
        )
