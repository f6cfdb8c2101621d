"""The programs `evaluate` and `predict`: a finished model on rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from understudy import __version__, parts
from understudy.data.rows import read_one
from understudy.errors import DataError, ModelError
from understudy.evaluate.measure import Measured, compare
from understudy.recipe import DataSettings
from understudy.run import Say
from understudy.tasks import Task
from understudy.teachers.capture import logits_of
from understudy.text_model import TextModel
from understudy.train.precision import find_device


def evaluate(
    model: str, data: str, *, teacher: str | None = None, task: str | None = None, columns: dict[str, str] | None = None,
    max_length: int | None = None, device: str | None = None, say: Say = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure a model on labelled rows, beside its teacher where one is given.

    Args:
        model: folder of a student, a teacher, or any fine-tuned model.
        task: None takes classification, or similarity for a model with one output.

    Returns:
        facts as in facts.json; the model is called `student`.

    Raises:
        UserError: the model or the data does not fit.
    """
    device = find_device(device)
    loaded = {"student": TextModel.load(model, max_length=max_length)}
    names = loaded["student"].label_names
    if teacher is not None:
        loaded["teacher"] = TextModel.load(teacher, max_length=max_length)
        if loaded["teacher"].label_names != names:
            raise ModelError(
                f"{teacher} has the labels {loaded['teacher'].label_names}, {model} has {names}; to compare them they must be the same"
            )
    task = task or ("similarity" if names is None else "classification")
    kind: Task = parts.part("tasks", task)()
    if (names is None) != (kind.label_type == "number"):
        raise ModelError(
            f"{model}: a {'regression' if names is None else 'classification'} model, but --task is {task}"
        )
    rows = read_one(data, DataSettings(columns=columns or {}), kind, label_names=names)
    say(f"Measuring on {len(rows):,} rows")
    folders = {"student": model, "teacher": teacher}
    measured = {
        name: Measured((one,), (Path(str(folders[name])),) if Path(str(folders[name])).is_dir() else ())
        for name, one in loaded.items()
    }
    facts = compare(measured, rows, kind, metric=kind.primary_metric, label_names=names, device=device)
    return {
        "understudy": __version__,
        "task": task,
        "model": model,
        "data": {"test": {"rows": len(rows), "file": data}},
        **facts,
    }


def predict(
    model: str, *, texts: Sequence[str] | None = None, pairs: Sequence[str] | None = None, file: str | None = None,
    columns: dict[str, str] | None = None, device: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Labels with their probabilities, or numbers, in the order of the texts.

    Args:
        texts: what to predict; or
        file: of rows with `text` (and `text_pair`).
        pairs: the second texts, where there are some.

    Raises:
        UserError: the model or the data does not fit.
    """
    from datasets import Dataset
    from scipy.special import softmax

    loaded = TextModel.load(model)
    if file is not None:
        task: Task = parts.part("tasks", "similarity" if loaded.label_names is None else "classification")()
        rows = read_one(file, DataSettings(columns=columns or {}), task, label_names=loaded.label_names, labels=False)
    else:
        if any(not text.strip() for text in texts or []):
            raise DataError("a text is empty; give some words")
        rows = Dataset.from_dict(
            {"text": list(texts or []), **({"text_pair": list(pairs)} if pairs is not None else {})}
        )
    logits = logits_of(loaded, rows, device=find_device(device))
    given = [{key: row[key] for key in ("text", "text_pair") if key in row} for row in rows]
    names = loaded.label_names
    if names is None:
        return [{**one, "value": float(value)} for one, value in zip(given, logits[:, 0], strict=True)]
    return [
        {
            **one,
            "label": names[int(row.argmax())],
            "probability": float(row.max()),
            "probabilities": dict(zip(names, row.tolist(), strict=True)),
        }
        for one, row in zip(given, softmax(logits, axis=-1), strict=True)
    ]
