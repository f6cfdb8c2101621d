"""The program `benchmark`: torch models and exports side by side, on the rows and the processor at hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy import __version__
from understudy.data.rows import labelled, read_one
from understudy.errors import ModelError
from understudy.evaluation.measure import answers_of, texts_of
from understudy.evaluation.memory import peak_memory_mib
from understudy.evaluation.quality import quality
from understudy.evaluation.speed import measure_all, size
from understudy.files import is_export
from understudy.machine import environment
from understudy.models.origin import model_in, task_of_model
from understudy.models.text_model import TextModel
from understudy.runs.folder import Say
from understudy.runtime import Predictor
from understudy.settings.data import DataSettings
from understudy.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset

_MEMORY_ROWS = 256


def benchmark(
    models: Sequence[str],
    data: str,
    *,
    columns: dict[str, str] | None = None,
    threads: int | None = None,
    seconds: float = 2.5,
    task: str | None = None,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Speed, memory, size and quality of several models, tokenization included; they take turns, so that the machine is fair to all.

    Args:
        models: folders of torch models, and of exports; each file of an export is a line of its own.
        data: rows; with labels, quality is measured too.
        columns: our name → the file's name.
        threads: of every model; None takes torch's own number, which `OMP_NUM_THREADS` sets.
        seconds: of latency, and again of throughput, for each.
        task: kind of task, where it is in a file of yours; None: what the first model says.

    Returns:
        `threads`, `batch_size`, `data`, `environment`, and `models`, a list: `model`, `form` (`torch`, `onnx`, `onnx_int8`),
        `rows_per_second` and `latency_ms` with their ranges over rounds, `peak_memory_mib`, `size_mib`, `parameters`, `quality`.

    Raises:
        UserError: a model or the data does not fit, or models differ in their labels.
    """
    import torch

    before = torch.get_num_threads()
    threads = threads or before
    torch.set_num_threads(threads)
    try:
        lines = _load(models, threads, task)
        names = {model.label_names for _, _, model in lines}
        if len(names) > 1:
            raise ModelError(f"models have different labels: {' and '.join(map(str, names))}; compare those of one task")
        label_names = names.pop()
        name, _, first = lines[0]
        kind = first.task if isinstance(first, Predictor) else task_of_model(name, first, task)
        rows = read_one(data, DataSettings(columns=columns or {}), kind, label_names=label_names, labels=None)
        say(f"Measuring {len(lines)} models on {len(rows):,} rows, {threads} threads")
        texts = texts_of(rows)
        speeds = measure_all({str(number): one for number, (_, _, one) in enumerate(lines)}, texts, seconds=seconds)
        sample = random.Random(0).sample(texts, min(len(texts), _MEMORY_ROWS))
        entries = [
            {
                "model": name,
                "form": form,
                **speeds[str(number)],
                "peak_memory_mib": peak_memory_mib(name, _PRECISIONS[form], sample, threads=threads),
                **size(model, name),
                **_quality(model, rows, kind),
            }
            for number, (name, form, model) in enumerate(lines)
        ]
    finally:
        torch.set_num_threads(before)
    return {
        "understudy": __version__,
        "task": kind.kind(),
        "primary_metric": kind.metrics[0].name,
        "threads": threads,
        "batch_size": 32,
        "data": {"rows": len(rows), "file": data},
        "environment": environment("cpu"),
        "models": entries,
    }


_PRECISIONS = {"torch": None, "onnx": "float32", "onnx_int8": "int8"}


def _load(models: Sequence[str], threads: int, task: str | None) -> list[tuple[str, str, TextModel | Predictor]]:
    """(folder, form, model), an export once for each of its files."""
    found: list[tuple[str, str, TextModel | Predictor]] = []
    for name in (model_in(model, export=True) for model in models):
        if not is_export(name):
            found.append((name, "torch", TextModel.load(name)))
            continue
        for form, precision in _PRECISIONS.items():
            if precision in Predictor(name, threads=threads).about["files"]:
                found.append((name, form, Predictor(name, threads=threads, int8=precision == "int8", task=task)))
    return found


def _quality(model: TextModel | Predictor, rows: Dataset, task: Task) -> dict[str, Any]:
    known = labelled(rows)
    if not len(known):
        return {}
    outputs = task.decided(answers_of(model, known), model.fitted)
    return {"quality": quality(task, outputs, np.asarray(known["label"]))}
