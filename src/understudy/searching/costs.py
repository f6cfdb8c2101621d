"""The costs of a student, measured before training: size and speed depend on its shape, not on its weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.data.rows import labelled
from understudy.errors import ExportError, ModelError
from understudy.evaluation import speed
from understudy.evaluation.measure import texts_of
from understudy.exporting.folder import Precision, write_export
from understudy.exporting.parity import expected
from understudy.runtime import Predictor
from understudy.searching.budget import Budget, excess

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.models.text_model import TextModel
    from understudy.runs.plan import TaskPlan

PRECISIONS: dict[str, Precision] = {"onnx_int8": "int8", "onnx": "float32"}  # form → its precision, the smallest first
_SECONDS = 0.5  # of measuring single rows, and again batches
_ROWS = 16  # on which an untrained export is compared with its model
_MIB = 2**20


@dataclass(frozen=True)
class Candidate:
    """A student of the space, and its costs in each form that can ship.

    Args:
        kind: of student.
        shape: its name in the space.
        parameters: their number.
        forms: form (`onnx_int8`, `onnx`, `torch`) → costs. A student whose parameters alone exceed the budget is not measured: its only
            cost is their size.
        recipes: by which it can be taught.
    """

    kind: str
    shape: str
    parameters: int
    forms: dict[str, dict[str, float]]
    recipes: list[str]

    def within(self, budget: Budget) -> list[str]:
        """The forms that fit the budget, in the order in which they ship."""
        return [form for form, costs in self.forms.items() if len(costs) > 1 and excess(costs, budget) <= 1]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def teachable(candidates: Sequence[Candidate]) -> dict[str, dict[str, list[str]]]:
    """Kind → shape → the recipes by which it can be taught; students without any are left out."""
    recipes: dict[str, dict[str, list[str]]] = {}
    for candidate in candidates:
        if candidate.recipes:
            recipes.setdefault(candidate.kind, {})[candidate.shape] = candidate.recipes
    return recipes


def measure(plan: TaskPlan, budget: Budget, device: str) -> dict[str, dict[str, float]]:
    """Form → costs of an untrained student, for each form that can ship.

    Size is that on disk. Latency is the median over single validation rows on this machine, with as many threads as torch uses.
    """
    forms: list[str] = [form for form in PRECISIONS if form in plan.recipe.export]
    smallest = (forms or ["torch"])[0]
    least = plan.student.parameters * (1 if smallest == "onnx_int8" else 4) / _MIB
    if least > budget.get("size_mib", least):
        return {smallest: {"size_mib": least}}
    rows = labelled(plan.rows.validation)
    with tempfile.TemporaryDirectory() as folder:
        models = shippable(plan, plan.student, rows.select(range(min(_ROWS, len(rows)))), Path(folder), trained=False)
        speeds = speed.measure_all(models, texts_of(rows), device=device, seconds=_SECONDS)
        return {
            form: {"latency_ms": speeds[form]["latency_ms"]["p50"], "size_mib": speed.size(model)["size_mib"]}
            for form, model in models.items()
        }


def shippable(
    plan: TaskPlan, student: TextModel, rows: Dataset, folder: Path, *, trained: bool, device: str = "cpu"
) -> dict[str, TextModel | Predictor]:
    """Form → a student in it, for the recipe's `export`; only `torch` where that is empty or the student cannot be exported.

    Args:
        rows: on which exports are compared with the student.
        folder: for the exports.
        trained: leave out a form whose outputs differ from the student's, as a run does.
    """
    import torch

    precisions = {form: precision for form, precision in PRECISIONS.items() if form in plan.recipe.export}
    if not precisions:
        return {"torch": student}
    try:
        exported = write_export(
            student,
            folder / "export",
            expected(student, rows, device=device),
            plan.task,
            precisions=list(precisions.values()),
            drop=trained,
            allow_loss=not trained,
        )
    except (ExportError, ModelError):
        return {"torch": student}
    return {
        form: Predictor(folder / "export", threads=torch.get_num_threads(), int8=precision == "int8")
        for form, precision in precisions.items()
        if precision in exported.kept
    }
