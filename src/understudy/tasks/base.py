"""What a task is."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from understudy.errors import DataError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

Answer = dict[str, Any]  # what is said of one row, as JSON
Fitted = Mapping[str, Any]  # what was fitted on validation rows, as JSON: it travels with an export
NOTHING: Fitted = MappingProxyType({})


@dataclass(frozen=True)
class Column:
    """A column of the rows of a task; `--column NAME=THEIRS` reads it under the name that it has in the file.

    Args:
        name: as messages and settings call it.
        kind: what is in it: a `text`; or the answer, which is one `class`, several `classes` or none of them, or a `number`.
        optional: rows may be without it; then all of them are.
    """

    name: str
    kind: Literal["text", "class", "classes", "number"] = "text"
    optional: bool = False


TEXTS = (Column("text"), Column("text_pair", optional=True))


@dataclass(frozen=True)
class Metric:
    """A figure that tells how good predictions are.

    Args:
        name: in settings and facts.json.
        title: as a reader calls it.
        better: which values are.
        unit: differences of a `fraction` are read in points, its hundredths; those of a `number` as they are.
        least: the lowest value that it can have; None: there is none.
        most: the highest, likewise.
        counts_rows: it is the fraction of rows that are right. Then it has tests of its own, and is agreement where the teacher labels.
        hub: what the model hub calls it, where that is another name.
    """

    name: str
    title: str
    better: Literal["higher", "lower"] = "higher"
    unit: Literal["fraction", "number"] = "fraction"
    least: float | None = 0.0
    most: float | None = 1.0
    counts_rows: bool = False
    hub: str = ""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return -math.inf if self.least is None else self.least, math.inf if self.most is None else self.most

    @property
    def perfect(self) -> float:
        """The value of perfect predictions."""
        return self.bounds[self.better == "higher"]

    def signed(self, value: Any) -> Any:
        """Values, or an array of them, such that greater is better."""
        return value if self.better == "higher" else -value

    def lead(self, value: Any, other: Any) -> Any:
        """By how much a value is better than another, or values of arrays; below 0 it is worse."""
        return self.signed(value) - self.signed(other)

    def scale(self, value: float) -> float:
        """What differences are small or large beside: 1, or of a number, which may be of any size, a value of it."""
        return 1.0 if self.unit == "fraction" else abs(value)


class Task(ABC):
    """What the rows mean: their columns, the width of the head, the metrics, what a prediction looks like.

    A task holds no data and no model, and needs no torch but for `logits`. Arrays are of numpy, with a row first: `outputs`, what the
    head of a model gives, is (rows, outputs); `targets` is (rows,), or (rows, positions) where a row has several answers.

    Args:
        names: of the classes, in the order of the outputs; None where there are none.
    """

    columns: ClassVar[tuple[Column, ...]]  # `TEXTS`, or some of them, and the answer
    problem_type: ClassVar[str]  # of the head: regression, single_label_classification or multi_label_classification
    metrics: ClassVar[tuple[Metric, ...]]  # the first selects, if a recipe names none; the first two are in the table
    example: ClassVar[dict[str, Any]]
    reads_output: ClassVar[str] = "logits"  # Python in model cards: an answer, of `logits` and of export.json, `about`
    calibrated: ClassVar[bool] = False  # outputs are logits of classes, whose probabilities a temperature may correct

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self.names = tuple(names or ())

    @classmethod
    def kind(cls) -> str:
        """Its name here; of a task in a user's file that of the task which it derives from, or else the names of file and class."""
        modules = [one.__module__.split(".") for one in cls.__mro__]
        known = [name[2] for name in modules if name[:2] == ["understudy", "tasks"] and name[2] != "base"]
        return next(iter(known), f"{Path(inspect.getfile(cls)).name}:{cls.__name__}")

    @classmethod
    def metric(cls, name: str) -> Metric:
        """The metric of this name.

        Raises:
            KeyError: the task has none.
        """
        return {one.name: one for one in cls.metrics}[name]

    @classmethod
    def answer(cls) -> Column:
        """The column that holds what a model is to find out."""
        return next(column for column in cls.columns if column.kind != "text")

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return len(self.names) or 1

    def logits(self, outputs: Tensor) -> Tensor:
        """What objectives compare, (rows, …, classes), of what the head gives, (rows, outputs), in torch."""
        return outputs

    def scores(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """What is kept of a batch of validation rows, in torch, for `measure`: (rows, …)."""
        return outputs

    @abstractmethod
    def does(self, reads: str) -> str:
        """A sentence for model cards: what a model of this task does with the `reads`, as in "pairs of texts"."""

    @abstractmethod
    def answers(self, outputs: np.ndarray, fitted: Fitted = NOTHING, *, brief: bool = False) -> list[Answer]:
        """What is said of each row, as `predict`, the server and the file of predictions show it, numbers in full.

        The first entry is comparable with `label`.

        Args:
            fitted: what `fit` found, and the `temperature` of a calibration.
            brief: leave out what is said of each class.
        """

    @abstractmethod
    def answer_schema(self) -> dict[str, Any]:
        """What an answer is, as a JSON schema."""

    @abstractmethod
    def label(self, target: Any) -> Any:
        """A target as an answer says it."""

    def fit(self, outputs: np.ndarray, targets: np.ndarray) -> Fitted:
        """What is decided by besides the outputs, found on validation rows: thresholds, say. It travels with the model."""
        return NOTHING

    def decided(self, outputs: np.ndarray, fitted: Fitted) -> np.ndarray:
        """Outputs whose predictions are those under what was fitted: what is measured."""
        return outputs

    def per_class(self, outputs: np.ndarray, targets: np.ndarray) -> list[dict[str, Any]] | None:
        """`label`, `precision`, `recall`, `f1` and `support` (rows) of every class, in their order; None where there are none."""
        return None

    def doubt(self, outputs: np.ndarray, targets: np.ndarray) -> str | None:
        """What shows that a model with these outputs knows less of the task than who always gives the same answer; None: nothing."""
        return None

    @abstractmethod
    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """What the model says of each row, comparable with the targets."""

    @abstractmethod
    def statistics(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """What each row adds to the sums that metrics are made of: (rows, sums). Only those of one call are of one scale."""

    @abstractmethod
    def measured(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric that applies, of totals of statistics, (draws, sums): name → (draws,)."""

    def alike(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Columns, (rows, …), in which two rows are equal only where their statistics are. Few columns are fast to compare.

        Classes and numbers compare targets and predictions; whoever adds a metric of probabilities to them must add these.
        """
        return self.statistics(outputs, targets)

    def alternatives(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Outputs that any row might have had instead, two or more, evenly over what occurs: how a metric could move is tried with them."""
        return outputs[np.linspace(0, len(outputs) - 1, 11).astype(int)]

    def redrawn(self, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric on redraws of the rows: name → (draws,). A metric that is no function of sums is computed here.

        Args:
            weights: how often each draw has each row, (draws, rows).
        """
        return self.measured(weights @ self.statistics(outputs, targets))

    def distinct(self, targets: np.ndarray, *outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of rows that stand for all rows, and how many each stands for: rows that are alike are interchangeable."""
        columns = np.column_stack([self.alike(one, targets) for one in outputs])
        _, places, counts = np.unique(columns, axis=0, return_index=True, return_counts=True)
        return places, counts

    def measure(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Every metric that applies, over all rows."""
        places, counts = self.distinct(targets, outputs)
        values = self.redrawn(outputs[places], targets[places], counts[None].astype(float))
        return {name: float(value[0]) for name, value in values.items()}

    def validated(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Every metric on validation rows, decided as fits them best: what selects a checkpoint or a trial, and is reported nowhere."""
        return self.measure(self.decided(outputs, self.fit(outputs, targets)), targets)

    def agrees(self, outputs: np.ndarray, others: np.ndarray) -> np.ndarray | None:
        """Of each row the share of positions with equal predictions, (rows,); None for numbers, which are hardly ever equal."""
        if self.answer().kind == "number":
            return None
        return (self.predictions(outputs) == self.predictions(others)).reshape(len(outputs), -1).mean(axis=1)

    def agreement(self, outputs: np.ndarray, others: np.ndarray) -> float:
        """How closely predictions follow others: the fraction of rows (of labels, where a row may have several) on which
        they are equal; of numbers Pearson's correlation.

        Accuracy cannot tell a student that copies the teacher's mistakes from one that makes its own; this can.

        Source: Stanton et al. 2021 (NeurIPS), arXiv:2106.05945, section 3 (average top-1 agreement).
        """
        agrees = self.agrees(outputs, others)
        if agrees is not None:
            return float(agrees.mean())
        left, right = self.predictions(outputs), self.predictions(others)
        if (left == right).all():
            return 1.0
        return 0.0 if np.ptp(left) == 0 or np.ptp(right) == 0 else float(np.corrcoef(left, right)[0, 1])


def schema_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object that has all of these and nothing else."""
    return {"type": "object", "properties": dict(properties), "required": list(properties), "additionalProperties": False}


def equal(predictions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which rows are equal in all their positions, (rows,)."""
    return (predictions == others).reshape(len(predictions), -1).all(axis=1)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, and 0 where below is 0."""
    return np.divide(above, below, out=np.zeros_like(above, dtype=float), where=below > 0)


def check_rows(targets: np.ndarray, *outputs: np.ndarray) -> None:
    """Refuse what cannot be measured.

    Raises:
        DataError: no rows, or not as many targets as outputs.
        ModelError: outputs that are not finite numbers.
    """
    if not len(targets):
        raise DataError("no rows to measure on; give a file with at least one labelled row")
    for one in outputs:
        if len(one) != len(targets):
            raise DataError(f"{len(one)} model outputs for {len(targets)} labels; both must be of the same rows")
        if not np.isfinite(one).all():
            row = int(np.argwhere(~np.isfinite(one))[0][0]) + 1
            raise ModelError(f"output for row {row} is not a finite number; the model is damaged or diverged")
