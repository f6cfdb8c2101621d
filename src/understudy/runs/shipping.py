"""The exports of a run: its student, and the quantized teacher, which the student has to beat."""

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
from understudy.evaluation.measure import ModelResult
from understudy.exporting.folder import Exported, Precision, write_card, write_export
from understudy.exporting.graph import need_exporter
from understudy.exporting.parity import expected
from understudy.files import is_export
from understudy.models.origin import Origin
from understudy.models.text_model import TextModel
from understudy.runs.folder import Say
from understudy.runs.inputs import code_of
from understudy.runtime import Predictor, read_description

if TYPE_CHECKING:
    from understudy.runs.plan import TaskPlan

FOLDER = "export"
_PRECISIONS: dict[str, Precision] = {"onnx": "float32", "onnx_int8": "int8"}


@dataclass(frozen=True)
class Shipped:
    """The exports of a run.

    Args:
        models: those of `student_onnx`, `student_onnx_int8` and `teacher_onnx_int8` that were exported.
        parity: export → the figures of its comparison with the original model, and why it failed, if it did.
        student: the folder of the student's export, and its origin; None: it was not exported.
    """

    models: dict[str, ModelResult] = field(default_factory=dict)
    parity: dict[str, dict[str, Any]] = field(default_factory=dict)
    student: tuple[Path, Origin] | None = None

    def update_card(self, facts: dict[str, Any]) -> None:
        """Write the measured figures into the student's model card."""
        if self.student is not None:
            folder, origin = self.student
            write_card(folder, replace(origin, facts=facts))


def ship(plan: TaskPlan, student: ModelResult, run: Path, cache: Path, *, device: str = "cpu", say: Say = lambda line: None) -> Shipped:
    """Export the student of a run in the forms that its recipe names, and its teacher in 8 bits. Failures are reported, not raised.

    An export of the student whose outputs differ from the student's is left out. That of the teacher is kept in any case, as a reference
    whose quality is measured too. It is in the cache, made once for all runs with this teacher.

    Args:
        student: trained.
        run: the run's folder, in which the folder `export` is made.
        cache: the folder that runs share.
    """
    forms, model = plan.recipe.export, student.models[0]
    assert isinstance(model, TextModel)
    if not forms:
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
        exported = write_export(
            model,
            run / FOLDER,
            expected(model, labelled(plan.rows.validation), device=device),
            plan.task,
            precisions=[_PRECISIONS[form] for form in forms],
            origin=origin,
            drop=True,
            overwrite=True,
            calibrate=plan.recipe.calibrate and plan.task.calibrated,
        )
        shipped = _measured(exported, "student")
        if exported.folder is not None:
            shipped = replace(shipped, student=(exported.folder, origin))
        for precision, complaints in exported.complaints.items():
            say(f"The {precision} export of the student was skipped: {' and '.join(complaints)}")
    except (ExportError, UserError) as error:
        say(f"The student is not exported: {error}")
    if len(plan.teacher.models) == 1 and "onnx_int8" in forms:
        try:
            teacher = _measured(_cached_teacher(plan, cache, device), "teacher")
            shipped = replace(shipped, models=shipped.models | teacher.models, parity=shipped.parity | teacher.parity)
        except (ExportError, UserError) as error:
            say(f"The teacher is not exported: {error}")
    return shipped


def _measured(exported: Exported, who: str) -> Shipped:
    """Exports as models to be measured, with as many threads as torch uses."""
    import torch

    models, figures = {}, {}
    for form, precision in _PRECISIONS.items():
        if precision in exported.parity:
            figures[f"{who}_{form}"] = exported.parity[precision]
        if exported.folder is not None and precision in exported.kept:
            export = Predictor(exported.folder, threads=torch.get_num_threads(), int8=precision == "int8")
            models[f"{who}_{form}"] = ModelResult((export,))
    return Shipped(models, figures)


def _cached_teacher(plan: TaskPlan, cache: Path, device: str) -> Exported:
    """The teacher in 8 bits, exported now or by an earlier run."""
    teacher, rows = plan.teacher.models[0], labelled(plan.rows.validation)
    decides = {
        "teacher": plan.teacher.fingerprint,
        "rows": plan.rows.facts()["validation"],
        "device": device,
        "task": [plan.recipe.task, code_of(plan.recipe.task)],
        "versions": [__version__, *(version(name) for name in ("torch", "transformers", "tokenizers", "onnxruntime"))],
    }
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"teacher-int8-{key}"
    if not is_export(folder):
        name = plan.recipe.teacher.models[0]
        return write_export(
            teacher,
            folder,
            expected(teacher, rows, device=device),
            plan.task,
            precisions=["int8"],
            origin=Origin.find(name),
            allow_loss=True,
        )
    figures = read_description(folder)["parity"]
    return Exported(folder, figures)
