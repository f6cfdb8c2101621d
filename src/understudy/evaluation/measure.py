"""A model's entry in facts.json, and the comparison of several."""

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


# Fact → the model, and the one that it is compared with on the same test rows.
GAINS = {
    "gain_over_alone": ("student", "student_alone"),
    "gain_over_pseudo_labels": ("student", "student_pseudo_labels"),
    "gain_over_ngrams": ("student", "ngrams"),
    "teacher_gain_over_alone": ("teacher", "student_alone"),
    "teacher_gain_over_ngrams": ("teacher", "ngrams"),
}


@dataclass(frozen=True)
class Measured:
    """A model to be compared: its outputs for the test rows, and what is known of it.

    Args:
        models: one, of torch, an export or the n-gram baseline; several for an ensemble, which answer one after
            another; none for a black box.
        folders: where they are saved, for their size.
        seconds: of training, where known.
        logits: of the test rows, (rows, outputs), where they are known already; None asks the one model.
        validation_logits: of the validation rows, likewise.
        decided: the logits of the test rows under what was fitted on validation rows; see `Task.decided`.
    """

    models: tuple[TextModel | Predictor | NgramModel, ...]
    folders: tuple[Path | None, ...] = ()
    seconds: float | None = None
    logits: np.ndarray | None = None
    validation_logits: np.ndarray | None = None
    decided: np.ndarray | None = None

    def answered(
        self, test: datasets.Dataset, validation: datasets.Dataset | None, device: str, task: Task
    ) -> Measured:
        """With its logits, as far as they can be known, and what is decided by them.

        What was fitted is the model's own, else it is found on validation rows now; never on the very rows that are measured: where these
        are the validation rows too, each half of them is decided by what fits the other.
        """
        if self.decided is not None:
            return self
        logits, validation_logits = self.logits, self.validation_logits
        if len(self.models) == 1:
            if logits is None:
                logits = answers_of(self.models[0], test, device)
            if validation_logits is None and validation is not None:
                validation_logits = logits if validation is test else answers_of(self.models[0], validation, device)
        if logits is None:
            return self
        if validation is test:
            decided = _decided_by_halves(task, logits, np.asarray(test["label"]))
        else:
            fitted = getattr(self.models[0], "fitted", {}) if len(self.models) == 1 else {}
            if not fitted and validation is not None and validation_logits is not None:
                fitted = task.fit(validation_logits, np.asarray(validation["label"]))
            decided = task.decided(logits, fitted)
        return replace(self, logits=logits, validation_logits=validation_logits, decided=decided)


def _decided_by_halves(task: Task, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    even = np.arange(len(labels)) % 2 == 0
    if len(labels) < 2:
        return logits
    halves = [task.decided(logits[half], task.fit(logits[~half], labels[~half])) for half in (even, ~even)]
    decided = np.empty_like(logits, dtype=halves[0].dtype)
    decided[even], decided[~even] = halves
    return decided


def answers_of(model: TextModel | Predictor | NgramModel, rows: datasets.Dataset, device: str = "cpu") -> np.ndarray:
    """Logits of the rows, by torch, by an export or by the n-gram baseline."""
    if isinstance(model, Predictor | NgramModel):
        return model.logits(list(rows["text"]), list(rows["text_pair"]) if "text_pair" in rows.column_names else None)
    return logits_of(model, rows, device=device)


def texts_of(rows: datasets.Dataset) -> list[tuple[str, str | None]]:
    """The texts and their pairs."""
    pairs = rows["text_pair"] if "text_pair" in rows.column_names else [None] * len(rows)
    return list(zip(rows["text"], pairs, strict=True))


def compare(
    models: Mapping[str, Measured], test: datasets.Dataset, task: Task, *, metric: str,
    validation: datasets.Dataset | None = None, device: str = "cpu", seed: int = 0, speed: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """The part of facts.json about models: quality with intervals, calibration, size, speed, the gains, agreement.

    Args:
        models: by their names in facts.json.
        test: labelled rows.
        validation: labelled rows that thresholds and temperatures are fitted on; `test` itself where there are no others, None fits none.
        speed: False leaves latency and throughput out.
    """
    models = {name: one.answered(test, validation, device, task) for name, one in models.items()}
    labels = np.asarray(test["label"])
    texts = texts_of(test)
    members = {f"{name} {number}": model for name, one in models.items() for number, model in enumerate(one.models)}
    timings = measure_all(members, texts, device=device) if speed and members else {}
    entries = {
        name: _entry(one, task, test, validation, seed, device)
        | _in_turn([timings[f"{name} {number}"] for number, _ in enumerate(one.models) if timings])
        for name, one in models.items()
    }
    facts: dict[str, Any] = {"primary_metric": metric, "models": entries, **summarise(entries, task.metric(metric))}
    if not type(task).__module__.startswith("understudy."):  # its file need not be there when a page is written
        facts["metrics"] = {one.name: asdict(one) for one in task.metrics}
    outputs = {name: one.decided for name, one in models.items() if one.decided is not None}
    for fact, (one, other) in GAINS.items():
        known = one in outputs and other in outputs
        facts[fact] = gain(task, metric, outputs[one], outputs[other], labels, seed=seed) if known else None
    both = "student" in outputs and "teacher" in outputs
    facts["agreement_with_teacher"] = task.agreement(outputs["student"], outputs["teacher"]) if both else None
    return facts


def _entry(
    one: Measured, task: Task, test: datasets.Dataset, validation: datasets.Dataset | None, seed: int, device: str
) -> dict[str, Any]:
    labels = np.asarray(test["label"])
    sizes = [size(model, folder) for model, folder in zip_longest(one.models, one.folders[: len(one.models)])]
    entry: dict[str, Any] = {key: sum(each[key] for each in sizes) or None for key in ("parameters", "size_mib")}
    if one.logits is not None and one.decided is not None:
        entry["quality"] = quality(task, one.decided, labels, seed=seed)
        if (classes := task.per_class(one.decided, labels)) is not None:
            entry["per_class"] = classes
        if task.calibrated:
            temperature = fitted_on = None
            if validation is not None and one.validation_logits is not None:
                temperature = fit_temperature(one.validation_logits, np.asarray(validation["label"]))
                fitted_on = "test" if validation is test else "validation"
            entry["calibration"] = {**calibration(one.logits, labels, temperature), "fitted_on": fitted_on}
    devices = {_device(model, device) for model in one.models}
    return entry | {"seconds": one.seconds, "device": devices.pop() if len(devices) == 1 else None}


def _device(model: TextModel | Predictor | NgramModel, device: str) -> str:
    """Where a model is timed: only torch models go to an accelerator."""
    return "cpu" if isinstance(model, Predictor | NgramModel) else device.partition(":")[0]


def _in_turn(timings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Speed of models that answer one after another: latencies add up, and so do the seconds a row."""
    if not timings:
        return {}
    found: dict[str, Any] = {
        "latency_ms": {name: sum(one["latency_ms"][name] for one in timings) for name in ("p50", "p95")},
        "latency_p50_range_ms": [sum(one["latency_p50_range_ms"][end] for one in timings) for end in (0, 1)],
        "rows_per_second": 1 / sum(1 / one["rows_per_second"] for one in timings),
        "rows_per_second_range": [1 / sum(1 / one["rows_per_second_range"][end] for one in timings) for end in (0, 1)],
    }
    if all("rows_per_second_bulk" in one for one in timings):
        found["rows_per_second_bulk"] = 1 / sum(1 / one["rows_per_second_bulk"] for one in timings)
    return found
