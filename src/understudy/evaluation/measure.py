"""A model's entry in facts.json, and the comparison of several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.evaluation.calibration import calibration, fit_temperature
from understudy.evaluation.ngrams import NgramModel
from understudy.evaluation.quality import quality
from understudy.evaluation.significance import gain
from understudy.evaluation.speed import measure_all, size
from understudy.evaluation.summary import summarise
from understudy.runtime import Predictor
from understudy.teachers.capture import logits_of

if TYPE_CHECKING:
    import datasets

    from understudy.models.text_model import TextModel
    from understudy.tasks import Task


# Fact → the model, and the baseline that it is compared with on the same test rows.
GAINS = {
    "gain_over_alone": ("student", "student_alone"),
    "gain_over_pseudo_labels": ("student", "student_pseudo_labels"),
    "gain_over_ngrams": ("student", "ngrams"),
    "teacher_gain_over_alone": ("teacher", "student_alone"),
    "teacher_gain_over_ngrams": ("teacher", "ngrams"),
}


@dataclass(frozen=True)
class ModelResult:
    """A model in a comparison: its outputs for the test rows, and what is known of it.

    Args:
        models: one of torch, an export or the n-gram baseline; several for an ensemble, which are run one after
            another; none where only outputs are known.
        folders: where they are saved, for their size.
        seconds: of training; None where unknown.
        logits: of the test rows, (rows, outputs), where they are known already; None: the one model is run.
        validation_logits: of the validation rows, likewise (rows, outputs).
        decided: the logits of the test rows under what was fitted on validation rows; see `Task.decided`.
    """

    models: tuple[TextModel | Predictor | NgramModel, ...]
    folders: tuple[Path | None, ...] = ()
    seconds: float | None = None
    logits: np.ndarray | None = None
    validation_logits: np.ndarray | None = None
    decided: np.ndarray | None = None

    def answered(self, test: datasets.Dataset, validation: datasets.Dataset | None, device: str, task: Task) -> ModelResult:
        """The result with its logits, as far as they can be known, and what is decided by them.

        What was fitted is the model's own, else it is fitted on validation rows now; never on the very rows that are measured: where
        these are the validation rows too, each half of them is decided by what was fitted on the other.
        """
        if self.decided is not None:
            return self
        logits, validation_logits, same_rows = self.logits, self.validation_logits, validation is test
        if len(self.models) == 1:
            if logits is None:
                logits = answers_of(self.models[0], test, device)
            if validation_logits is None and validation is not None:
                validation_logits = logits if same_rows else answers_of(self.models[0], validation, device)
        if logits is None:
            return self
        if same_rows:
            decided = _decided_by_halves(task, logits, np.asarray(test["label"]))
        else:
            fitted = getattr(self.models[0], "fitted", {}) if len(self.models) == 1 else {}
            if not fitted and validation is not None and validation_logits is not None:
                fitted = task.fit(validation_logits, np.asarray(validation["label"]))
            decided = task.decided(logits, fitted)
        return replace(self, logits=logits, validation_logits=validation_logits, decided=decided)


def _decided_by_halves(task: Task, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The logits (rows, outputs) as decided: each half of the rows by what was fitted on the other half."""
    even = np.arange(len(labels)) % 2 == 0
    if len(labels) < 2:
        return logits
    halves = [task.decided(logits[half], task.fit(logits[~half], labels[~half])) for half in (even, ~even)]
    decided = np.empty_like(logits, dtype=halves[0].dtype)
    decided[even], decided[~even] = halves
    return decided


def answers_of(model: TextModel | Predictor | NgramModel, rows: datasets.Dataset, device: str = "cpu") -> np.ndarray:
    """Logits of the rows, (rows, outputs), from torch, an export or the n-gram baseline."""
    if isinstance(model, Predictor | NgramModel):
        return model.logits(list(rows["text"]), list(rows["text_pair"]) if "text_pair" in rows.column_names else None)
    return logits_of(model, rows, device=device)


def texts_of(rows: datasets.Dataset) -> list[tuple[str, str | None]]:
    """The texts of the rows, each with its pair; None where rows have one text."""
    pairs = rows["text_pair"] if "text_pair" in rows.column_names else [None] * len(rows)
    return list(zip(rows["text"], pairs, strict=True))


def compare(
    models: Mapping[str, ModelResult],
    test: datasets.Dataset,
    task: Task,
    *,
    metric: str,
    validation: datasets.Dataset | None = None,
    device: str = "cpu",
    seed: int = 0,
    speed: bool = True,
) -> dict[str, Any]:
    """The part of facts.json about models: quality with intervals, calibration, size, speed, the gains, agreement.

    Args:
        models: by their names in facts.json.
        test: labelled rows.
        validation: labelled rows that thresholds and temperatures are fitted on; `test` itself where there are no others, None fits none.
        speed: False leaves latency and throughput out.
    """
    results = {name: result.answered(test, validation, device, task) for name, result in models.items()}
    labels = np.asarray(test["label"])
    texts = texts_of(test)
    members = {f"{name} {number}": model for name, result in results.items() for number, model in enumerate(result.models)}
    timings = measure_all(members, texts, device=device) if speed and members else {}
    entries = {
        name: _entry(result, task, test, validation, seed, device)
        | _in_turn([timings[f"{name} {number}"] for number, _ in enumerate(result.models) if timings])
        for name, result in results.items()
    }
    facts: dict[str, Any] = {"primary_metric": metric, "models": entries, **summarise(entries, task.metric(metric))}
    if not type(task).__module__.startswith("understudy."):  # its file need not be there when a page is written
        facts["metrics"] = {described.name: asdict(described) for described in task.metrics}
    outputs = {name: result.decided for name, result in results.items() if result.decided is not None}
    for fact, (model, baseline) in GAINS.items():
        known = model in outputs and baseline in outputs
        facts[fact] = gain(task, metric, outputs[model], outputs[baseline], labels, seed=seed) if known else None
    both = "student" in outputs and "teacher" in outputs
    facts["agreement_with_teacher"] = task.agreement(outputs["student"], outputs["teacher"]) if both else None
    return facts


def _entry(
    result: ModelResult, task: Task, test: datasets.Dataset, validation: datasets.Dataset | None, seed: int, device: str
) -> dict[str, Any]:
    labels = np.asarray(test["label"])
    sizes = [size(model, folder) for model, folder in zip_longest(result.models, result.folders[: len(result.models)])]
    totals = {key: sum(model_size[key] for model_size in sizes) for key in ("parameters", "size_mib")}
    entry: dict[str, Any] = {key: total or None for key, total in totals.items()}
    if result.logits is not None and result.decided is not None:
        entry["quality"] = quality(task, result.decided, labels, seed=seed)
        if (classes := task.per_class(result.decided, labels)) is not None:
            entry["per_class"] = classes
        if task.calibrated:
            temperature = fitted_on = None
            if validation is not None and result.validation_logits is not None:
                temperature = fit_temperature(result.validation_logits, np.asarray(validation["label"]))
                fitted_on = "test" if validation is test else "validation"
            entry["calibration"] = {**calibration(result.logits, labels, temperature), "fitted_on": fitted_on}
    devices = {_device(model, device) for model in result.models}
    return entry | {"seconds": result.seconds, "device": devices.pop() if len(devices) == 1 else None}


def _device(model: TextModel | Predictor | NgramModel, device: str) -> str:
    """Where a model is timed: only torch models go to an accelerator."""
    return "cpu" if isinstance(model, Predictor | NgramModel) else device.partition(":")[0]


def _in_turn(timings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Speed of models that are run one after another: latencies (ms) add up, and so do the seconds a row."""
    if not timings:
        return {}
    combined: dict[str, Any] = {
        "latency_ms": {name: sum(timing["latency_ms"][name] for timing in timings) for name in ("p50", "p95")},
        "latency_p50_range_ms": [sum(timing["latency_p50_range_ms"][end] for timing in timings) for end in (0, 1)],
        "rows_per_second": 1 / sum(1 / timing["rows_per_second"] for timing in timings),
        "rows_per_second_range": [1 / sum(1 / timing["rows_per_second_range"][end] for timing in timings) for end in (0, 1)],
    }
    if all("rows_per_second_bulk" in timing for timing in timings):
        combined["rows_per_second_bulk"] = 1 / sum(1 / timing["rows_per_second_bulk"] for timing in timings)
    return combined
