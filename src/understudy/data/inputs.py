"""Settings of the rows → the tables that they name, as they were read, under the names of the task's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from understudy.data import sources
from understudy.data.labels import all_names
from understudy.data.tables import Source, need_columns
from understudy.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.settings.data import DataSettings
    from understudy.tasks import Task


def columns_of(settings: DataSettings, task: Task, *, answer: bool = True) -> dict[str, str]:
    """The task's name of a column → the file's, as settings say; `label` is the task's answer, whatever it calls it.

    Args:
        answer: with the column of the answer.

    Raises:
        DataError: a name that is none of a column of the task.
    """
    label, ours = task.answer().name, [column.name for column in task.columns]
    renamed = {label if our == "label" else our: theirs for our, theirs in settings.columns.items()}
    check_roles(renamed, ours)
    return {our: theirs for our, theirs in renamed.items() if answer or our != label}


def check_roles(columns: Mapping[str, str], ours: Sequence[str]) -> None:
    """Refuse to rename a column that is none of ours.

    Raises:
        DataError: with the nearest of ours.
    """
    for our, theirs in columns.items():
        if our not in ours:
            swap = f" Swap the sides: --column {theirs}={our}" if theirs in ours else ""
            raise DataError(f"data.columns: unknown column role '{our}'; {did_you_mean(our, ours)}{swap}")


def as_read(where: str, dataset: Dataset, columns: Mapping[str, str], task: Task) -> Source:
    """A table without a second text where the task reads one only."""
    ours = [column.name for column in task.columns]
    if "text_pair" in dataset.column_names and "text_pair" not in ours:
        dataset = dataset.remove_columns("text_pair")
    return Source(where, dataset, columns, task.answer().name)


def opened(settings: DataSettings, task: Task, notes: list[str]) -> dict[str, Source]:
    """Every split that settings name; of training rows in a folder or on the hub, also those that it has beside them.

    Raises:
        DataError: nothing to train on, or what `sources` raises.
    """
    if settings.train is None and settings.transfer is None:
        raise DataError("data.train is not given; name a file, a folder or a hub data set, as in --train train.jsonl")
    splits: dict[str, Source] = {}
    columns = columns_of(settings, task)
    if settings.train is None:
        pass
    elif sources.is_table(settings.train):
        table = sources.read_table(settings.train, columns, notes)
        splits["train"] = as_read(str(settings.train), table, columns, task)
    else:
        for name, dataset in sources.read_folder_or_hub(str(settings.train), columns, notes).items():
            splits[name] = as_read(f"{settings.train}, {name}", dataset, columns, task)
        if "train" not in splits:
            raise DataError(f"{settings.train}: no train split; it has {', '.join(splits)}")
        if "test" in splits and _no_labels_at_all(splits["test"], task):  # as the test sets of GLUE on the hub
            del splits["test"]
            notes.append(f"The test rows of {settings.train} have no labels and were left out.")
    for name, source in (("validation", settings.validation), ("test", settings.test), ("transfer", settings.transfer)):
        if source is None:
            continue
        columns = columns_of(settings, task, answer=name != "transfer")
        if sources.is_table(source):
            splits[name] = as_read(str(source), sources.read_table(source, columns, notes), columns, task)
            continue
        available = sources.read_folder_or_hub(str(source), columns, notes)
        wanted = "train" if name == "transfer" else name
        if wanted not in available:
            raise DataError(f"{source}: no {wanted} split; it has {', '.join(available)}")
        splits[name] = as_read(f"{source}, {wanted}", available[wanted], columns, task)
    return splits


def no_labels(source: Source) -> DataError:
    """The error for training rows without the column of the labels."""
    if "text" not in source.dataset.column_names:
        need_columns(source, ("text", source.answer))
    names = [source.columns.get(name, name) for name in source.dataset.column_names]
    missing = str(sources.no_column(source.where, source.answer, names)).rstrip(".")
    end = "" if missing.endswith("?") else "."
    return DataError(f"{missing}{end} If its rows have no labels, give the file to `distill` with --transfer instead of --train")


def _no_labels_at_all(source: Source, task: Task) -> bool:
    if source.answer not in source.dataset.column_names:
        return True
    named = all_names(source, several=task.answer().kind == "classes")
    return not any(names is not None for names in named)
