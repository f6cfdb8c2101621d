"""The program `export`: a trained model becomes a folder that stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from understudy import parts
from understudy.data.rows import read_one
from understudy.data.streams import stream_rows
from understudy.errors import ModelError
from understudy.export.folder import Exported, Precision, check_out, write_export
from understudy.export.graph import need_exporter
from understudy.export.origin import Origin
from understudy.export.parity import expected
from understudy.export.pruning import effect, pruned
from understudy.recipe import DataSettings
from understudy.run import Say
from understudy.tasks import Task
from understudy.text_model import TextModel


def export_model(
    model: str | Path, out: str | Path, *, int8: bool = False, data: str | None = None, columns: dict[str, str] | None = None,
    prune: Sequence[str] = (), calibrate: bool = False, allow_loss: bool = False, overwrite: bool = False,
    say: Say = lambda line: None,
) -> Exported:  # fmt: skip
    """Write a model as ONNX, with all that predictions need, after comparing its answers with the model's.

    Args:
        model: a run folder (its student), or the folder of a student, a teacher or any fine-tuned model.
        out: the folder to write.
        int8: write the quantized model too.
        data: rows to compare on; None takes the validation rows that the run folder names.
        columns: our name → the file's name.
        prune: files of texts; tokens that none of them uses are left out. None: all stay.
        calibrate: fit a temperature on the rows, for probabilities that can be believed.
        allow_loss: keep an export that does not answer as the model does.
        overwrite: replace an export that is there.

    Raises:
        ExportError: the export does not match the model; nothing is left behind.
        UserError: the model, the data or the folder does not fit, or the extra `export` is not installed.
    """
    need_exporter()
    out = Path(out)
    check_out(out, overwrite=overwrite)
    origin = Origin.find(str(model))
    loaded = TextModel.load(origin.model)
    task = _task(origin, loaded)
    if data is None:
        rows = origin.validation_rows(task, loaded.label_names)
    else:
        settings = DataSettings(columns=columns or {})
        rows = read_one(data, settings, task, label_names=loaded.label_names, labels=None)
    say(f"Exporting {origin.model} ({loaded.parameters:,} parameters), and comparing it on {len(rows):,} rows")
    precisions: tuple[Precision, ...] = ("float32", "int8") if int8 else ("float32",)
    wanted, pruning = expected(loaded, rows), None
    if prune:
        small = pruned(
            loaded, (text for file in prune for row in stream_rows(file, columns or {}) for text in row if text)
        )
        say(f"Pruned to {len(small.tokenizer):,} of {len(loaded.tokenizer):,} tokens ({small.parameters:,} parameters)")
        pruning = effect(loaded, small, wanted, task, allow_loss=allow_loss)
        loaded, wanted = small, expected(small, rows)
    return write_export(
        loaded, out, wanted, task, precisions=precisions, origin=origin, allow_loss=allow_loss, overwrite=overwrite,
        calibrate=calibrate, pruning=pruning,
    )  # fmt: skip


def _task(origin: Origin, model: TextModel) -> Task:
    """As the run says; else what the model's head is for."""
    name = origin.settings.get("task") or ("similarity" if model.label_names is None else "classification")
    task: Task = parts.part("tasks", name)()
    if task.label_type not in ("class", "number"):
        raise ModelError(f"{origin.model}: models of the task {name} cannot be exported yet")
    return task
