"""The space of a search: students and their sizes, recipes, and settings of training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from understudy.errors import RecipeError
from understudy.settings.base import StudentPart
from understudy.settings.loading import build, read_mapping
from understudy.settings.recipe import Recipe
from understudy.settings.stage import TrainSettings

if TYPE_CHECKING:
    from optuna import Trial

DEFAULT = Path(__file__).with_name("space.yaml")


class Range(BaseModel):
    """A number from `low` to `high`, drawn uniformly in its logarithm; an integer if both are integers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: int | float = Field(gt=0)
    high: int | float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, above high, {self.high}")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.low, self.high

    def draw(self, trial: Trial, name: str) -> Any:
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=True)
        return trial.suggest_float(name, self.low, self.high, log=True)


class Choice(BaseModel):
    """One of several values, or the only one."""

    model_config = ConfigDict(frozen=True)

    values: tuple[Any, ...] = Field(min_length=1)

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.values

    def draw(self, trial: Trial, name: str) -> Any:
        return trial.suggest_categorical(name, self.values)


class StudentSpace(BaseModel):
    """A kind of student, its settings, and settings of its training: each a value, or a list of alternatives."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    train: dict[str, Range | Choice] = {}

    @model_validator(mode="before")
    @classmethod
    def _alternatives(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("train"), dict):
            return {**values, "train": {name: as_choice(value) for name, value in values["train"].items()}}
        return values

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name, choice in self.train.items():
            for value in choice.ends:
                try:
                    TrainSettings(**{name: value})
                except ValidationError as error:
                    raise ValueError(f"train.{name} is {value!r}: {error.errors()[0]['msg'].lower()}") from error
        _ = self.shapes
        return self

    @property
    def shapes(self) -> dict[str, StudentPart]:
        """Name → settings, for every combination; the name lists the settings that vary."""
        alternatives = {name: value if isinstance(value, list) else [value] for name, value in (self.model_extra or {}).items()}
        shapes = {}
        for values in itertools.product(*alternatives.values()):
            settings = dict(zip(alternatives, values, strict=True))
            varied = ", ".join(f"{name} {value}" for name, value in settings.items() if len(alternatives[name]) > 1)
            shapes[varied or "as given"] = StudentPart(kind=self.kind, **settings)
        return shapes


class Space(BaseModel):
    """Everything that a search chooses from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    students: tuple[StudentSpace, ...] = Field(min_length=1)
    recipes: tuple[str, ...] = Field(min_length=1)
    temperature: Range | Choice | None = None

    @model_validator(mode="before")
    @classmethod
    def _alternatives(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("temperature") is not None:
            return {**values, "temperature": as_choice(values["temperature"])}
        return values

    @model_validator(mode="after")
    def _once(self) -> Self:
        for what, names in (("students", [student.kind for student in self.students]), ("recipes", list(self.recipes))):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{what} has {twice} twice; give it once, with lists of alternatives")
        for value in self.temperature.ends if self.temperature else ():
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"temperature is {value!r}: a number above 0 is allowed")
        return self

    def shape(self, kind: str, name: str) -> StudentPart:
        """A student of the space, by its kind and the name of its shape."""
        return next(student for student in self.students if student.kind == kind).shapes[name]

    def draw(
        self, trial: Trial, teachable: Mapping[str, Mapping[str, list[str]]], *, have_temperature: Mapping[str, bool]
    ) -> dict[str, Any]:
        """The choices of a trial: `student`, `shape`, `recipe`, and `settings` of its training.

        Args:
            teachable: kind → shape → recipes by which it can be taught, all within the budget.
            have_temperature: recipe → whether it has a temperature.
        """
        kind = trial.suggest_categorical("student", list(teachable))
        shape = trial.suggest_categorical(kind, list(teachable[kind]))
        recipes = teachable[kind][shape]
        recipe = trial.suggest_categorical(
            f"{kind} by {' or '.join(recipes)}", recipes
        )  # the choices of a parameter of a study must not change
        train = next(student for student in self.students if student.kind == kind).train
        settings = {name: choice.draw(trial, f"{kind}.{name}") for name, choice in train.items()}
        if self.temperature is not None and have_temperature[recipe]:
            settings["temperature"] = self.temperature.draw(trial, "temperature")
        return {"student": kind, "shape": shape, "recipe": recipe, "settings": settings}


def as_choice(value: Any) -> Any:
    """`{low, high}` is a range, a list holds alternatives, and anything else is a single value.

    >>> as_choice([5, 10])
    {'values': [5, 10]}
    """
    if isinstance(value, dict):
        return value
    return {"values": value if isinstance(value, list) else [value]}


def load_space(path: str | Path | None) -> Space:
    """The space in a YAML file; the packaged one without a path.

    Raises:
        RecipeError: no such file, not YAML, or values that do not fit; all of them in one message.
    """
    path = Path(path or DEFAULT)
    if not path.is_file():
        raise RecipeError(f"--space {path}: no such file")
    return build(Space, read_mapping(path, "a space"), {}, where=str(path))


def check_searchable(recipe: Recipe) -> None:
    """Refuse a recipe that a search cannot try.

    Raises:
        RecipeError: several tasks or stages, plain text, or rows made by augmentation.
    """
    stage = recipe.stages[0]
    for present, feature in (
        (recipe.tasks is not None, "several tasks"),
        (len(recipe.stages) > 1, f"{len(recipe.stages)} stages"),
        (stage.masked_lm is not None, "a stage on plain text"),
        (stage.augment is not None, "augmentation"),
    ):
        if present:
            raise RecipeError(
                f"recipe {recipe.name} has {feature}; a search supports recipes with one task and one stage, without augmentation"
            )


def temperatures(recipe: Recipe) -> list[str]:
    """Dotted keys of the temperatures in a recipe."""
    return [
        f"stages.0.objectives.{number}.temperature"
        for number, objective in enumerate(recipe.stages[0].objectives)
        if "temperature" in objective.settings
    ]
