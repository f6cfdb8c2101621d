"""The exported folder: all of it written beside its place and compared with the model, then renamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from understudy import __version__
from understudy.errors import DataError, ExportError, RunFolderError
from understudy.evaluation.calibration import calibration, fit_temperature
from understudy.exporting.attention import can_fuse
from understudy.exporting.card import card
from understudy.exporting.graph import OPSET, model_inputs, write_graph, write_int8
from understudy.exporting.parity import Expected, complaints, labelled_places, parity
from understudy.files import DESCRIPTION, is_export, remove, whole, write_json, write_text
from understudy.models.origin import Origin
from understudy.models.view import plain
from understudy.runtime import FORMAT, Predictor, read_description
from understudy.tasks import check_head

if TYPE_CHECKING:
    from understudy.models.text_model import TextModel
    from understudy.tasks import Task

Precision = Literal["float32", "int8"]
FILES: dict[str, str] = {"float32": "model.onnx", "int8": "model.int8.onnx"}
_FUSED = "fused.onnx"  # what is quantized, where attention can be one operator
_VERSIONS = ("torch", "transformers", "tokenizers", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        folder: where; None where nothing passed.
        parity: precision → the figures of the gate, whether they `passed`, and, if not, the `complaints`. Of all precisions to export.
    """

    folder: Path | None
    parity: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def complaints(self) -> dict[str, list[str]]:
        """Precision → why it does not pass the gate, where it does not."""
        return {name: figures["complaints"] for name, figures in self.parity.items() if not figures["passed"]}

    @property
    def kept(self) -> list[str]:
        """The precisions that are in the folder."""
        return [] if self.folder is None else list(read_description(self.folder)["files"])


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that cannot be written, without touching it.

    Raises:
        RunFolderError: something is there; with `overwrite`, something that is not an exported model.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise RunFolderError(f"{out}: is a file; --out names a folder")
    if not is_export(out):
        raise RunFolderError(f"{out}: not empty, and not an export; give another --out")
    if not overwrite:
        raise RunFolderError(f"{out}: holds an export already; replace it with --overwrite, or give another --out")


def write_export(
    model: TextModel,
    out: Path,
    wanted: Expected,
    task: Task,
    *,
    precisions: Sequence[Precision] = ("float32", "int8"),
    origin: Origin | None = None,
    allow_loss: bool = False,
    drop: bool = False,
    overwrite: bool = False,
    calibrate: bool = False,
    pruning: dict[str, Any] | None = None,
) -> Exported:
    """Write a model as a folder that stands alone, and compare each file of it with the model.

    Args:
        model: of one text or of pairs, as the rows in `wanted` have them.
        wanted: the outputs of the model; see `parity.expected`.
        precisions: which files.
        origin: of the model, for its card.
        allow_loss: keep a file whose outputs do not match the model's, marked so.
        drop: leave such a file out, and nothing at all where none is left, rather than fail.
        overwrite: replace an export that is there.
        calibrate: fit a temperature on the rows in `wanted`, which the runtime then divides logits by.
        pruning: what `pruning.effect` gives for a model whose vocabulary was pruned.

    Raises:
        DataError: `calibrate` without labelled rows, or for numbers.
        ExportError: the outputs of a file do not match the model's; with the figures. Nothing is left behind.
        RunFolderError: something is there already.
        ModelError: the extra `export` is not installed, or the task is of another kind than the model.
    """
    check_out(out, overwrite=overwrite)
    check_head(task, model.problem_type, "the model to export")
    origin = origin or Origin("a model")
    more = {"calibration": _calibration(wanted, task) if calibrate else None, "pruning": pruning}
    with whole(out) as new:
        new.mkdir()
        exported = Exported(None, _fill(new, model, wanted, task, precisions))
        if exported.complaints and not (allow_loss or drop):
            raise ExportError(
                "; ".join(
                    f"the {precision} export does not match the model: {', and '.join(complaints)}"
                    for precision, complaints in exported.complaints.items()
                )
                + ". Keep it anyway with --allow-loss"
            )
        dropped = exported.complaints if drop and not allow_loss else {}
        kept = {precision: figures for precision, figures in exported.parity.items() if precision not in dropped}
        if not kept:
            remove(new)
            return exported
        for precision in dropped:
            _remove_graph(new / FILES[precision])
        _write_description(new, model, wanted, task, kept, **more)
        write_card(new, origin)
    return Exported(out, exported.parity)


def write_card(folder: Path, origin: Origin) -> None:
    """Write the model card of an export, anew where more is known of the model now."""
    write_text(folder / "README.md", card(read_description(folder), origin))


def _fill(new: Path, model: TextModel, wanted: Expected, task: Task, precisions: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Write the files that predictions need, and put each through the gate; returns its figures."""
    # Without padding and truncation: the runtime pads and truncates, as export.json states.
    (new / "tokenizer.json").write_text(plain(model.tokenizer.backend_tokenizer), "utf-8")
    graph, pair = new / FILES["float32"], "text_pair" in wanted.rows.column_names
    fuse = can_fuse(model.model)  # the float32 file keeps to standard operators, which any runtime has
    if "float32" in precisions or not fuse:
        write_graph(model, graph, pair=pair)
    if "int8" in precisions:
        if fuse:
            write_graph(model, new / _FUSED, pair=pair, fused=True)
        write_int8(new / _FUSED if fuse else graph, new / FILES["int8"])
    _write_description(new, model, wanted, task, {precision: {} for precision in precisions})  # for the gate
    figures = {precision: _gate(new, precision, wanted, task) for precision in precisions}
    if "int8" in figures and not figures["int8"]["passed"]:
        write_int8(new / _FUSED if fuse else graph, new / FILES["int8"], spare=True)
        figures["int8"] = _gate(new, "int8", wanted, task) | {"spared": True}
    _remove_graph(new / _FUSED)
    if "float32" not in precisions:
        _remove_graph(graph)
    return figures


def _gate(folder: Path, precision: str, wanted: Expected, task: Task) -> dict[str, Any]:
    """The figures of a file, and whether it may pass."""
    figures = parity(wanted, Predictor(folder, threads=1, int8=precision == "int8"), task)
    failures = complaints(figures, precision, task)
    return figures | ({"passed": False, "complaints": failures} if failures else {"passed": True})


def _fitted(model: TextModel, wanted: Expected, task: Task) -> dict[str, Any]:
    """What the model's predictions are decided by: its own, else fitted on the rows."""
    which, labels = labelled_places(wanted)
    return dict(model.fitted or (task.fit(wanted.logits[which], labels) if len(which) else {}))


def _calibration(wanted: Expected, task: Task) -> dict[str, Any]:
    """The temperature, and what it does to the rows that it was fitted on."""
    which, labels = labelled_places(wanted)
    if not task.calibrated or not len(which):
        raise DataError("calibration needs rows with class labels; give some, or do not calibrate")
    logits = wanted.logits[which]
    return {"rows": len(which), **calibration(logits, labels, fit_temperature(logits, labels))}


def _write_description(
    folder: Path, model: TextModel, wanted: Expected, task: Task, figures: dict[str, dict[str, Any]], **more: dict[str, Any] | None
) -> None:
    pair = "text_pair" in wanted.rows.column_names
    about = {
        "format": FORMAT,
        "understudy": __version__,
        "task": task.kind(),
        "problem_type": model.problem_type,
        "labels": None if model.label_names is None else list(model.label_names),
        "pair": pair,
        "max_length": model.view.max_length,
        "truncation_side": model.view.truncation_side,
        "pad_token_id": model.view.pad_token_id,
        "special_ids": list(model.view.special_ids),
        "unknown_id": model.view.unknown_id,
        "inputs": model_inputs(model, pair=pair),
        "files": {precision: FILES[precision] for precision in figures},
        "opset": OPSET,
        "parameters": model.parameters,
        "model_type": model.model.config.model_type,
        "versions": {"understudy": __version__} | {name: version(name) for name in _VERSIONS},
        "parity": figures,
        **({"fitted": fitted} if (fitted := _fitted(model, wanted, task)) else {}),
        **{name: value for name, value in more.items() if value},
    }
    write_json(folder / DESCRIPTION, about)


def _remove_graph(graph: Path) -> None:
    for file in graph.parent.glob(f"{graph.name}*"):  # weights of more than 2 GB are in a file of their own
        file.unlink()
