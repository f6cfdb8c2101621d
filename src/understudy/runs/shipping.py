"""What a run ships: its student as exports, and the quantized teacher, which a student has to beat."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy import __version__
from understudy.data.rows import labelled
from understudy.errors import ExportError, ModelError, UserError
from understudy.evaluation.measure import Measured
from understudy.exporting.folder import Exported, Precision, write_card, write_export
from understudy.exporting.graph import need_exporter
from understudy.exporting.parity import expected
from understudy.files import is_export
from understudy.models.origin import Origin
from understudy.models.text_model import TextModel
from understudy.runs.folder import Say
from understudy.runtime import Predictor, read_description

if TYPE_CHECKING:
    from understudy.runs.plan import TaskPlan

FOLDER = "export"
_PRECISIONS: dict[str, Precision] = {"onnx": "float32", "onnx_int8": "int8"}


@dataclass(frozen=True)
class Shipped:
    """What was exported.

    Args:
        models: `student_onnx`, `student_onnx_int8`, `teacher_onnx_int8`, as far as there.
        parity: of each the figures of the gate, and what it holds against it, where it does.
        student: the folder of the student's export, and where it comes from; None: there is none.
    """

    models: dict[str, Measured] = field(default_factory=dict)
    parity: dict[str, dict[str, Any]] = field(default_factory=dict)
    student: tuple[Path, Origin] | None = None

    def tell_card(self, facts: dict[str, Any]) -> None:
        """Write what was measured into the student's model card."""
        if self.student is not None:
            folder, origin = self.student
            write_card(folder, replace(origin, facts=facts))


def ship(
    plan: TaskPlan, student: Measured, run: Path, cache: Path, *, device: str = "cpu", say: Say = lambda line: None
) -> Shipped:
    """Export the student of a run as its recipe asks, and its teacher in 8 bits; none of it can make the run fail.

    A file of the student that does not answer as the student does is left out. The teacher's is kept and measured all the same: it is
    a yardstick, and its quality is measured like any other's. It is in the cache, made once for all runs with this teacher.

    Args:
        student: trained.
        run: gets the folder `export`.
        cache: of what runs share.
    """
    asked, model = plan.recipe.export, student.models[0]
    assert isinstance(model, TextModel)
    if not asked:
        return Shipped()
    try:
        need_exporter()
    except ModelError as error:
        say(f"Not exported: {error}")
        return Shipped()
    say("Exporting the student" + (" and the quantized teacher" if len(plan.teacher.models) == 1 else ""))
    origin = Origin("student", "student", run, plan.recipe.model_dump(mode="json"))
    shipped = Shipped()
    try:
        found = write_export(
            model, run / FOLDER, expected(model, labelled(plan.rows.validation), device=device), plan.task,
            precisions=[_PRECISIONS[form] for form in asked], origin=origin, drop=True, overwrite=True,
            calibrate=plan.recipe.calibrate and plan.task.calibrated,
        )  # fmt: skip
        shipped = _measured(found, "student")
        if found.folder is not None:
            shipped = replace(shipped, student=(found.folder, origin))
        for precision, complaints in found.complaints.items():
            say(f"The {precision} export of the student was skipped: {' and '.join(complaints)}")
    except (ExportError, UserError) as error:
        say(f"The student is not exported: {error}")
    if len(plan.teacher.models) == 1 and "onnx_int8" in asked:
        try:
            teacher = _measured(_cached_teacher(plan, cache, device), "teacher")
            shipped = replace(shipped, models=shipped.models | teacher.models, parity=shipped.parity | teacher.parity)
        except (ExportError, UserError) as error:
            say(f"The teacher is not exported: {error}")
    return shipped


def _measured(found: Exported, who: str) -> Shipped:
    """Exports as models to be measured, with the threads of the torch models beside them."""
    import torch

    models, figures = {}, {}
    for form, precision in _PRECISIONS.items():
        if precision in found.parity:
            figures[f"{who}_{form}"] = found.parity[precision]
        if found.folder is not None and precision in found.kept:
            export = Predictor(found.folder, threads=torch.get_num_threads(), int8=precision == "int8")
            models[f"{who}_{form}"] = Measured((export,))
    return Shipped(models, figures)


def _cached_teacher(plan: TaskPlan, cache: Path, device: str) -> Exported:
    """The teacher in 8 bits, exported now or by an earlier run."""
    teacher, rows = plan.teacher.models[0], labelled(plan.rows.validation)
    decides = {
        "teacher": plan.teacher.fingerprint, "rows": plan.rows.facts()["validation"], "task": plan.recipe.task, "device": device,
        "versions": [__version__, *(version(name) for name in ("torch", "transformers", "tokenizers", "onnxruntime"))],
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"teacher-int8-{key}"
    if not is_export(folder):
        name = plan.recipe.teacher.models[0]
        return write_export(
            teacher, folder, expected(teacher, rows, device=device), plan.task, precisions=["int8"],
            origin=Origin.find(name), allow_loss=True,
        )  # fmt: skip
    figures = read_description(folder)["parity"]
    return Exported(folder, figures)
