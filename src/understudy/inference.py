"""The programs `evaluate` and `predict`: a finished model on rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy import __version__, parts
from understudy.data.in_memory import InMemory
from understudy.data.rows import labelled, read_one, say_notes
from understudy.data.streams import Row
from understudy.errors import DataError, ModelError
from understudy.evaluate.measure import Measured, compare, texts_of
from understudy.predicting import rows_of
from understudy.recipe import DataSettings
from understudy.run import Say, model_in
from understudy.runtime import GIVE_A_PAIR, Predictor, check_texts, is_export, six_digits
from understudy.tasks import Task
from understudy.teachers.capture import logits_of
from understudy.text_model import TextModel
from understudy.train.precision import find_device


def evaluate(
    model: str, data: str | InMemory, *, teacher: str | None = None, task: str | None = None, columns: dict[str, str] | None = None,
    max_length: int | None = None, device: str | None = None, say: Say = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure a model on labelled rows, beside its teacher where one is given.

    Args:
        model: folder of a student, a teacher, any fine-tuned model or an export; of a run folder its student is taken.
        teacher: likewise.
        task: None takes classification, or similarity for a model with one output.

    Returns:
        facts as in facts.json; the model is called `student`.

    Raises:
        UserError: the model or the data does not fit.
    """
    device = find_device(device)
    folders = {"student": model_in(model, say=say)} | ({"teacher": model_in(teacher, say=say)} if teacher else {})
    loaded = {name: _load(folder, max_length) for name, folder in folders.items()}
    names = loaded["student"].label_names
    if teacher is not None and loaded["teacher"].label_names != names:
        raise ModelError(
            f"{teacher} has the labels {loaded['teacher'].label_names}, {model} has {names}; to compare them they must be the same"
        )
    task = task or ("similarity" if names is None else "classification")
    kind: Task = parts.part("tasks", task)()
    if (names is None) != (kind.label_type == "number"):
        raise ModelError(
            f"{model}: a {'regression' if names is None else 'classification'} model, but --task is {task}"
        )
    notes: list[str] = []
    found = read_one(data, DataSettings(columns=columns or {}), kind, label_names=names, labels="some", notes=notes)
    say_notes(notes, say)
    rows = labelled(found)
    if not len(rows):
        raise DataError(f"{data}: no row has a label; to measure a model, some are needed")
    if len(rows) < len(found):
        say(f"Note: {len(found) - len(rows):,} of {len(found):,} rows have no label and are left out")
    say(f"Measuring on {len(rows):,} rows")
    measured = {
        name: Measured((one,), (Path(folders[name]),) if Path(folders[name]).is_dir() else ())
        for name, one in loaded.items()
    }
    facts = compare(measured, rows, kind, metric=kind.primary_metric, label_names=names, device=device)
    return {
        "understudy": __version__,
        "task": task,
        "model": folders["student"],
        "data": {"test": {"rows": len(rows), "file": str(data)}},
        **facts,
    }


def _load(folder: str, max_length: int | None) -> TextModel | Predictor:
    if not is_export(folder):
        return TextModel.load(folder, max_length=max_length)
    if max_length is not None:
        raise ModelError(f"{folder}: an exported model has the length it was exported with; remove --max-length")
    import torch

    return Predictor(folder, threads=torch.get_num_threads())


def predict(
    model: str, *, texts: Sequence[str] | None = None, pairs: Sequence[str] | None = None, file: str | None = None,
    columns: dict[str, str] | None = None, device: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """`understudy.predict` of a `transformers` folder, whose rows are checked whole before the model runs.

    Raises:
        UserError: the model or the data does not fit.
    """
    if file is None:
        return list(stream(model, rows_of(list(texts or []), pairs), device=device))
    loaded = TextModel.load(model)
    task: Task = parts.part("tasks", "similarity" if loaded.label_names is None else "classification")()
    rows = read_one(file, DataSettings(columns=columns or {}), task, label_names=loaded.label_names, labels=False)
    return _answers(loaded, texts_of(rows), device)


def stream(model: str, rows: Iterable[Row], *, device: str | None = None) -> list[dict[str, Any]]:
    """Answers of a `transformers` folder to rows, which are read whole first.

    Raises:
        UserError: the model or a row does not fit.
    """
    loaded, rows = TextModel.load(model), list(rows)
    pair = any(second is not None for _, second in rows)
    check_texts([text for text, _ in rows], [second for _, second in rows] if pair else None)
    reads_pairs = getattr(loaded.model.config, "pair", None)
    if rows and reads_pairs is not None and reads_pairs != pair:
        raise DataError(
            f"{model} needs a second text, but only one is given; {GIVE_A_PAIR}"
            if reads_pairs
            else f"{model} reads one text, but a second one is given; remove it"
        )
    return _answers(loaded, rows, device) if rows else []


def _answers(loaded: TextModel, rows: Sequence[Row], device: str | None) -> list[dict[str, Any]]:
    from datasets import Dataset
    from scipy.special import softmax

    columns: dict[str, list[Any]] = {"text": [text for text, _ in rows]}
    if any(second is not None for _, second in rows):
        columns["text_pair"] = [second for _, second in rows]
    logits = logits_of(loaded, Dataset.from_dict(columns), device=find_device(device))
    if not np.isfinite(logits).all():
        row = int(np.argwhere(~np.isfinite(logits))[0][0]) + 1
        raise ModelError(f"the model's output for row {row} is not a finite number; it is damaged or diverged")
    given = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    names = loaded.label_names
    if names is None:
        return [{**one, "value": value} for one, value in zip(given, six_digits(logits[:, 0].tolist()), strict=True)]
    return [
        {
            **one,
            "label": names[top],
            "probability": row[top],
            "probabilities": dict(zip(names, row, strict=True)),
        }
        for one, top, row in zip(
            given, logits.argmax(axis=-1), map(six_digits, softmax(logits, axis=-1).tolist()), strict=True
        )
    ]
