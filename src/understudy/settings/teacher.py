"""Settings of the teacher."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from understudy.settings.base import Frozen


class TeacherSettings(Frozen):
    """One model, several that are averaged, or a file of rows with their outputs."""

    models: tuple[str, ...] = ()
    pretrained: str | None = Field(
        default=None,
        description="the teacher before fine-tuning: students are built from it, and stages with masked_lm use it as their teacher",
    )
    combine: Literal["mean_logits", "arithmetic", "geometric"] = "mean_logits"
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None, description="of the models in the mean, in their order; null: equal"
    )
    store: str | None = Field(default=None, description="folder of cached outputs, shared by runs; null: inside the run folder")
    dtype: Literal["float16", "float32"] = Field(default="float32", description="of cached outputs")
    confidence_scale: float | None = Field(
        default=None,
        gt=0,
        description="of a file of answers: the number that means certainty, as 100 for percent; null: inferred from all answers",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """`teacher: runs/teacher`, or a list of folders, sets its models."""
        return {"models": [value] if isinstance(value, str) else value} if isinstance(value, str | list | tuple) else value

    @model_validator(mode="after")
    def _a_weight_a_model(self) -> Self:
        if self.models and self.weights is not None and len(self.weights) != len(self.models):
            raise ValueError(f"weights has {len(self.weights)} numbers for {len(self.models)} models; give one per model, or leave it out")
        return self
