"""Sources → the rows of a run: texts checked, labels numbered, missing splits made."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from understudy.data import sources
from understudy.data.held_out import fewer, make_missing, note_duplicates, plain, without_peeking
from understudy.data.in_memory import InMemory
from understudy.data.inputs import as_read, check_roles, columns_of, no_labels, opened
from understudy.data.inspection import described, doubts, several_labels
from understudy.data.labels import Classes, check_enough, check_seen, class_map, indices, no_data, numbers
from understudy.data.tables import UNLABELLED, Source, Table, identity, listed, need_column, need_columns, rows_named, texts_of, unlabelled
from understudy.errors import DataError
from understudy.files import whole

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.settings.data import DataSettings
    from understudy.tasks import Task


@dataclass(frozen=True)
class Rows:
    """The rows of a run. Columns: `identity`, `text`, `text_pair` (pairs only), `label`.

    `label` is the index into `label_names`, -100 where unlabelled; where a row may have several, a list of 0 and 1, one for each name,
    or of -100; for regression a float, NaN where unlabelled.

    Args:
        train: may hold unlabelled rows.
        transfer: rows without labels, for the teacher to label; None: none were given.
        label_names: classes in the order of the outputs; None for regression.
        pair: rows have a second text.
        test_is_validation: no test rows were given, so that validation stands in.
        notes: sentences for the user: splits made, duplicates found, rows left out.
        raw: single texts without labels, for stages with a masked-language head; None: none were given.
        files: split → where its rows come from, in the user's words.
        labelled_by_teacher: splits whose labels are the teacher's answers, as no labelled rows were given.
        several_labels: `inspection.several_labels` of the rows as they were given; empty for regression.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    transfer: Dataset | None
    label_names: tuple[str, ...] | None
    pair: bool
    test_is_validation: bool
    notes: tuple[str, ...]
    raw: Dataset | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    labelled_by_teacher: tuple[str, ...] = ()
    several_labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """Every text that training sees, both sides of pairs."""
        return texts_in(self.train, self.transfer, self.raw)

    def facts(self) -> dict[str, Any]:
        """Of every split: how many rows, and a hash over their identities and labels in order; and what the user should know."""
        splits: dict[str, Any] = {name: facts_of(dataset) for name, dataset in self._splits.items()}
        optional: dict[str, Any] = {"labelled_by_teacher": list(self.labelled_by_teacher)} if self.labelled_by_teacher else {}
        if self.several_labels.get("texts"):
            optional["several_labels"] = dict(self.several_labels)
        return splits | optional | {"test_is_validation": self.test_is_validation, "notes": list(self.notes)}

    def inputs(self) -> dict[str, dict[str, Any]]:
        """What a run depends on: of every split its file and a hash, and of the classes; see `run.check`."""
        splits = {name: {"file": self.files.get(name, name), **facts_of(dataset)} for name, dataset in self._splits.items()}
        if self.label_names is None:
            return splits
        return splits | {"classes": {"file": listed(self.label_names), "sha256": hashed(self.label_names)}}

    @property
    def _splits(self) -> dict[str, Dataset]:
        named = ("train", "validation", "test", "transfer", "raw")
        return {name: dataset for name in named if (dataset := getattr(self, name)) is not None}


def read(
    settings: DataSettings, task: Task, *, seed: int, label_names: Sequence[str] | None = None, unanswered: Container[str] = ()
) -> Rows:
    """Read all rows of a run; make the splits that are missing.

    Without validation rows, both validation and (where not given) test are split off train: stratified by class, rows
    with the same texts or the same group together, drawn by `seed`. With validation rows but no test rows, the
    validation rows are the test rows too.

    Without training rows the transfer rows are the training rows, none of them with a label, and the splits made of them have none
    yet: the teacher is to label them.

    Args:
        settings: `data` of a recipe.
        task: decides which columns are read, and what its labels are.
        seed: of the splits and of `train_rows`.
        label_names: the teacher's, in its order; None takes them from the data, sorted.
        unanswered: rows that the teacher does not answer; without training rows they are left out.

    Raises:
        DataError: a source, column, text or label that does not fit.
    """
    notes: list[str] = []
    transferred = settings.train is None and settings.transfer is not None
    raw = opened(settings, task, notes)
    if transferred:
        raw = {"train": raw.pop("transfer"), **raw}
    train_source = raw["train"]
    pair = "text_pair" in train_source.dataset.column_names
    if transferred:
        classes, tables = _without_labels(raw, settings, task, label_names, unanswered, notes)
    else:
        if train_source.answer not in train_source.dataset.column_names:
            raise no_labels(train_source)
        classes = class_map(train_source, settings, label_names, task.answer())
        tables = {"train": _table(train_source, pair, classes, labels="some")}
        check_enough(tables["train"], classes)
    for name in [name for name in raw if name != "train"]:
        tables[name] = _table(raw[name], pair, classes, labels="none" if name == "transfer" else "all")
    if classes and classes.by_position:
        notes.append(f"Labels are integers, read as positions in the names {listed(classes.names)}.")
    doubtful = {name: table for name, table in tables.items() if name != "transfer" and not table.unlabelled.all()}
    to_make = 0 if "validation" in tables else 1 + ("test" not in tables)
    notes += doubts(doubtful, classes, splits=to_make, declared=settings.label_names is not None)
    contradicting = several_labels(doubtful) if classes else {}
    if transferred:  # before some of them are held out
        tables["train"] = without_peeking(tables, "train", notes)
    make_missing(tables, train_source, settings, seed, notes)
    if not transferred:
        _check_labels(tables, settings, classes, seed, notes)
    test_is_validation = "test" not in tables
    if test_is_validation:
        notes.append("No test rows were given: the validation rows, which also select the model, serve as test rows.")
    note_duplicates(tables, notes)
    if settings.raw is not None:
        tables["raw"] = _raw(settings.raw, settings, classes)
    for name in ("transfer", "raw"):
        if name in tables:
            tables[name] = without_peeking(tables, name, notes)
    notes += [] if transferred else [described(tables["train"], classes)]
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
        raw=datasets.get("raw"),
        files={name: table.where.removeprefix(f"{name} (").removesuffix(")") for name, table in tables.items()},
        several_labels=contradicting,
        labelled_by_teacher=tuple(name for name in ("validation", "test") if transferred and name in tables and name not in raw),
    )


def _without_labels(
    raw: Mapping[str, Source],
    settings: DataSettings,
    task: Task,
    label_names: Sequence[str] | None,
    unanswered: Container[str],
    notes: list[str],
) -> tuple[Classes | None, dict[str, Table]]:
    """The classes, which the teacher knows, and training rows of which none has a label."""
    if settings.train_rows is not None:
        raise DataError("data.train_rows keeps labelled rows, but without --train there are none; leave it out")
    source = raw["train"]
    labelled = [raw[name] for name in ("test", "validation") if name in raw]
    answer = task.answer()
    classes = class_map(labelled[0], settings, label_names, answer) if labelled else no_data(label_names, answer)
    table = _table(source, "text_pair" in source.dataset.column_names, classes, labels="none")
    answered = np.array([key not in unanswered for key in table.identities])
    notes.append(
        f"No labelled training rows were given: the student learns from the teacher's answers to the rows of {source.where}. "
        "The control 'alone' needs labels, and is skipped."
    )
    return classes, {"train": table.take(answered)}


def _check_labels(tables: dict[str, Table], settings: DataSettings, classes: Classes | None, seed: int, notes: list[str]) -> None:
    """Refuse labels that training never saw; keep as many training rows as set, and note how many have none."""
    for name in ("validation", "test"):
        if name in tables and classes is not None:
            check_seen(tables[name], tables["train"], classes)
    if settings.train_rows is not None:
        tables["train"] = fewer(tables["train"], settings.train_rows, seed, notes)
    without = int(tables["train"].unlabelled.sum())
    if without:
        none = "; where none applies, write an empty list, []" if classes and classes.several else ""
        notes.append(f"{without} of {len(tables['train'])} train rows have no label; they are read as unlabelled text{none}.")


def read_one(
    source: str | InMemory,
    settings: DataSettings,
    task: Task,
    *,
    label_names: Sequence[str] | None,
    labels: Literal["some"] | bool | None = True,
    notes: list[str] | None = None,
) -> Dataset:
    """Read the rows of one file, or of a folder's or hub data set's test (else validation, else train) split.

    Args:
        source: a file, folder or hub name.
        settings: its `columns` and `label_names` are used.
        task: decides which columns are read, and what its labels are.
        label_names: the model's, in its order.
        labels: True, every row has one; `some`, the column is there; None, it may be missing; False ignores it, there or not.
        notes: takes what the user should know of the labels.

    Raises:
        DataError: a source, column, text or label that does not fit.
    """
    columns, answer = columns_of(settings, task, answer=labels is not False), task.answer()
    if sources.is_table(source):
        split = as_read(str(source), sources.read_table(source, columns), columns, task)
    else:
        splits = sources.read_folder_or_hub(str(source), columns)
        name = next(name for name in ("test", "validation", "train") if name in splits)
        split = as_read(f"{source}, {name}", splits[name], columns, task)
    wanted = "some" if labels == "some" else "all" if labels else "none"
    if labels is None and answer.name in split.dataset.column_names:
        wanted = "some"
    need_columns(split, ("text",) if wanted == "none" else ("text", answer.name))
    classes = no_data(label_names, answer) if wanted == "none" else class_map(split, settings, label_names, answer)
    table = _table(split, "text_pair" in split.dataset.column_names, classes, labels=wanted)
    if notes is not None and not table.unlabelled.all():
        notes += doubts({"test": table}, classes, declared=settings.label_names is not None)
    return table.dataset()


def read_texts(source: str, settings: DataSettings) -> Dataset:
    """Read text for a masked language model: each text once, unlabelled, with its identity.

    Args:
        source: a .txt file with a paragraph a line, or a table whose other columns are ignored.
        settings: its `columns` are used.

    Raises:
        DataError: a source, column or text that does not fit.
    """
    check_roles(settings.columns, sources.our_columns())
    table = _raw(source, settings, Classes((), {}, ""))
    _, first = np.unique(np.asarray(table.identities), return_index=True)
    once = np.zeros(len(table), dtype=bool)
    once[first] = True
    return table.take(once).dataset()


def say_notes(notes: Iterable[str], say: Callable[[str], None]) -> None:
    """Report the notes on the rows to the user."""
    for note in notes:
        say(note if note.startswith("Warning: ") else f"Note: {note}")


def single_texts(rows: Dataset, held_out: Container[str] = ()) -> Dataset:
    """The texts of rows as rows of their own, both sides of pairs, each text once, without labels.

    Args:
        held_out: texts to leave out, as `as_plain_text` has them.
    """
    from datasets import Dataset

    known: dict[str, str] = {}  # texts that differ by blanks or case are one
    for text in texts_in(rows):
        known.setdefault(plain(text), text)
    texts = [text for key, text in known.items() if key not in held_out]
    return Dataset.from_dict({"identity": list(map(identity, texts)), "text": texts, "label": np.full(len(texts), UNLABELLED)})


def held_out_texts(rows: Dataset) -> tuple[Dataset, Dataset]:
    """Texts to learn from, and a twentieth of them (1,000 at most) to select by; which ones depends on the texts alone.

    Raises:
        DataError: a single text.
    """
    if len(rows) < 2:
        raise DataError("text for a masked language model: one text only; at least two are needed, one of them for validation")
    order = np.argsort(np.asarray(rows["identity"]), kind="stable")
    count = max(1, min(len(rows) // 20, 1000))
    return rows.select(np.sort(order[count:])), rows.select(np.sort(order[:count]))


def _raw(source: str, settings: DataSettings, classes: Classes | None) -> Table:
    columns = {our: theirs for our, theirs in settings.columns.items() if our == "text"}
    dataset = sources.read_raw(source, columns)
    return _table(
        Source(source, dataset.remove_columns([name for name in dataset.column_names if name != "text"])), False, classes, labels="none"
    )


def _table(source: Source, pair: bool, classes: Classes | None, *, labels: str) -> Table:
    """Check the texts and number the labels: those of `all` rows, of `some`, or of `none`."""
    texts = texts_of(source, "text")
    if "text_pair" in source.dataset.column_names and not pair:
        raise DataError(f"{source.where}: has a column text_pair, but the train rows have none; give both or neither")
    pairs = texts_of(source, "text_pair") if pair else None
    unknown = np.full(len(texts), math.nan)
    if classes is not None:
        shape = (len(texts), len(classes.names)) if classes.several else len(texts)
        unknown = np.full(shape, UNLABELLED, dtype=np.int64)
    identities = list(map(identity, texts)) if pairs is None else list(map(identity, texts, pairs))
    table = Table(source.where, identities, texts, pairs, unknown)
    if labels == "none":
        return table
    need_column(source, source.answer)
    table = replace(table, labels=numbers(source) if classes is None else indices(source, classes))
    missing = np.flatnonzero(table.unlabelled)
    if labels == "all" and missing.size:
        raise DataError(f"{source.where}: {rows_named(missing)} without a label; only train and transfer rows may have none")
    return table


def facts_of(rows: Dataset) -> dict[str, Any]:
    """How many rows, and a hash over their identities and labels in order."""
    digest = hashlib.sha256()
    for key, label in zip(rows["identity"][:], rows["label"][:], strict=True):
        digest.update(f"{key} {label!r}\n".encode())
    return {"rows": len(rows), "sha256": digest.hexdigest()}


def hashed(value: Any) -> str:
    """Of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def texts_in(*parts: Dataset | None) -> list[str]:
    """Every text of some rows, both sides of pairs."""
    tables = [part for part in parts if part is not None]
    columns = ("text", "text_pair")
    return [text for part in tables for column in columns if column in part.column_names for text in part[column]]


def write_rows(file: Path, rows: Dataset) -> None:
    """Keep rows as Parquet."""
    import pyarrow.parquet

    with whole(file) as new:  # `Dataset.to_parquet` draws a bar of its own
        pyarrow.parquet.write_table(rows.with_format("arrow")[:], new)


def read_rows(file: Path, like: Dataset) -> Dataset:
    """Rows that `write_rows` kept, with the columns of `like`.

    Raises:
        DataError: the file is damaged.
    """
    import pyarrow.parquet
    from datasets import Dataset

    try:
        columns = pyarrow.parquet.read_table(file).to_pydict()
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: damaged ({error}); delete it, and its rows are made again") from error
    return Dataset.from_dict(columns, features=like.features)


def labelled(rows: Dataset) -> Dataset:
    """The rows that have a label."""
    has = ~unlabelled(np.asarray(rows["label"]))
    return rows if has.all() else rows.select(np.flatnonzero(has))
