"""A recipe: which student to distil, from which teachers and rows, in which stages."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from understudy import parts
from understudy.errors import RecipeError, did_you_mean
from understudy.settings.base import Frozen, StudentPart, dump_yaml, is_default, is_empty, plain
from understudy.settings.data import DataSettings
from understudy.settings.stage import Stage
from understudy.settings.teacher import TeacherSettings

_TASK_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = ("checkpoints", "tensorboard", "mean")  # folders of a run of several tasks, and its metric
# Settings that belong to a single task: a recipe with `tasks` has them in each task, not beside them.
_OF_ONE_TASK = {"data": ("train", "validation", "test", "transfer"), "teacher": ("models", "weights", "store")}


class TaskSettings(Frozen):
    """One of the tasks that a student learns side by side."""

    name: str = Field(description="of its folder in the run")
    task: str = "classification"
    metric: str | None = Field(default=None, description="as of a recipe; selection takes the mean over tasks")
    data: DataSettings = DataSettings()
    teacher: TeacherSettings = Field(default=TeacherSettings(), description="no models: trained on its labels only")

    @model_validator(mode="after")
    def _known(self) -> Self:
        check_task_name(self.name)
        check_metric(self.task, self.metric)
        return self


class Recipe(Frozen):
    """Everything that a run depends on."""

    name: str
    task: str = "classification"
    metric: str | None = Field(default=None, description="selects on validation; null: the task's primary metric")
    seed: int = Field(default=0, ge=0)
    data: DataSettings = DataSettings()
    teacher: TeacherSettings = TeacherSettings()
    tasks: tuple[TaskSettings, ...] | None = Field(
        default=None, description="one student for several tasks, each with its data and teacher; null: one task, with the settings above"
    )
    student: StudentPart
    stages: tuple[Stage, ...] = Field(min_length=1)
    control: tuple[Literal["alone", "pseudo_labels"], ...] = ("alone",)
    export: tuple[Literal["onnx", "onnx_int8"], ...] = Field(
        default=("onnx", "onnx_int8"), description="forms of the student that are written and measured beside it; [] for none"
    )
    calibrate: bool = Field(default=False, description="scale the probabilities of exports by a temperature fitted on the validation rows")
    baseline: bool = Field(
        default=True,
        description="fit a linear model of n-grams on the labelled rows, without teacher or network, and measure it beside the others",
    )
    report_to: tuple[str, ...] = Field(default=(), description="tensorboard, mlflow, … as in transformers")

    @model_validator(mode="before")
    @classmethod
    def _settings_for_all_tasks(cls, values: dict[str, Any]) -> dict[str, Any]:
        """In a recipe with tasks, `data` and `teacher` hold defaults for all tasks; they are moved into each task."""
        if not isinstance(values.get("tasks"), list | tuple) or not values["tasks"]:
            return values
        for place, names in _OF_ONE_TASK.items():
            settings = plain(values.get(place)) or {}
            misplaced = [f"{place}.{name}" for name in names if not is_empty(settings.get(name))]
            if misplaced:
                raise ValueError(f"{misplaced[0]}: a recipe with tasks has it in each task, as tasks.0.{misplaced[0]}")
        if values.get("metric"):
            raise ValueError("metric: a recipe with tasks has it in each task, as tasks.0.metric")
        tasks = [plain(task) for task in values["tasks"]]
        moved: dict[str, Any] = {"data": {}, "teacher": {}}
        for place, model in (("data", DataSettings), ("teacher", TeacherSettings)):
            shared = plain(values.get(place)) or {}
            of_student = {"teacher": "pretrained", "data": "raw"}[place]  # stays: the tasks share one student
            if of_student in shared:
                moved[place] = {of_student: shared.pop(of_student)}
            for task in tasks:
                if isinstance(task, dict) and isinstance(task.get(place) or {}, dict):
                    of_task = (task.get(place) or {}).items()
                    task[place] = shared | {name: value for name, value in of_task if not is_default(model, name, value)}
        return {**values, **moved, "tasks": tasks}

    @model_validator(mode="after")
    def _tasks_fit(self) -> Recipe:
        if self.tasks is None:
            return self
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError(f"task names must be different; got {', '.join(names)}")
        for task in self.tasks:
            for key, value in (("data.raw", task.data.raw), ("teacher.pretrained", task.teacher.pretrained)):
                if value is not None:
                    raise ValueError(f"task {task.name}: {key} is for all tasks of a recipe; give it beside them, as {key}")
        return self

    @model_validator(mode="after")
    def _metric_known(self) -> Recipe:
        check_metric(self.task, self.metric)
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stage names must be different; got {', '.join(names)}")
        if self.stages[0].teacher == "previous":
            raise ValueError(f"stages.0.teacher is 'previous', but no stage comes before {names[0]}")
        if self.stages[-1].student is not None:
            raise ValueError(f"stages.{len(names) - 1}.student: the last stage trains the recipe's student; remove it there")
        if self.stages[-1].masked_lm is not None:
            raise ValueError(f"stages.{len(names) - 1}.masked_lm: the last stage trains the task; remove it there")
        return self

    @property
    def selection_metric(self) -> str:
        """Name of the metric that selects on validation: the given one, or the task's primary metric."""
        return self.metric or parts.part("tasks", self.task).metrics[0].name

    def dump(self) -> str:
        """YAML that loads to an equal recipe."""
        return dump_yaml(self)


def check_task_name(name: str) -> None:
    """Check that a task's name can be a folder in a run's folder.

    Raises:
        ValueError: invalid characters, or a name that the run folder uses.
    """
    if not _TASK_NAME.fullmatch(name):
        raise ValueError(f"task name '{name}' is invalid: use lower-case letters, digits and _, starting with a letter")
    if name in _TAKEN:
        raise ValueError(f"task name '{name}' is used by the run folder; choose another")


def check_metric(task: str, metric: str | None) -> None:
    """Check that a task is known and has a metric.

    Raises:
        ValueError: it is unknown, or does not have the metric.
    """
    try:
        known = [measure.name for measure in parts.part("tasks", task).metrics]
    except RecipeError as error:
        raise ValueError(str(error)) from error
    if metric is not None and metric not in known:
        raise ValueError(f"metric '{metric}' is unknown for {task}; {did_you_mean(metric, known)}")
