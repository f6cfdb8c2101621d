"""Settings of one training: its rows, its objectives, how long and how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from understudy.settings.base import AugmenterPart, Frozen, ObjectivePart, StudentPart

LENGTHS = ("epochs", "max_steps")  # where one of them is set, `min_updates` has no default


class Augmentation(Frozen):
    """Changed copies of a stage's rows, for the teacher to label."""

    copies: int = Field(gt=0, description="of each row, at most; duplicates are dropped")
    steps: tuple[AugmenterPart, ...] = Field(min_length=1)
    words: Literal["characters", "jieba"] = Field(default="characters", description="units of Chinese text")


class MixupSettings(Frozen):
    """Objectives on mixed rows, beside those of the stage. The teacher is run on every mixed batch."""

    alpha: float = Field(default=0.4, gt=0, description="shares are drawn from Beta(alpha, alpha)")
    objectives: tuple[ObjectivePart, ...] = Field(min_length=1)


class MaskedLMSettings(Frozen):
    """Train the student's encoder on text without labels, with a masked-language-model head that is dropped afterwards."""

    fraction: float = Field(default=0.15, ge=0, lt=1, description="of tokens to predict: 80 % masked, 10 % another token, 10 % as they are")


class SelfAverage(Frozen):
    """The mean of the student's recent weights, as its teacher."""

    checkpoints: int = Field(default=5, gt=0, description="how many are averaged")
    every: int = Field(default=1, gt=0, description="updates between them")


class TrainSettings(Frozen):
    """How to train. `null` takes the student kind's own default, which the resolved recipe shows."""

    epochs: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, gt=0, description="updates; overrides epochs and min_updates")
    min_updates: int | None = Field(
        default=None,
        ge=0,
        description="least number of updates, even if the epochs hold fewer; null: as the student kind has it, none where epochs are set",
    )
    batch_size: int | None = Field(default=None, gt=0)
    accumulation: int = Field(default=1, gt=0, description="batches summed into one update")
    learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clip_norm: float | None = Field(default=1.0, gt=0)
    evaluations: int = Field(default=10, gt=0, description="how often validation is measured, evenly over the training")
    patience: int | None = Field(
        default=None,
        gt=0,
        description="evaluations without a better one before stopping; null: 4 in a training as short as min_updates, else no limit",
    )
    balanced_sampling: bool = Field(default=False, description="draw rows so that every class comes equally often")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    length_buckets: bool = True
    last_layers: int | None = Field(default=None, ge=0, description="train only the last n layers and the head")


class Stage(Frozen):
    """One training of the student."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    rows: tuple[Literal["train", "transfer", "raw"], ...] = Field(
        default=("train", "transfer"), description="those that were given; raw text only with masked_lm"
    )
    augment: Augmentation | None = None
    student: StudentPart | None = Field(
        default=None, description="a teacher assistant, trained from scratch; null: the recipe's student, continued from the previous stage"
    )
    teacher: Literal["given", "previous", "self"] = Field(
        default="given", description="`previous`: the student of the previous stage; `self`: the mean of the student's own recent weights"
    )
    self_average: SelfAverage | None = Field(default=None, description="of teacher `self`")
    sampling_power: float = Field(
        default=1.0, ge=0, le=1, description="of a recipe with tasks: a task's share of the batches is its number of batches to this power"
    )
    masked_lm: MaskedLMSettings | None = None
    objectives: tuple[ObjectivePart, ...] = Field(min_length=1)
    mixup: MixupSettings | None = None
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _some_weight(self) -> Stage:
        if not any(objective.weight for objective in self.objectives):
            raise ValueError("every objective has weight 0: nothing to learn from")
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_average(cls, values: Any) -> Any:
        """`teacher: self` alone takes the defaults of its average."""
        return {"self_average": {}, **values} if isinstance(values, dict) and values.get("teacher") == "self" else values

    @model_validator(mode="after")
    def _fits_together(self) -> Stage:
        if (self.self_average is None) == (self.teacher == "self"):
            raise ValueError(f"self_average needs teacher 'self', but teacher is '{self.teacher}'; leave one of them out")
        if self.masked_lm is None:
            if "raw" in self.rows:
                raise ValueError("rows has 'raw', which has no labels and no pairs; only a stage with masked_lm can use it")
            return self
        for name, setting in (("augment", self.augment), ("mixup", self.mixup), ("student", self.student)):
            if setting is not None:
                raise ValueError(f"{name} and masked_lm exclude each other; put them into stages of their own")
        if self.teacher != "given":
            raise ValueError(f"teacher is {self.teacher!r}, but a masked_lm stage always uses teacher.pretrained; remove it")
        return self


def with_defaults(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a training with defaults for the open ones. Where a length is set, `min_updates` gets no default.

    >>> with_defaults({"epochs": 2}, {"epochs": 10, "batch_size": 32, "min_updates": 600})
    {'epochs': 2, 'batch_size': 32}
    """
    has_length = any(settings.get(name) is not None for name in LENGTHS)
    filled_in = {
        name: value for name, value in defaults.items() if settings.get(name) is None and not (name == "min_updates" and has_length)
    }
    return {**settings, **filled_in}


def make_objectives(objectives: Sequence[ObjectivePart]) -> list[tuple[float, Any]]:
    """(weight, objective) pairs, as the Trainer takes them."""
    return [(part.weight, part.make()) for part in objectives]
