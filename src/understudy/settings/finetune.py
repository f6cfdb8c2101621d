"""Settings of `finetune` and `pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from understudy import parts
from understudy.settings.base import Frozen, ObjectivePart, StudentPart, dump_yaml, plain
from understudy.settings.data import DataSettings
from understudy.settings.recipe import check_metric
from understudy.settings.stage import MaskedLMSettings, TrainSettings, with_defaults

# Defaults for a pretrained encoder. Its learning rate depends on its width, so it is not among them.
ENCODER_TRAINING = {"epochs": 3, "min_updates": 300, "batch_size": 32}
PRETRAINING = {"epochs": 3, "batch_size": 32, "learning_rate": 1e-4}


class FinetuneSettings(Frozen):
    """Everything that a fine-tuning depends on."""

    model: str
    task: str = "classification"
    metric: str | None = None
    seed: int = Field(default=0, ge=0)
    data: DataSettings = DataSettings()
    student: StudentPart | None = Field(default=None, description="train this kind on the labels instead of a pretrained encoder")
    train: TrainSettings = TrainSettings()
    # A factory, since the objective imports torch.
    objective: ObjectivePart = Field(default_factory=lambda: ObjectivePart(kind="labels"))
    baseline: bool = Field(
        default=True,
        description="fit a linear model of n-grams on the labelled rows, without teacher or network, and measure it beside the others",
    )
    report_to: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _kind_or_folder(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`finetune bilstm` trains a kind of student; any other name is a model. Open settings get their defaults."""
        model = values.get("model")
        if model in parts.kinds("students") and not Path(str(model)).is_dir():
            values = {**values, "student": {"kind": model, **(values.get("student") or {})}}
        student = values.get("student")
        defaults = ENCODER_TRAINING
        if isinstance(student, dict) and student.get("kind") in parts.kinds("students"):
            defaults = parts.part("students", student["kind"]).training
        return {**values, "train": with_defaults(plain(values.get("train")) or {}, defaults)}

    @model_validator(mode="after")
    def _metric_known(self) -> FinetuneSettings:
        check_metric(self.task, self.metric)
        return self

    @property
    def selection_metric(self) -> str:
        """Name of the metric that selects on validation: the given one, or the task's primary metric."""
        return self.metric or parts.part("tasks", self.task).metrics[0].name

    def dump(self) -> str:
        """YAML that loads to equal settings."""
        return dump_yaml(self)


class PretrainSettings(Frozen):
    """Everything that the training of a masked language model depends on. `data.raw` names its text."""

    model: str
    seed: int = Field(default=0, ge=0)
    data: DataSettings = DataSettings()
    masked_lm: MaskedLMSettings = MaskedLMSettings()
    train: TrainSettings = TrainSettings()
    objective: ObjectivePart = Field(default_factory=lambda: ObjectivePart(kind="labels"))
    report_to: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "train": with_defaults(plain(values.get("train")) or {}, PRETRAINING)}

    def dump(self) -> str:
        """YAML that loads to equal settings."""
        return dump_yaml(self)
