"""What a person would have stopped at: sentences about the labels and texts of a run, before anything is trained."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from understudy.data.labels import Classes
from understudy.data.spelling import misspelt
from understudy.data.tables import Table

MISSING = {"nan", "null", "none", "nil", "n/a", "#n/a", "na", "<na>", "nat", "-", "--", "?", "#ref!", "#value!", "#name?", "#div/0!"}
_SHOWN = 12  # classes that are all named; of more, the largest and the smallest


def described(train: Table, classes: Classes | None) -> str:
    """The labels of the training rows: every class with its rows, or the range of numbers."""
    labels = train.labels[~train.unlabelled]
    if not len(labels):
        return "No train row has a label."
    if classes is None:
        spread = f"from {labels.min():g} to {labels.max():g}, {labels.mean():.3g} on average"
        return f"Labels of the train rows: {len(labels):,} numbers {spread}."
    names, counts = classes.names, classes.counts(labels)
    order = sorted(range(len(names)), key=lambda index: -counts[index])
    average = ""
    if classes.several:
        without = int((~labels.any(axis=1)).sum())
        average = f" Each row has {counts.sum() / len(labels):.2f} of them on average; {without:,} have none."
    if len(names) <= _SHOWN:
        return f"Classes of the train rows: {_counted([(names[index], counts[index]) for index in order])}.{average}"
    largest, smallest = ([(names[index], counts[index]) for index in part] for part in (order[:3], order[-3:]))
    return f"{len(names)} classes in the train rows; the largest are {_counted(largest)}, the smallest {_counted(smallest)}.{average}"


def doubts(tables: Mapping[str, Table], classes: Classes | None, *, splits: int = 0, declared: bool = False) -> list[str]:
    """Warnings of rows as they were given, before splits are made.

    Args:
        tables: split → its rows.
        splits: how many are to be split off the training rows.
        declared: the user said what the classes are, so that none of them is doubtful.
    """
    labelled = {name: table for name, table in tables.items() if not table.unlabelled.all()}
    repeated = [warning for name, table in labelled.items() for warning in _repeated(name, table)]
    if classes is None:
        return repeated
    counts: Counter[str] = Counter()
    for table in labelled.values():
        rows_of_classes = classes.counts(table.labels[~table.unlabelled]).tolist()
        counts.update({name: rows for name, rows in zip(classes.names, rows_of_classes, strict=True) if rows})
    return [
        *([] if declared else _names(counts, several=classes.several)),
        *(_rare(labelled["train"], classes, splits) if "train" in labelled else []),
        *_contradictions(labelled, classes),
        *repeated,
    ]


def _names(counts: Counter[str], *, several: bool) -> list[str]:
    warnings = []
    if missing := [name for name in counts if name.strip().lower() in MISSING]:
        warnings.append(
            f"Warning: {_rows([(name, counts[name]) for name in missing])}, which is read as a class. If it means that there is no "
            "label, leave the field empty (such rows are read as unlabelled text), or remove the rows."
        )
    alike = defaultdict(list)
    for name in sorted(counts):
        alike[_bare(name)].append(name)
    pairs = [names for names in alike.values() if len(names) > 1]
    if pairs:
        shown = "; ".join(_counted([(f"'{name}'", counts[name]) for name in names]) for names in pairs[:5])
        more = f" and {len(pairs) - 5} more" if len(pairs) > 5 else ""
        warnings.append(
            f"Warning: labels that differ only in case, blanks or Unicode form are different classes: {shown}{more}. "
            "Use one spelling for each class."
        )
    if slips := [(slip, name) for slip, name in misspelt(counts) if _bare(slip) != _bare(name)]:
        shown = "; ".join(f"'{slip}' {counts[slip]:,} beside '{name}' {counts[name]:,}" for slip, name in slips[:5])
        more = f" and {len(slips) - 5} more" if len(slips) > 5 else ""
        warnings.append(
            f"Warning: labels that are nearly another are different classes: {shown}{more}. A misspelling? Then correct it; else name all "
            "classes with data.label_names."
        )
    joined = [] if several else [name for name in counts if _looks_like_several(name, counts)]
    if joined:
        shown = ", ".join(f"'{name}'" for name in joined[:3])
        warnings.append(
            f"Warning: {sum(counts[name] for name in joined)} rows have a label that looks like several ({shown}); each is read as a "
            "class of its own. Where a row may have several labels, give --task multilabel; else keep one."
        )
    return warnings


def _bare(name: str) -> str:
    """A name without what people write either way."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def _looks_like_several(name: str, counts: Counter[str]) -> bool:
    if name.startswith("[") and name.endswith("]"):
        try:
            return isinstance(json.loads(name.replace("'", '"')), list)
        except ValueError:
            return False
    parts = [part.strip() for part in re.split(r"[|,;/]", name)]
    return len(parts) > 1 and all(parts) and (any(part in counts for part in parts) or "|" in name)


def _rare(train: Table, classes: Classes, splits: int) -> list[str]:
    counts = classes.counts(train.labels[~train.unlabelled])
    least = 1 + max(1, splits)
    rare = [(classes.names[index], int(counts[index])) for index in np.argsort(counts, kind="stable") if 0 < counts[index] < least]
    if not rare:
        return []
    why = "each split needs one" if splits else "one row is too few to learn from"
    return [
        f"Warning: {len(rare)} of {len(classes.names)} classes have fewer than {least} train rows ({_counted(rare[:5])}"
        f"{', …' if len(rare) > 5 else ''}); {why}. Add rows, or remove these classes."
    ]


def several_labels(tables: Mapping[str, Table]) -> dict[str, int]:
    """How many labelled texts there are (`of`), and how many of them have more than one label, in one file or between files (`texts`)."""
    labels, _ = _labels_of(tables)
    return {"texts": sum(len(distinct) > 1 for distinct in labels.values()), "of": len(labels)}


def _labels_of(tables: Mapping[str, Table]) -> tuple[dict[str, dict[Any, str]], dict[str, str]]:
    """Text → label → where it was first; and each text as it is written."""
    labels: dict[str, dict[Any, str]] = defaultdict(dict)
    example: dict[str, str] = {}
    for name, table in tables.items():
        for row in np.flatnonzero(~table.unlabelled):
            identity = table.identities[row]
            label = table.labels[row]
            labels[identity].setdefault(tuple(label.tolist()) if label.ndim else int(label), name)
            example.setdefault(identity, table.texts[row])
    return labels, example


def _contradictions(tables: Mapping[str, Table], classes: Classes) -> list[str]:
    """Texts that have more than one label, in one file or between files."""
    labels, example = _labels_of(tables)
    several = [identity for identity, distinct in labels.items() if len(distinct) > 1]
    if not several:
        return []
    where = sorted({name for identity in several for name in labels[identity].values()}, key=list(tables).index)
    first = " and ".join(f"'{', '.join(classes.of(label))}'" for label in labels[several[0]])
    verb = "texts have" if len(several) > 1 else "text has"
    what, instead = ("labels that differ", "row") if classes.several else ("several labels", "label")
    return [
        f"Warning: {len(several):,} {verb} {what} (in {' and '.join(where)}), as {example[several[0]][:60]!r} has {first}; "
        f"keep one {instead} for each."
    ]


def _repeated(name: str, table: Table) -> list[str]:
    distinct = {(identity, label.tobytes()) for identity, label in zip(table.identities, table.labels, strict=True)}
    repeats = len(table) - len(distinct)
    return [f"{repeats:,} of {len(table):,} {name} rows repeat another of them, with the same label; they were left in."] if repeats else []


def _counted(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts)


def _rows(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{count:,} rows have the label '{name}'" for name, count in counts)
