"""Teachers: one model, or an ensemble. `file` has the teacher that is a file of outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import log_softmax, logsumexp

from understudy.errors import ModelError
from understudy.models.text_model import TextModel
from understudy.tasks.base import NOTHING, Fitted
from understudy.teachers.capture import logits_of, placed

if TYPE_CHECKING:
    import datasets

LEAST_SHARE = 0.01  # of the uniform probability: smaller probabilities are raised to this
Combine = Literal["mean_logits", "arithmetic", "geometric"]


class Teacher(ABC):
    """A source of logits for rows.

    Args:
        label_names: classes in the order of the logits; None for regression.
        fingerprint: everything that decides the outputs; cached outputs are used only where it is equal.
        models: one, or the members of an ensemble; none where only outputs are known.
        fitted: what answers are decided by besides the outputs.
    """

    label_names: tuple[str, ...] | None
    fingerprint: dict[str, Any]
    models: tuple[TextModel, ...] = ()
    fitted: Fitted = NOTHING

    @property
    def model(self) -> TextModel | None:
        """The model that students can be built from: the first."""
        return self.models[0] if self.models else None

    def covers(self, rows: datasets.Dataset) -> bool:
        """Whether it has outputs for every row."""
        return True

    @abstractmethod
    def logits(self, rows: datasets.Dataset, *, device: str) -> np.ndarray:
        """Logits in the order of the rows: (rows, outputs) float32."""

    @cached_property
    def remembered(self) -> dict[str, np.ndarray]:
        """Identity → logits of the rows that were needed before a store could keep them."""
        return {}

    def first_logits(self, rows: datasets.Dataset, *, device: str) -> np.ndarray:
        """As `logits`, and remembered: a store that is filled with these rows later takes them from here."""
        identities = rows["identity"][:]
        new = {key: place for place, key in enumerate(identities) if key not in self.remembered}
        if new:
            self.remembered.update(zip(new, self.logits(rows.select(list(new.values())), device=device), strict=True))
        return np.stack([self.remembered[key] for key in identities])

    @contextmanager
    def at(self, device: str) -> Iterator[None]:
        """Move the models to a device once, for all calls inside the block; afterwards they are moved back."""
        with ExitStack() as stack:
            for model in self.models:
                stack.enter_context(placed(model.model, device))
            yield


class NoTeacher(Teacher):
    """No teacher: of a task, beside others, that is trained on its labels only."""

    def __init__(self) -> None:
        self.label_names, self.fingerprint = None, {}

    def covers(self, rows: datasets.Dataset) -> bool:
        return False

    def logits(self, rows: datasets.Dataset, *, device: str) -> np.ndarray:
        raise ModelError("this task has no teacher")


class ModelTeacher(Teacher):
    """One fine-tuned model, or several whose outputs are averaged.

    Args:
        models: all with the same labels in the same order.
        combine: `mean_logits`; `arithmetic` or `geometric` mean of the probabilities.
        weights: of each model, above 0; only their ratios matter. None: equal.

    Raises:
        ModelError: labels differ.
    """

    def __init__(self, models: Sequence[TextModel], combine: Combine = "mean_logits", weights: Sequence[float] | None = None) -> None:
        self.models, self.combine, self.weights = tuple(models), combine, weights
        self.label_names = self.models[0].label_names
        self.fitted = self.models[0].fitted if len(self.models) == 1 else NOTHING
        heads = {model.problem_type for model in self.models}
        if len(heads) > 1:
            raise ModelError(f"the teachers have heads of different kinds ({', '.join(sorted(heads))}); an ensemble needs one")
        for number, model in enumerate(self.models[1:], start=2):
            if model.label_names != self.label_names:
                raise ModelError(
                    f"teacher {number} has the labels {_list(model.label_names)}, the first has {_list(self.label_names)}; "
                    "an ensemble needs the same labels in the same order"
                )
        single = len(self.models) == 1
        self.fingerprint = (
            self.models[0].fingerprint
            if single
            else {
                "combine": combine,
                **({} if weights is None else {"weights": list(weights)}),
                **{f"model {number}": model.fingerprint for number, model in enumerate(self.models, start=1)},
            }
        )

    def logits(self, rows: datasets.Dataset, *, device: str) -> np.ndarray:
        outputs = [logits_of(model, rows, device=device, remember=False) for model in self.models]
        if self.models[0].problem_type == "multi_label_classification":  # of each label two classes, it holds or not
            logits = combined([np.stack([np.zeros_like(one), one], axis=-1) for one in outputs], self.combine, self.weights)
            return (logits[..., 1] - logits[..., 0]).astype(np.float32)
        return combined(outputs, self.combine, self.weights).astype(np.float32)


def combined(outputs: Sequence[np.ndarray], combine: Combine, weights: Sequence[float] | None = None) -> np.ndarray:
    """Logits of an ensemble, from the logits of its members.

    Formula, with shares w that sum to 1: Σ w·z; log Σ w·p (arithmetic); Σ w·log p (geometric). At a temperature T, the first and the
    last equal the combination of the members at T; the arithmetic mean is taken at temperature 1.

    Args:
        outputs: logits of each member, (rows, outputs).
        combine: how.
        weights: one for each member, above 0; None: equal.

    >>> a, b = np.log([[0.8, 0.2]]), np.log([[0.4, 0.6]])
    >>> np.exp(combined([a, b], "arithmetic")).round(6).tolist()
    [[0.6, 0.4]]
    >>> np.exp(combined([a, b], "arithmetic", [3, 1])).round(6).tolist()  # 0.75 · 0.8 + 0.25 · 0.4
    [[0.7, 0.3]]
    >>> np.exp(log_softmax(combined([a, b], "geometric"), axis=-1)).round(4).tolist()  # √0.32 : √0.12
    [[0.6202, 0.3798]]
    """
    stacked = np.stack(outputs)
    if len(outputs) == 1 or combine == "mean_logits" or stacked.shape[-1] == 1:
        return np.average(stacked, axis=0, weights=weights)
    logs = log_softmax(stacked, axis=-1)
    if combine == "geometric":
        return np.average(logs, axis=0, weights=weights)
    counts = np.ones(len(outputs)) if weights is None else np.asarray(weights, dtype=float)
    return logsumexp(logs, axis=0, b=counts.reshape(-1, *[1] * (logs.ndim - 1))) - np.log(counts.sum())


def logits_of_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Logits of rows of probabilities, (rows, classes): of mean 0 in each row, and bounded where a probability is near 0.

    Their softmax is the probabilities. Two things do not follow from probabilities: a constant of each row, which is chosen so that its
    logits have the mean 0, and the logit of a class with probability 0. So probabilities below a hundredth of the uniform one are
    raised to that. Labels as 0 and 1 then become logits that a student can reach: 5.3 apart with 2 classes, 8.9 with 77.

    Args:
        probabilities: (rows, classes), each row of sum 1.

    >>> logits_of_probabilities(np.array([[1.0, 0.0], [0.5, 0.5]])).round(2).tolist()
    [[2.65, -2.65], [0.0, 0.0]]
    """
    logs = np.log(np.clip(probabilities, LEAST_SHARE / probabilities.shape[-1], None))
    return logs - logs.mean(-1, keepdims=True)


def is_file(name: str) -> bool:
    """Whether the name of a teacher is that of a file of outputs, not of a model."""
    return Path(name).is_file()


def _list(names: Sequence[str] | None) -> str:
    return ", ".join(names) if names else "(a number)"
