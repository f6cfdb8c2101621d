"""What a student would cost, measured before it learns anything: size and speed hang on its shape, not on its weights."""

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

PRECISIONS: dict[str, Precision] = {"onnx_int8": "int8", "onnx": "float32"}  # what ships, the smallest first
_SECONDS = 0.5  # of single rows, and again of batches
_ROWS = 16  # that an untrained export is compared on
_MIB = 2**20


@dataclass(frozen=True)
class Candidate:
    """One student of the space, and what it costs in each form that can ship.

    Args:
        kind: of student.
        shape: its name in the space.
        parameters: how many.
        forms: form (`onnx_int8`, `onnx`, `torch`) → costs. One that is beyond the budget by its parameters alone is not measured: its
            only cost is the least size that they take.
        recipes: that can teach it.
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
    """Kind → shape → the recipes that can teach it; students that none can teach are left out."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in candidates:
        if one.recipes:
            found.setdefault(one.kind, {})[one.shape] = one.recipes
    return found


def measure(plan: TaskPlan, budget: Budget, device: str) -> dict[str, dict[str, float]]:
    """Costs of an untrained student in each form that can ship.

    Size is what lies on disk. Latency is the median of single validation rows on this machine, on as many threads as torch takes.
    """
    asked: list[str] = [form for form in PRECISIONS if form in plan.recipe.export]
    smallest = (asked or ["torch"])[0]
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
    """A student in the forms that the recipe's `export` asks for; in torch, where none is asked for or torch cannot write one.

    Args:
        rows: that exports are compared on.
        folder: of the exports.
        trained: leave out a form that does not answer as the student does, as a run would.
    """
    import torch

    precisions = {form: precision for form, precision in PRECISIONS.items() if form in plan.recipe.export}
    if not precisions:
        return {"torch": student}
    try:
        found = write_export(
            student, folder / "export", expected(student, rows, device=device), plan.task, precisions=list(precisions.values()),
            drop=trained, allow_loss=not trained,
        )  # fmt: skip
    except (ExportError, ModelError):
        return {"torch": student}
    return {
        form: Predictor(folder / "export", threads=torch.get_num_threads(), int8=precision == "int8")
        for form, precision in precisions.items()
        if precision in found.kept
    }
