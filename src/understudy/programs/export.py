"""The program `export`: a trained model becomes a folder that stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from understudy.data import sources
from understudy.data.rows import read, read_one
from understudy.data.streams import stream_rows
from understudy.errors import DataError
from understudy.exporting.folder import Exported, Precision, check_out, write_export
from understudy.exporting.graph import need_exporter
from understudy.exporting.parity import expected
from understudy.exporting.pruning import effect, pruned
from understudy.models.origin import Origin, task_of_model
from understudy.models.text_model import TextModel
from understudy.runs.folder import Say
from understudy.settings.calling import silent
from understudy.settings.data import DataSettings
from understudy.settings.mistakes import messages_of

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.tasks import Task


def export(
    model: str | Path,
    out: str | Path,
    *,
    int8: bool = False,
    data: str | None = None,
    columns: dict[str, str] | None = None,
    prune: Sequence[str] = (),
    calibrate: bool = False,
    allow_loss: bool = False,
    overwrite: bool = False,
    task: str | None = None,
    say: Say | None = print,
) -> Exported:
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
        task: kind of task, where it is in a file of yours; None: what the run folder or the model says.

    Raises:
        ExportError: the export does not match the model; nothing is left behind.
        UserError: the model, the data or the folder does not fit, or the extra `export` is not installed.
    """
    need_exporter()
    say = say or silent
    out = Path(out)
    check_out(out, overwrite=overwrite)
    origin = Origin.find(str(model))
    loaded = TextModel.load(origin.model)
    kind = task_of_model(origin.model, loaded, task)
    if data is None:
        rows = validation_rows(origin, kind, loaded.label_names)
    else:
        settings = DataSettings(columns=columns or {})
        rows = read_one(data, settings, kind, label_names=loaded.label_names, labels=None)
    say(f"Exporting {origin.model} ({loaded.parameters:,} parameters), and comparing it on {len(rows):,} rows")
    precisions: tuple[Precision, ...] = ("float32", "int8") if int8 else ("float32",)
    wanted, pruning = expected(loaded, rows), None
    if prune:
        small = pruned(loaded, (text for file in prune for row in stream_rows(file, columns or {}) for text in row if text))
        say(f"Pruned to {len(small.tokenizer):,} of {len(loaded.tokenizer):,} tokens ({small.parameters:,} parameters)")
        pruning = effect(loaded, small, wanted, kind, allow_loss=allow_loss)
        loaded, wanted = small, expected(small, rows)
    return write_export(
        loaded,
        out,
        wanted,
        kind,
        precisions=precisions,
        origin=origin,
        allow_loss=allow_loss,
        overwrite=overwrite,
        calibrate=calibrate,
        pruning=pruning,
    )


def validation_rows(origin: Origin, task: Task, label_names: tuple[str, ...] | None) -> Dataset:
    """The rows that selected the model.

    Raises:
        DataError: nothing says which they are, or their files are gone.
    """
    ask = "give rows to compare the export on: --data FILE"
    if origin.run is None:
        raise DataError(f"{origin.model}: it is not in a run folder, so its validation rows are not known; {ask}")
    try:
        given = DataSettings(**origin.settings.get("data", {}))
    except ValidationError as error:  # rows that a Python program held
        raise DataError(f"{origin.run}: {'; '.join(messages_of(DataSettings, error))}. Or {ask}") from error
    # Whether there is a test file decides what is split off train, but only where the validation rows are split off too.
    data = given.model_copy(update={"transfer": None, "raw": None, "test": None if given.validation else given.test})
    for source in (data.train, data.validation, data.test):
        if source is not None and sources.is_table(source) and not Path(str(source)).is_file():
            raise DataError(f"{origin.run}: its rows no longer exist ({source}); {ask}")
    return read(data, task, seed=data.split_seed, label_names=label_names).validation
