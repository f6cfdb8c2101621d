"""The program `evaluate`: a finished model on labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy import __version__
from understudy.data.in_memory import source_of
from understudy.data.rows import labelled, read_one, say_notes
from understudy.errors import DataError, ModelError
from understudy.evaluation.measure import ModelResult, compare
from understudy.files import is_export
from understudy.machine import find_device
from understudy.models.origin import model_in, task_of_model
from understudy.models.text_model import TextModel
from understudy.runs.folder import Say
from understudy.runtime import Predictor
from understudy.settings.calling import Source, named_columns, silent
from understudy.settings.data import DataSettings


def evaluate(
    model: str | Path,
    data: Source,
    *,
    teacher: str | Path | None = None,
    task: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    columns: Mapping[str, str] | None = None,
    max_length: int | None = None,
    device: str | None = None,
    say: Say | None = print,
) -> Facts:
    """Measure a model, an export or a run's student on labelled rows, beside its teacher where one is given.

    Returns:
        facts as in facts.json; in a notebook they show their table.

    Raises:
        UserError: the model or the data does not fit.
    """
    try:
        source: Any = source_of(data)
    except ValueError as error:
        raise DataError(f"data: {error}") from error
    named = {**(columns or {}), **named_columns(text, text_pair, label)}
    model, teacher, say = str(model), None if teacher is None else str(teacher), say or silent
    device = find_device(device)
    folders = {"student": model_in(model, say=say)} | ({"teacher": model_in(teacher, say=say)} if teacher else {})
    loaded = {name: _load(folder, max_length, task) for name, folder in folders.items()}
    names = loaded["student"].label_names
    if teacher is not None and loaded["teacher"].label_names != names:
        raise ModelError(
            f"{teacher} has the labels {loaded['teacher'].label_names}, {model} has {names}; to compare them they must be the same"
        )
    kind = one.task if isinstance(one := loaded["student"], Predictor) else task_of_model(folders["student"], one, task)
    notes: list[str] = []
    found = read_one(source, DataSettings(columns=named), kind, label_names=names, labels="some", notes=notes)
    say_notes(notes, say)
    rows = labelled(found)
    if not len(rows):
        raise DataError(f"{source}: no row has a label; to measure a model, some are needed")
    if len(rows) < len(found):
        say(f"Note: {len(found) - len(rows):,} of {len(found):,} rows have no label and are left out")
    say(f"Measuring on {len(rows):,} rows")
    measured = {name: ModelResult((one,), (Path(folders[name]),) if Path(folders[name]).is_dir() else ()) for name, one in loaded.items()}
    facts = compare(measured, rows, kind, metric=kind.metrics[0].name, device=device)
    return Facts(
        {
            "understudy": __version__,
            "task": task or kind.kind(),
            "model": folders["student"],
            "data": {"test": {"rows": len(rows), "file": str(source)}},
            **facts,
        }
    )


class Facts(dict[str, Any]):
    """What was measured, as in facts.json; shown as its table."""

    def __repr__(self) -> str:
        from understudy.reporting.display import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from understudy.reporting.display import as_html

        return as_html(self)


def _load(folder: str, max_length: int | None, task: str | None) -> TextModel | Predictor:
    if not is_export(folder):
        return TextModel.load(folder, max_length=max_length)
    if max_length is not None:
        raise ModelError(f"{folder}: an exported model has the length it was exported with; remove --max-length")
    import torch

    return Predictor(folder, threads=torch.get_num_threads(), task=task)
