"""Which rows are held out: splits made of the training rows where they are missing, and what training must not see of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.data import splits
from understudy.data.tables import Source, Table, rows_named
from understudy.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from understudy.settings.data import DataSettings


def make_missing(tables: dict[str, Table], source: Source, settings: DataSettings, seed: int, notes: list[str]) -> None:
    """Split validation, and test where it is missing too, off the train rows."""
    if "validation" in tables:
        return
    wanted = {"validation": settings.validation_fraction}
    if "test" not in tables:
        wanted = {"test": settings.test_fraction} | wanted
    if sum(wanted.values()) >= 1:
        raise DataError("data.validation_fraction and data.test_fraction leave no train rows; together they must be below 1")
    groups = _groups(source, settings)
    if groups is not None:
        tables["train"] = replace(tables["train"], groups=groups)
    remaining = 1.0
    for name, fraction in wanted.items():
        train = tables["train"]
        without = train.unlabelled.all()  # the teacher is to label them
        labelled = np.arange(len(train)) if without else np.flatnonzero(~train.unlabelled)
        units = train.identities if train.groups is None else splits.joined_units(train.identities, train.groups)
        strata = [0] * len(labelled) if without else train.take(~train.unlabelled).strata
        mask = splits.held_out([units[row] for row in labelled], strata, fraction / remaining, seed=seed)
        remaining -= fraction
        out = np.zeros(len(train), dtype=bool)
        out[labelled[mask]] = True
        if not out.any():
            raise DataError(
                f"{train.where}: {len(labelled)} rows are too few (or their groups are) to split {name} rows off; give a file with --{name}"
            )
        tables[name] = train.take(out, where=f"{name} (split off {source.where})")
        # Unlabelled rows of a unit that went away must not stay behind.
        away = {units[row] for row in np.flatnonzero(out)}
        tables["train"] = train.take(np.array([unit not in away for unit in units]))
        kinds = ["stratified"] if train.labels.dtype.kind == "i" and not without else []
        kinds += [f"groups of {settings.group_column} whole"] if groups is not None else []
        notes.append(
            f"No {name} rows were given: {int(out.sum())} were split off {source.where if without else 'train'} "
            f"({', '.join([*kinds, f'seed {seed}'])})."
        )


def _groups(source: Source, settings: DataSettings) -> list[Any] | None:
    if settings.group_column is None:
        return None
    renamed = {theirs: our for our, theirs in settings.columns.items()}
    name = renamed.get(settings.group_column, settings.group_column)
    names = source.dataset.column_names
    if name not in names:
        raise DataError(f"{source.where}: no column '{name}' (data.group_column); {did_you_mean(name, names)}")
    groups = [str(value) if value is not None else None for value in source.dataset[name][:]]
    missing = [row for row, value in enumerate(groups) if not value]
    if missing:
        raise DataError(f"{source.where}: {rows_named(missing)} without a {name} (data.group_column); fill in or remove them")
    return groups


def fewer(train: Table, rows: int, seed: int, notes: list[str]) -> Table:
    """As many labelled rows as asked for, in the proportions of the classes; and all unlabelled ones."""
    labelled = np.flatnonzero(~train.unlabelled)
    strata = train.take(~train.unlabelled).strata
    if rows > len(labelled):
        raise DataError(f"data.train_rows is {rows}, but only {len(labelled)} labelled train rows exist; give at most that number")
    if rows < len(set(strata)):
        raise DataError(f"data.train_rows is {rows}, but there are {len(set(strata))} classes; ask for at least one row of each")
    keep = train.unlabelled.copy()
    keep[labelled[splits.stratified_subset([train.identities[row] for row in labelled], strata, rows, seed=seed)]] = True
    notes.append(f"{rows} of {len(labelled)} labelled train rows are kept (data.train_rows, seed {seed}).")
    return train.take(keep)


def note_duplicates(tables: Mapping[str, Table], notes: list[str]) -> None:
    """Note rows that are in two splits."""
    for name, reference in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if name in tables and reference in tables:
            identities = set(tables[reference].identities)
            count = sum(identity in identities for identity in tables[name].identities)
            if count:
                notes.append(f"{count} of {len(tables[name])} {name} rows are also {reference} rows; they were left in.")


def without_peeking(tables: Mapping[str, Table], name: str, notes: list[str]) -> Table:
    """The rows without those that are held out: of plain text every text of theirs, of rows the same texts, in either order."""
    table = tables[name]
    splits = [tables[split] for split in ("validation", "test") if split in tables]
    name = "transfer" if name == "train" else name  # training rows without labels come from --transfer
    what, also = f"{name} rows", "validation or test rows"
    if name == "raw":
        what, also = "raw texts", "texts of validation or test rows (of pairs, either side)"
        held_out: set[Any] = as_plain_text(text for split in splits for text in itertools.chain(split.texts, split.pairs or ()))
        keys = list(map(plain, table.texts))
    else:
        held_out = {key for split in splits for key in _sides(split)}
        keys = _sides(table)
    keep = np.array([key not in held_out for key in keys], dtype=bool)
    if not keep.any():
        raise DataError(f"{table.where}: every {name} row is also a validation or test row; give other text")
    if not keep.all():
        notes.append(f"{int((~keep).sum())} of {len(keep)} {what} are also {also} and were left out.")
    return table.take(keep)


def _sides(table: Table) -> list[Any]:
    """The texts of each row, whatever the blanks and the order of its sides."""
    texts = list(map(plain, table.texts))
    return texts if table.pairs is None else list(map(frozenset, zip(texts, map(plain, table.pairs), strict=True)))


def plain(text: str) -> str:
    """A text, whatever its blanks and its case."""
    return " ".join(text.split()).casefold()


def as_plain_text(texts: Iterable[str]) -> set[str]:
    """Texts as they may stand in plain text: whole or line by line, whatever the blanks and the case.

    >>> sorted(as_plain_text(["a  film", "good\\nfun"]))
    ['a film', 'fun', 'good', 'good fun']
    """
    return {plain(part) for text in texts for part in (text, *text.splitlines())} - {""}
