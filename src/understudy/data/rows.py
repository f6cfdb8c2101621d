"""Sources → the rows of a run: texts checked, labels numbered, missing splits made, every row with an identity."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.data import sources, splits
from understudy.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.recipe import DataSettings
    from understudy.tasks import Task

UNLABELLED = -100  # of classes, as torch's cross-entropy ignores it; NaN is the unlabelled number
MOST_CLASSES = 1000
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")


@dataclass(frozen=True)
class Rows:
    """The rows of a run. Columns: `identity`, `text`, `text_pair` (pairs only), `label`.

    `label` is the index into `label_names`, -100 where unlabelled; for regression a float, NaN where unlabelled.

    Args:
        train: may hold unlabelled rows.
        transfer: rows without labels, for the teacher to label; None: none were given.
        label_names: classes in the order of the logits; None for regression.
        pair: rows have a second text.
        test_is_validation: no test rows were given, so that validation stands in.
        notes: sentences for the user: splits made, duplicates found, rows left out.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    transfer: Dataset | None
    label_names: tuple[str, ...] | None
    pair: bool
    test_is_validation: bool
    notes: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """Every text that training sees, both sides of pairs."""
        seen = [part for part in (self.train, self.transfer) if part is not None]
        columns = ("text", "text_pair") if self.pair else ("text",)
        return [text for part in seen for column in columns for text in part[column]]

    def facts(self) -> dict[str, Any]:
        """Of every split: how many rows, and a hash over their identities and labels in order; and what the user should know."""
        named = {"train": self.train, "validation": self.validation, "test": self.test, "transfer": self.transfer}
        found: dict[str, Any] = {name: _facts(dataset) for name, dataset in named.items() if dataset is not None}
        return found | {"test_is_validation": self.test_is_validation, "notes": list(self.notes)}


def identity(text: str, text_pair: str | None = None) -> str:
    """What a row is known by everywhere: 32 hex digits of the blake2b hash of its texts.

    >>> identity("a b") != identity("a", "b") != identity("a", "")
    True
    """
    encoded = json.dumps([text, text_pair], ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def read(settings: DataSettings, task: Task, *, seed: int, label_names: Sequence[str] | None = None) -> Rows:
    """Read all rows of a run; make the splits that are missing.

    Without validation rows, both validation and (where not given) test are split off train: stratified by class, rows
    with the same texts or the same group together, drawn by `seed`. With validation rows but no test rows, the
    validation rows are the test rows too.

    Args:
        settings: `data` of a recipe.
        task: decides whether labels are classes or numbers.
        seed: of the splits and of `train_rows`.
        label_names: the teacher's, in its order; None takes them from the data, sorted.

    Raises:
        DataError: a source, column, text or label that does not fit.
    """
    notes: list[str] = []
    raw = _open(settings, notes)
    train_source = raw["train"]
    pair = "text_pair" in train_source.dataset.column_names
    classes = _class_map(train_source, settings, label_names) if task.label_type == "class" else None
    tables = {"train": _table(train_source, pair, classes, labels="some")}
    _check_train(tables["train"], classes)
    for name in [name for name in raw if name != "train"]:
        tables[name] = _table(raw[name], pair, classes, labels="none" if name == "transfer" else "all")
    if classes and classes.by_position:
        notes.append(f"Labels are integers, read as positions in the names {_listed(classes.names)}.")
    _make_missing(tables, train_source, settings, seed, notes)
    for name in ("validation", "test"):
        if name in tables and classes is not None:
            _check_seen(tables[name], tables["train"], classes.names)
    if settings.train_rows is not None:
        tables["train"] = _fewer(tables["train"], settings.train_rows, classes, seed, notes)
    without = int(tables["train"].unlabelled.sum())
    if without:
        notes.append(f"{without} of {len(tables['train'])} train rows have no label; they are read as unlabelled text.")
    test_is_validation = "test" not in tables
    if test_is_validation:
        notes.append("No test rows were given: the test is the validation rows, which also select the model.")
    _tell_duplicates(tables, notes)
    if "transfer" in tables:
        tables["transfer"] = _without_peeking(tables, notes)
    datasets = {name: table.dataset() for name, table in tables.items()}
    return Rows(
        train=datasets["train"],
        validation=datasets["validation"],
        test=datasets["validation" if test_is_validation else "test"],
        transfer=datasets.get("transfer"),
        label_names=classes.names if classes else None,
        pair=pair,
        test_is_validation=test_is_validation,
        notes=tuple(notes),
    )


def read_one(
    source: str, settings: DataSettings, task: Task, *, label_names: Sequence[str] | None, labels: bool = True
) -> Dataset:
    """Read the rows of one file, or of a folder's or hub data set's test (else validation, else train) split.

    Args:
        source: a file, folder or hub name.
        settings: its `columns` and `label_names` are used.
        task: decides whether labels are classes or numbers.
        label_names: the model's, in its order.
        labels: False ignores a label column, there or not: all rows are unlabelled.

    Raises:
        DataError: a source, column, text or label that does not fit.
    """
    columns = _columns(settings, labels=labels)
    if sources.is_table(source):
        one = _Source(source, sources.read_table(source, columns))
    else:
        found = sources.read_folder_or_hub(source, columns)
        name = next(name for name in ("test", "validation", "train") if name in found)
        one = _Source(f"{source}, {name}", found[name])
    classes = None
    if task.label_type == "class":
        classes = _class_map(one, settings, label_names) if labels else _Classes(tuple(label_names or ()), {}, "")
    return _table(one, "text_pair" in one.dataset.column_names, classes, labels="all" if labels else "none").dataset()


@dataclass(frozen=True)
class _Source:
    """A table as it was read, and what to call it in messages."""

    where: str
    dataset: Dataset


@dataclass(frozen=True)
class _Table:
    """Checked rows of one split."""

    where: str
    identities: list[str]
    texts: list[str]
    pairs: list[str] | None
    labels: np.ndarray
    groups: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def unlabelled(self) -> np.ndarray:
        return self.labels == UNLABELLED if self.labels.dtype == np.int64 else np.isnan(self.labels)

    def take(self, keep: np.ndarray, where: str | None = None) -> _Table:
        rows = np.flatnonzero(keep).tolist()

        def chosen(values: list[Any] | None) -> Any:
            return None if values is None else [values[row] for row in rows]

        return replace(self, where=where or self.where, identities=chosen(self.identities), texts=chosen(self.texts),
                       pairs=chosen(self.pairs), labels=self.labels[rows], groups=chosen(self.groups))  # fmt: skip

    def dataset(self) -> Dataset:
        from datasets import Dataset, Features, Value

        columns: dict[str, Any] = {"identity": self.identities, "text": self.texts, "label": self.labels}
        if self.pairs is not None:
            columns["text_pair"] = self.pairs
        kinds = dict.fromkeys(columns, Value("string"))
        kinds["label"] = Value(str(self.labels.dtype))
        return Dataset.from_dict(columns, features=Features(kinds))


@dataclass(frozen=True)
class _Classes:
    """The label map: every name that may stand in the data → the index of its class."""

    names: tuple[str, ...]
    index: Mapping[str, int]
    whose: str
    by_position: bool = False


# Sources ------------------------------------------------------------------------------------------------------------


def _columns(settings: DataSettings, *, labels: bool = True) -> dict[str, str]:
    for our in settings.columns:
        if our not in sources.OUR_COLUMNS:
            raise DataError(f"data.columns: '{our}' is none of our columns; {did_you_mean(our, sources.OUR_COLUMNS)}")
    return {our: theirs for our, theirs in settings.columns.items() if labels or our != "label"}


def _open(settings: DataSettings, notes: list[str]) -> dict[str, _Source]:
    if settings.train is None:
        raise DataError("data.train is not given; name a file, a folder or a hub data set, as in --train train.jsonl")
    found: dict[str, _Source] = {}
    if sources.is_table(settings.train):
        found["train"] = _Source(settings.train, sources.read_table(settings.train, _columns(settings)))
    else:
        for name, dataset in sources.read_folder_or_hub(settings.train, _columns(settings)).items():
            found[name] = _Source(f"{settings.train}, {name}", dataset)
        if "train" not in found:
            raise DataError(f"{settings.train}: no train split; it has {', '.join(found)}")
        if "test" in found and _no_labels_at_all(found["test"]):  # as the test sets of GLUE on the hub
            del found["test"]
            notes.append(f"The test rows of {settings.train} have no labels and were left out.")
    for name, given in (("validation", settings.validation), ("test", settings.test), ("transfer", settings.transfer)):
        if given is None:
            continue
        columns = _columns(settings, labels=name != "transfer")
        if sources.is_table(given):
            found[name] = _Source(given, sources.read_table(given, columns))
            continue
        splits_there = sources.read_folder_or_hub(given, columns)
        wanted = "train" if name == "transfer" else name
        if wanted not in splits_there:
            raise DataError(f"{given}: no {wanted} split; it has {', '.join(splits_there)}")
        found[name] = _Source(f"{given}, {wanted}", splits_there[wanted])
    return found


def _no_labels_at_all(source: _Source) -> bool:
    return "label" not in source.dataset.column_names or not any(name is not None for name in _class_names(source))


def _table(source: _Source, pair: bool, classes: _Classes | None, *, labels: str) -> _Table:
    """Check the texts and number the labels: those of `all` rows, of `some`, or of `none`."""
    texts = _texts(source, "text")
    if "text_pair" in source.dataset.column_names and not pair:
        raise DataError(f"{source.where}: has a column text_pair, but the train rows have none; give both or neither")
    pairs = _texts(source, "text_pair") if pair else None
    unlabelled = np.full(len(texts), math.nan) if classes is None else np.full(len(texts), UNLABELLED, dtype=np.int64)
    identities = list(map(identity, texts)) if pairs is None else list(map(identity, texts, pairs))
    table = _Table(source.where, identities, texts, pairs, unlabelled)
    if labels == "none":
        return table
    _need_column(source, "label")
    table = replace(table, labels=_numbers(source) if classes is None else _indices(source, classes))
    missing = np.flatnonzero(table.unlabelled)
    if labels == "all" and missing.size:
        raise DataError(
            f"{source.where}: {_rows_named(missing)} without a label; only train and transfer rows may have none"
        )
    return table


def _need_column(source: _Source, name: str) -> None:
    there = source.dataset.column_names
    if name not in there:
        raise DataError(
            f"{source.where}: no column '{name}'; {did_you_mean(name, there)} "
            f"Say which it is: --column {name}=NAME (data.columns in a recipe)"
        )


def _texts(source: _Source, column: str) -> list[str]:
    _need_column(source, column)
    values = source.dataset[column][:]
    missing = [row for row, value in enumerate(values) if value is None]
    if missing:
        raise DataError(f"{source.where}: {_rows_named(missing)} without a {column}; fill in or remove them")
    for row, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise DataError(
                f"{source.where}: row {row}: {column} must be text, got {value!r:.40}; put quotes around it, "
                f"or name another column: --column {column}=NAME"
            )
    empty = [row for row, value in enumerate(values) if not value.strip()]
    if empty:
        raise DataError(f"{source.where}: {_rows_named(empty)} with an empty {column}; fill in or remove them")
    return values


def _rows_named(rows: Sequence[int] | np.ndarray) -> str:
    """
    >>> _rows_named([0, 4]), _rows_named([2])
    ('2 rows (1, 5)', '1 row (3)')
    """
    first = ", ".join(str(row + 1) for row in rows[:5])
    return f"{len(rows)} row{'s' if len(rows) > 1 else ''} ({first}{', …' if len(rows) > 5 else ''})"


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


# Labels -------------------------------------------------------------------------------------------------------------


def _class_map(train: _Source, settings: DataSettings, label_names: Sequence[str] | None) -> _Classes:
    """Decide the order of the classes: the model's, else the recipe's, else the data set's own, else sorted."""
    _need_column(train, "label")
    declared = settings.label_names
    own = tuple(getattr(train.dataset.features["label"], "names", ()))
    found = Counter(name for name in _class_names(train) if name is not None)
    if declared is not None and len(set(declared)) != len(declared):
        raise DataError(f"data.label_names: {_listed(declared)}: every name may be there only once")
    if label_names is None and declared is None and not own:
        _check_plausible(found, train.where)
        by_number = {name: number for name in sorted(found) if (number := _number(name)) is not None}
        # By number where all are numbers, so that 10 comes after 9.
        names = tuple(sorted(by_number, key=by_number.__getitem__) if len(by_number) == len(found) else sorted(found))
        return _Classes(names, {name: position for position, name in enumerate(names)}, train.where)
    aliases: list[tuple[str, ...]] = []  # other names of the same classes in the same order
    if label_names is not None:
        names, whose = tuple(label_names), "the model"
        generic = all(name in (f"LABEL_{position}", str(position)) for position, name in enumerate(names))
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
    return _Classes(names, index, whose, by_position=declared is None and any(name in positions for name in found))


def _check_same(names: tuple[str, ...], declared: tuple[str, ...] | None, generic: bool) -> None:
    if declared is None or declared == names:
        return
    both = f"data.label_names is {_listed(declared)}; the model has {_listed(names)}"
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


def _class_names(source: _Source) -> list[str | None]:
    """The label of every row by its name; None where there is none."""
    values = source.dataset["label"][:]
    names = getattr(source.dataset.features["label"], "names", None)
    if names is not None:  # a ClassLabel of `datasets`, where -1 is "no label"
        return [None if value is None or value < 0 else names[value] for value in values]
    return [_name(value, source.where, row) for row, value in enumerate(values)]


def _name(value: Any, where: str, row: int) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        # Integers of a column with gaps are often written as 1.0, 2.0, …
        return re.sub(r"^(-?\d+)\.0$", r"\1", str(value).strip()) or None
    raise DataError(f"{where}: row {row + 1}: a label must be one name or number, got {value!r:.60}")


def _indices(source: _Source, classes: _Classes) -> np.ndarray:
    indices = np.full(len(source.dataset), UNLABELLED, dtype=np.int64)
    for row, name in enumerate(_class_names(source)):
        if name is None:
            continue
        if name not in classes.index:
            raise DataError(
                f"{source.where}: row {row + 1}: label '{name}' is none of the {len(classes.names)} classes of "
                f"{classes.whose}: {_listed(classes.names)}; mend it, or leave such rows out"
            )
        indices[row] = classes.index[name]
    return indices


def _numbers(source: _Source) -> np.ndarray:
    found = np.full(len(source.dataset), math.nan)
    for row, value in enumerate(source.dataset["label"][:]):
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


def _check_train(train: _Table, classes: _Classes | None) -> None:
    labels = train.labels[~train.unlabelled]
    distinct = np.unique(labels)
    if len(distinct) == 0:
        raise DataError(f"{train.where}: no row has a label; give some labelled rows, and the others with --transfer")
    if len(distinct) == 1:
        only = f"'{classes.names[int(distinct[0])]}'" if classes else str(distinct[0])
        raise DataError(
            f"{train.where}: all {len(labels)} labelled rows have the one label {only}; at least two are needed"
        )


def _check_seen(table: _Table, train: _Table, names: tuple[str, ...]) -> None:
    seen = np.unique(train.labels[~train.unlabelled])
    unseen = np.flatnonzero(~np.isin(table.labels, seen))
    if unseen.size:
        row = int(unseen[0])
        raise DataError(
            f"{table.where}: row {row + 1}: label '{names[int(table.labels[row])]}' never occurs in {train.where}, "
            f"which has {_listed([names[int(one)] for one in seen])}; add train rows of it, or remove it here"
        )


# Splits -------------------------------------------------------------------------------------------------------------


def _make_missing(
    tables: dict[str, _Table], source: _Source, settings: DataSettings, seed: int, notes: list[str]
) -> None:
    """Split validation, and test where it is missing too, off the train rows."""
    if "validation" in tables:
        return
    wanted = {"validation": settings.validation_fraction}
    if "test" not in tables:
        wanted = {"test": settings.test_fraction} | wanted
    if sum(wanted.values()) >= 1:
        raise DataError(
            "data.validation_fraction and data.test_fraction leave no train rows; together they must be below 1"
        )
    groups = _groups(source, settings)
    if groups is not None:
        tables["train"] = replace(tables["train"], groups=groups)
    left = 1.0
    for name, fraction in wanted.items():
        train = tables["train"]
        labelled = np.flatnonzero(~train.unlabelled)
        units = train.identities if train.groups is None else splits.joined_units(train.identities, train.groups)
        strata = train.labels[labelled].tolist() if train.labels.dtype == np.int64 else [0] * len(labelled)
        mask = splits.held_out([units[row] for row in labelled], strata, fraction / left, seed=seed)
        left -= fraction
        out = np.zeros(len(train), dtype=bool)
        out[labelled[mask]] = True
        if not out.any():
            raise DataError(
                f"{train.where}: {len(labelled)} rows are too few (or their groups are) to split {name} rows off; "
                f"give a file with --{name}"
            )
        tables[name] = train.take(out, where=f"{name} (split off {source.where})")
        # Unlabelled rows of a unit that went away must not stay behind.
        away = {units[row] for row in np.flatnonzero(out)}
        tables["train"] = train.take(np.array([unit not in away for unit in units]))
        kinds = ["stratified"] if train.labels.dtype == np.int64 else []
        kinds += [f"groups of {settings.group_column} whole"] if groups is not None else []
        notes.append(
            f"No {name} rows were given: {int(out.sum())} were split off train ({', '.join([*kinds, f'seed {seed}'])})."
        )


def _groups(source: _Source, settings: DataSettings) -> list[Any] | None:
    if settings.group_column is None:
        return None
    renamed = {theirs: our for our, theirs in settings.columns.items()}
    name = renamed.get(settings.group_column, settings.group_column)
    there = source.dataset.column_names
    if name not in there:
        raise DataError(f"{source.where}: no column '{name}' (data.group_column); {did_you_mean(name, there)}")
    groups = [str(value) if value is not None else None for value in source.dataset[name][:]]
    missing = [row for row, value in enumerate(groups) if not value]
    if missing:
        raise DataError(
            f"{source.where}: {_rows_named(missing)} without a {name} (data.group_column); fill in or remove them"
        )
    return groups


def _fewer(train: _Table, rows: int, classes: _Classes | None, seed: int, notes: list[str]) -> _Table:
    labelled = np.flatnonzero(~train.unlabelled)
    strata = train.labels[labelled].tolist() if classes else [0] * len(labelled)
    if rows > len(labelled):
        raise DataError(
            f"data.train_rows is {rows}, but only {len(labelled)} labelled train rows are there; ask for at most these"
        )
    if rows < len(set(strata)):
        raise DataError(
            f"data.train_rows is {rows}, but there are {len(set(strata))} classes; ask for at least one row of each"
        )
    keep = train.unlabelled.copy()
    keep[labelled[splits.stratified_subset([train.identities[row] for row in labelled], strata, rows, seed=seed)]] = (
        True
    )
    notes.append(f"{rows} of {len(labelled)} labelled train rows are kept (data.train_rows, seed {seed}).")
    return train.take(keep)


def _tell_duplicates(tables: Mapping[str, _Table], notes: list[str]) -> None:
    for name, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if name in tables and other in tables:
            there = set(tables[other].identities)
            count = sum(one in there for one in tables[name].identities)
            if count:
                notes.append(f"{count} of {len(tables[name])} {name} rows are also {other} rows; they were left in.")


def _without_peeking(tables: Mapping[str, _Table], notes: list[str]) -> _Table:
    transfer = tables["transfer"]
    held_out = {one for name in ("validation", "test") if name in tables for one in tables[name].identities}
    keep = np.array([one not in held_out for one in transfer.identities], dtype=bool)
    if not keep.any():
        raise DataError(f"{transfer.where}: every transfer row is also a validation or test row; give other text")
    if not keep.all():
        notes.append(
            f"{int((~keep).sum())} of {len(keep)} transfer rows are also validation or test rows and were left out."
        )
    return transfer.take(keep)


def _facts(dataset: Dataset) -> dict[str, Any]:
    digest = hashlib.sha256()
    for one, label in zip(dataset["identity"][:], dataset["label"][:], strict=True):
        digest.update(f"{one} {label!r}\n".encode())
    return {"rows": len(dataset), "sha256": digest.hexdigest()}


def labelled(rows: Dataset) -> Dataset:
    """The rows that have a label."""
    labels = np.asarray(rows["label"])
    has = ~np.isnan(labels) if labels.dtype.kind == "f" else labels != UNLABELLED
    return rows if has.all() else rows.select(np.flatnonzero(has))
