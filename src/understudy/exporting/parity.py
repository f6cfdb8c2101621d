"""Do the outputs of an export match the model's? Checked of every export, on real rows, before it gets its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.data.rows import labelled
from understudy.errors import DataError, ModelError
from understudy.evaluation.measure import answers_of
from understudy.teachers.capture import logits_of

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.models.text_model import TextModel
    from understudy.runtime import Predictor
    from understudy.tasks import Task

LARGEST_DIFFERENCE = 1e-3  # of a float32 export's logits
LEAST_AGREEMENT = 0.98  # of an int8 export
MOST_LOST = 0.01  # of the metric (of a number: of its value), by an int8 export
_ALONE = 64  # rows that are also run one by one: padding and batch mates must not matter
_CHARACTERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class Expected:
    """The outputs of the model itself for the rows, and for texts from one character to more than it reads, made out of them.

    Args:
        rows: real ones.
        logits: of the rows.
        stretched: the made ones, few enough for one batch.
        stretched_logits: of these.
    """

    rows: Dataset
    logits: np.ndarray
    stretched: Dataset
    stretched_logits: np.ndarray


def expected(model: TextModel, rows: Dataset, *, device: str = "cpu", logits: np.ndarray | None = None) -> Expected:
    """Run the model.

    Args:
        rows: with `text`, perhaps `text_pair`, and `label`, which may mark a row as unlabelled.
        logits: the model's own of these rows, where they are known already.

    Raises:
        DataError: no rows, or pairs for a model of single texts, or the reverse.
        ModelError: logits that are not finite numbers, which nothing can agree with.
    """
    if not len(rows):
        raise DataError("no rows to compare the export on; give a file with at least one row")
    pair, reads_pairs = "text_pair" in rows.column_names, getattr(model.model.config, "pair", None)
    # The students of this package have it in their config; the graph of any other model would be made for these rows.
    if reads_pairs is not None and reads_pairs != pair:
        trained, got = ("two texts", "only one") if reads_pairs else ("one text", "two")
        raise DataError(f"the model reads {trained}, but the rows have {got}; give rows as it was trained on")
    stretched = _stretched(rows)
    outputs = logits_of(model, rows, device=device) if logits is None else logits
    if not np.isfinite(outputs).all():
        raise ModelError("the model's own outputs are not finite numbers; it is damaged or diverged")
    return Expected(rows, outputs, stretched, logits_of(model, stretched, device=device))


def parity(wanted: Expected, export: Predictor | TextModel, task: Task, metric: str | None = None) -> dict[str, Any]:
    """Figures of how the answers of an export, or of a changed model, differ from the model's.

    Args:
        metric: None takes the task's primary one.

    Returns:
        `rows`; `largest_logit_difference` over rows in batches, rows alone, and stretched ones; `agreement` over the real
        rows, in batches and alone (for numbers Pearson); where rows are labelled, `metric`, and its values `model` and `export`.
    """
    metric, fitted = metric or task.metrics[0].name, export.fitted
    alone = np.unique(np.linspace(0, len(wanted.rows) - 1, _ALONE).astype(int))
    alone = np.argsort([len(text) for text in wanted.rows["text"]], kind="stable")[alone]  # shortest to longest
    in_batches = answers_of(export, wanted.rows)
    one_by_one = np.concatenate([answers_of(export, wanted.rows.select([row])) for row in alone])
    stretched = answers_of(export, wanted.stretched)
    differences = (in_batches - wanted.logits, one_by_one - wanted.logits[alone], stretched - wanted.stretched_logits)
    figures: dict[str, Any] = {
        "rows": len(wanted.rows),
        "largest_logit_difference": float(np.max([np.abs(part).max() for part in differences])),
        "agreement": _agreement(task, *(task.decided(logits, fitted) for logits in (in_batches, one_by_one, wanted.logits)), alone=alone),
    }
    which, labels = labelled_places(wanted)
    if len(which):
        value = {
            name: task.measure(task.decided(logits[which], fitted), labels).get(metric)
            for name, logits in (("model", wanted.logits), ("export", in_batches))
        }
        figures |= {"metric": metric, **value}
    return figures


def _agreement(task: Task, in_batches: np.ndarray, one_by_one: np.ndarray, wanted: np.ndarray, *, alone: np.ndarray) -> float:
    """The fraction of real rows that agree, those run alone both times; for numbers the lower of the two correlations."""
    agrees, alone_too = task.agrees(in_batches, wanted), task.agrees(one_by_one, wanted[alone])
    if agrees is None or alone_too is None:
        return min(task.agreement(in_batches, wanted), task.agreement(one_by_one, wanted[alone]))
    agrees[alone] = np.minimum(agrees[alone], alone_too)
    return float(agrees.mean())


def labelled_places(wanted: Expected) -> tuple[np.ndarray, np.ndarray]:
    """Where among the rows those with a label are, and their labels."""
    known = labelled(wanted.rows.add_column("row", np.arange(len(wanted.rows))))  # type: ignore[call-arg]
    return np.asarray(known["row"], dtype=int), np.asarray(known["label"])


def complaints(figures: dict[str, Any], precision: str, task: Task) -> list[str]:
    """Why an export does not pass the gate; nothing if it may. Only float32 must give the same logits.

    >>> from understudy.tasks.classification import Classification
    >>> int8 = {"largest_logit_difference": 0.2, "agreement": 0.97, "metric": "accuracy", "model": 0.9, "export": 0.895}
    >>> complaints(int8, "int8", Classification())
    ['it matches the model on 97.0 % of the rows (98 % required)']
    >>> complaints({"largest_logit_difference": 0.2, "agreement": 1.0}, "float32", Classification())
    ['its logits differ by up to 0.2 (0.001 allowed)']
    """
    difference, agreed = figures["largest_logit_difference"], figures["agreement"]
    if precision == "float32":
        return [] if difference <= LARGEST_DIFFERENCE else [f"its logits differ by up to {difference:.3g} ({LARGEST_DIFFERENCE} allowed)"]
    reasons = []
    if not agreed >= LEAST_AGREEMENT:
        reasons.append(f"it matches the model on {100 * agreed:.1f} % of the rows ({100 * LEAST_AGREEMENT:.0f} % required)")
    if figures.get("model") is not None:
        metric, model, export = task.metric(figures["metric"]), figures["model"], figures["export"]
        if not metric.lead(model, export) <= (MOST_LOST + 1e-9) * metric.scale(model):
            moves = "falls" if metric.better == "higher" else "rises"
            allowed = f"{100 * MOST_LOST:.0f} {'point' if metric.unit == 'fraction' else '%'}"
            reasons.append(f"{metric.name} {moves} from {model:.4f} to {export:.4f}, by more than {allowed}")
    if not np.isfinite(difference):
        reasons.append("its outputs are not finite numbers")
    return reasons


def _stretched(rows: Dataset) -> Dataset:
    """Texts from one character to more than any model reads; in pairs, a long one meets a short one."""
    from datasets import Dataset

    some = rows.select(range(min(len(rows), 500)))

    def truncated(column: str) -> list[str]:
        text = " ".join(some[column]).strip()
        text *= 1 + _CHARACTERS[-1] // len(text)
        return [text[:length] for length in _CHARACTERS]

    columns = {"text": truncated("text")}
    if "text_pair" in rows.column_names:
        columns["text_pair"] = truncated("text_pair")[::-1]
    return Dataset.from_dict(columns)
