"""A recipe is data, whole and sourced: what to distil, from what, how. Unknown keys are refused, all mistakes told together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from understudy import parts
from understudy.data.in_memory import InMemory, source_of
from understudy.errors import RecipeError, did_you_mean
from understudy.mistakes import told

# Of a pretrained encoder, where nothing else is asked for; the learning rate depends on its width.
ENCODER_TRAINING = {"epochs": 3, "min_updates": 300, "batch_size": 32}
LENGTHS = ("epochs", "max_steps")  # who gives one of them means just that, without a least number of updates
PRETRAINING = {"epochs": 3, "batch_size": 32, "learning_rate": 1e-4}
_TASK_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = ("checkpoints", "tensorboard", "mean")  # folders of a run of several tasks, and its metric
# What only one task can have: beside `tasks`, these are told apart from what counts for all of them.
_OF_ONE_TASK = {"data": ("train", "validation", "test", "transfer", "raw"), "teacher": ("models", "weights", "store")}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Part(_Frozen):
    """A kind and its settings; the settings are checked against the class that the kind names."""

    model_config = ConfigDict(frozen=True, extra="allow")
    folder: ClassVar[str]
    kind: str

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """`student: bilstm` is `student: {kind: bilstm}`."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _known(self) -> Self:
        self.__pydantic_extra__ = self._checked()  # defaults become visible in the resolved recipe
        return self

    def make(self) -> Any:
        """The part itself."""
        return parts.part(self.folder, self.kind)(**self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})

    def _checked(self) -> dict[str, Any]:
        try:
            cls = parts.part(self.folder, self.kind)
            model = parts.settings_of(cls)
            checked = model(**self.settings)
            values = {name: getattr(checked, name) for name in model.model_fields}
            cls(**values)  # what types cannot say, the class says: a width that its heads do not divide, say
        except RecipeError as error:
            raise ValueError(str(error)) from error
        except ValidationError as error:
            raise ValueError("; ".join(told(model, error, known=type(self).model_fields))) from error
        return values


class StudentPart(Part):
    """A kind of `students/` and its settings."""

    folder = "students"


class ObjectivePart(Part):
    """A kind of `objectives/`, its weight in the loss, and its settings."""

    folder = "objectives"

    weight: float = Field(default=1.0, ge=0)


class AugmenterPart(Part):
    """A kind of `augmenters/` and its settings."""

    folder = "augmenters"


class Augmentation(_Frozen):
    """Changed copies of a stage's rows, for the teacher to label."""

    copies: int = Field(gt=0, description="of each row, at most; duplicates are dropped")
    steps: tuple[AugmenterPart, ...] = Field(min_length=1)
    words: Literal["characters", "jieba"] = Field(default="characters", description="units of Chinese text")


class MixupSettings(_Frozen):
    """Objectives on blended rows, beside the stage's own; the teacher is asked live."""

    alpha: float = Field(default=0.4, gt=0, description="shares are drawn from Beta(alpha, alpha)")
    objectives: tuple[ObjectivePart, ...] = Field(min_length=1)


class MaskedLMSettings(_Frozen):
    """Train the student's encoder on text without labels, under a masked-language head that is dropped afterwards."""

    fraction: float = Field(
        default=0.15, ge=0, lt=1, description="of tokens to predict: 80 % masked, 10 % another token, 10 % as they are"
    )


class SelfAverage(_Frozen):
    """The mean of the student's own weights of late, as its teacher."""

    checkpoints: int = Field(default=5, gt=0, description="how many are averaged")
    every: int = Field(default=1, gt=0, description="updates between them")


class DataSettings(_Frozen):
    """Where the rows come from: a file, a folder with `train.*`, `validation.*`, `test.*`, or a data set on the hub.

    From Python, `train`, `validation`, `test` and `transfer` may also be a pandas DataFrame, a `datasets.Dataset` or a list of
    dictionaries; a recipe's file then holds `<DataFrame: 1,003 rows>`, which says what they were and cannot be read again.
    """

    train: str | InstanceOf[InMemory] | None = None
    validation: str | InstanceOf[InMemory] | None = None
    test: str | InstanceOf[InMemory] | None = None
    transfer: str | InstanceOf[InMemory] | None = Field(
        default=None, description="rows without labels, for the teacher to label"
    )
    raw: str | None = Field(
        default=None, description="plain text for stages with masked_lm: .txt, a paragraph a line, or a table with text"
    )
    columns: dict[str, str] = Field(default={}, description="our name → the file's name, as in text: review")
    label_names: tuple[str, ...] | None = Field(
        default=None, description="names of the labels 0, 1, … where the file has numbers"
    )
    validation_fraction: float = Field(
        default=0.1, gt=0, lt=1, description="of train, when no validation file is given"
    )
    test_fraction: float = Field(
        default=0.1, gt=0, lt=1, description="of train, when neither validation nor test is given"
    )
    group_column: str | None = Field(default=None, description="rows with the same value stay in one split")
    split_seed: int = Field(
        default=0,
        ge=0,
        description="of splits made here; not the run's seed, so that all seeds and the teacher share them",
    )
    train_rows: int | None = Field(
        default=None, gt=0, description="keep this many labelled rows (stratified, drawn by split_seed)"
    )
    max_length: int | None = Field(
        default=None, ge=4, description="tokens kept of a row; null: the model's own, at most 512"
    )

    @field_validator("train", "validation", "test", "transfer", mode="before")
    @classmethod
    def _source(cls, value: Any) -> Any:
        return source_of(value)

    @field_serializer("train", "validation", "test", "transfer", when_used="json")
    def _named(self, value: Any) -> Any:
        return None if value is None else str(value)

    @field_validator("label_names", mode="before")
    @classmethod
    def _names_are_text(cls, names: Any) -> Any:
        if not isinstance(names, list | tuple):
            return names
        if any(isinstance(name, bool) for name in names):
            raise ValueError(
                "YAML reads yes, no, on, off, true and false as truth values; put quotes around such names: ['yes', 'no']"
            )
        return [str(name) if isinstance(name, int) else name for name in names]


class TeacherSettings(_Frozen):
    """One model, several that are averaged, or a file of rows with outputs already in it."""

    models: tuple[str, ...] = ()
    pretrained: str | None = Field(
        default=None,
        description="the teacher before fine-tuning: students are built from it, and stages with masked_lm use it as their teacher",
    )
    combine: Literal["mean_logits", "arithmetic", "geometric"] = "mean_logits"
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None, description="of the models in the mean, in their order; null: equal"
    )
    store: str | None = Field(
        default=None, description="folder of cached outputs, shared by runs; null: inside the run folder"
    )
    dtype: Literal["float16", "float32"] = Field(default="float32", description="of kept outputs")
    confidence_scale: float | None = Field(
        default=None,
        gt=0,
        description="of a file of answers: what stands for certainty, as 100 where they are in percent; null: found from all of them",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """`teacher: runs/teacher`, or a list of them, are its models."""
        return (
            {"models": [value] if isinstance(value, str) else value} if isinstance(value, str | list | tuple) else value
        )

    @model_validator(mode="after")
    def _a_weight_a_model(self) -> Self:
        if self.models and self.weights is not None and len(self.weights) != len(self.models):
            raise ValueError(
                f"weights has {len(self.weights)} numbers for {len(self.models)} models; give one per model, or leave it out"
            )
        return self


class TrainSettings(_Frozen):
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


class Stage(_Frozen):
    """One training of the student."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    rows: tuple[Literal["train", "transfer", "raw"], ...] = Field(
        default=("train", "transfer"), description="those that were given; raw text only with masked_lm"
    )
    augment: Augmentation | None = None
    student: StudentPart | None = Field(
        default=None,
        description="a teacher assistant, trained from scratch; null: the recipe's student, continued from the previous stage",
    )
    teacher: Literal["given", "previous", "self"] = Field(
        default="given",
        description="`previous`: the student of the previous stage; `self`: the mean of the student's own recent weights",
    )
    self_average: SelfAverage | None = Field(default=None, description="of teacher `self`")
    sampling_power: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="of a recipe with tasks: a task's share of the batches is its number of batches to this power",
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
    def _own_teacher(cls, values: Any) -> Any:
        """`teacher: self` alone takes the defaults of its average."""
        return (
            {"self_average": {}, **values} if isinstance(values, dict) and values.get("teacher") == "self" else values
        )

    @model_validator(mode="after")
    def _fits_together(self) -> Stage:
        if (self.self_average is None) == (self.teacher == "self"):
            raise ValueError(
                f"self_average needs teacher 'self', but teacher is '{self.teacher}'; leave one of them out"
            )
        if self.masked_lm is None:
            if "raw" in self.rows:
                raise ValueError(
                    "rows has 'raw', which has no labels and no pairs; only a stage with masked_lm can use it"
                )
            return self
        for name, given in (("augment", self.augment), ("mixup", self.mixup), ("student", self.student)):
            if given is not None:
                raise ValueError(f"{name} and masked_lm exclude each other; put them into stages of their own")
        if self.teacher != "given":
            raise ValueError(
                f"teacher is {self.teacher!r}, but a masked_lm stage always uses teacher.pretrained; remove it"
            )
        return self


class TaskSettings(_Frozen):
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


class Recipe(_Frozen):
    """Everything that a run depends on."""

    name: str
    task: str = "classification"
    metric: str | None = Field(default=None, description="selects on validation; null: the task's primary metric")
    seed: int = Field(default=0, ge=0)
    data: DataSettings = DataSettings()
    teacher: TeacherSettings = TeacherSettings()
    tasks: tuple[TaskSettings, ...] | None = Field(
        default=None,
        description="one student for several tasks, each with its data and teacher; null: one task, as the settings above say",
    )
    student: StudentPart
    stages: tuple[Stage, ...] = Field(min_length=1)
    control: tuple[Literal["alone", "pseudo_labels"], ...] = ("alone",)
    export: tuple[Literal["onnx", "onnx_int8"], ...] = Field(
        default=("onnx", "onnx_int8"),
        description="forms of the student that are written and measured beside it; [] for none",
    )
    calibrate: bool = Field(
        default=False,
        description="scale the probabilities of exports by a temperature fitted on the validation rows",
    )
    baseline: bool = Field(
        default=True,
        description="fit a linear model of n-grams on the labelled rows, without teacher or network, and measure it beside the others",
    )
    report_to: tuple[str, ...] = Field(default=(), description="tensorboard, mlflow, … as in transformers")

    @model_validator(mode="before")
    @classmethod
    def _settings_for_all_tasks(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Beside tasks, `data` and `teacher` hold what counts for every task that does not say otherwise; it is moved there."""
        if not isinstance(values.get("tasks"), list | tuple) or not values["tasks"]:
            return values
        for place, own in _OF_ONE_TASK.items():
            there = _plain(values.get(place)) or {}
            given = [f"{place}.{name}" for name in own if not _is_empty(there.get(name))]
            if given:
                raise ValueError(f"{given[0]}: a recipe with tasks has it in each task, as tasks.0.{given[0]}")
        if values.get("metric"):
            raise ValueError("metric: a recipe with tasks has it in each task, as tasks.0.metric")
        tasks = [_plain(task) for task in values["tasks"]]
        moved: dict[str, Any] = {"data": {}, "teacher": {}}
        for place, model in (("data", DataSettings), ("teacher", TeacherSettings)):
            shared = _plain(values.get(place)) or {}
            if place == "teacher" and "pretrained" in shared:  # students are cut from it, and there is one student
                moved[place] = {"pretrained": shared.pop("pretrained")}
            for task in tasks:
                if isinstance(task, dict) and isinstance(task.get(place) or {}, dict):
                    given_here = (task.get(place) or {}).items()
                    task[place] = shared | {
                        name: value for name, value in given_here if not _is_default(model, name, value)
                    }
        return {**values, **moved, "tasks": tasks}

    @model_validator(mode="after")
    def _tasks_fit(self) -> Recipe:
        if self.tasks is None:
            return self
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError(f"task names must be different; got {', '.join(names)}")
        for task in self.tasks:
            for key, given in (("data.raw", task.data.raw), ("teacher.pretrained", task.teacher.pretrained)):
                if given is not None:
                    raise ValueError(f"task {task.name}: {key} has no effect in a recipe with several tasks; remove it")
        for number, stage in enumerate(self.stages):
            for key in ("augment", "mixup", "masked_lm", "student"):
                if getattr(stage, key) is not None:
                    raise ValueError(f"stages.{number}.{key}: not supported in a recipe with tasks; remove it")
            if stage.teacher != "given":
                raise ValueError(
                    f"stages.{number}.teacher is '{stage.teacher}', but each task of a recipe has its own teacher; remove it"
                )
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
            raise ValueError(
                f"stages.{len(names) - 1}.student: the last stage trains the recipe's student; remove it there"
            )
        if self.stages[-1].masked_lm is not None:
            raise ValueError(f"stages.{len(names) - 1}.masked_lm: the last stage trains the task; remove it there")
        return self

    @property
    def selection_metric(self) -> str:
        return self.metric or parts.part("tasks", self.task).primary_metric

    def dump(self) -> str:
        """YAML that loads to an equal recipe."""
        return dump_yaml(self)


class FinetuneSettings(_Frozen):
    """Everything that a fine-tuning depends on."""

    model: str
    task: str = "classification"
    metric: str | None = None
    seed: int = Field(default=0, ge=0)
    data: DataSettings = DataSettings()
    student: StudentPart | None = Field(
        default=None, description="train this kind on the labels instead of a pretrained encoder"
    )
    train: TrainSettings = TrainSettings()
    # Made when it is needed: it imports torch.
    objective: ObjectivePart = Field(default_factory=lambda: ObjectivePart(kind="labels"))
    baseline: bool = Field(
        default=True,
        description="fit a linear model of n-grams on the labelled rows, without teacher or network, and measure it beside the others",
    )
    report_to: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _kind_or_folder(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`finetune bilstm` trains a kind of student; any other name is a model. What is left open is filled in."""
        model = values.get("model")
        if model in parts.kinds("students") and not Path(str(model)).is_dir():
            values = {**values, "student": {"kind": model, **(values.get("student") or {})}}
        student = values.get("student")
        defaults = ENCODER_TRAINING
        if isinstance(student, dict) and student.get("kind") in parts.kinds("students"):
            defaults = parts.part("students", student["kind"]).training
        return {**values, "train": with_defaults(_plain(values.get("train")) or {}, defaults)}

    @model_validator(mode="after")
    def _metric_known(self) -> FinetuneSettings:
        check_metric(self.task, self.metric)
        return self

    @property
    def selection_metric(self) -> str:
        return self.metric or parts.part("tasks", self.task).primary_metric

    def dump(self) -> str:
        return dump_yaml(self)


class PretrainSettings(_Frozen):
    """Everything that the training of a masked language model depends on; `data.raw` names its text."""

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
        return {**values, "train": with_defaults(_plain(values.get("train")) or {}, PRETRAINING)}

    def dump(self) -> str:
        return dump_yaml(self)


def with_defaults(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a training with the open ones filled in; a length that is given is kept to, without a least number of updates.

    >>> with_defaults({"epochs": 2}, {"epochs": 10, "batch_size": 32, "min_updates": 600})
    {'epochs': 2, 'batch_size': 32}
    """
    length_given = any(given.get(name) is not None for name in LENGTHS)
    open_ones = {
        name: value
        for name, value in defaults.items()
        if given.get(name) is None and not (name == "min_updates" and length_given)
    }
    return {**given, **open_ones}


def make_objectives(described: Sequence[ObjectivePart]) -> list[tuple[float, Any]]:
    """(weight, objective) pairs, as the Trainer takes them."""
    return [(one.weight, one.make()) for one in described]


def check_task_name(name: str) -> None:
    """Refuse a name of a task that cannot be a folder beside the other things of a run."""
    if not _TASK_NAME.fullmatch(name):
        raise ValueError(f"task name '{name}' is invalid: use lower-case letters, digits and _, starting with a letter")
    if name in _TAKEN:
        raise ValueError(f"task name '{name}' is used by the run folder; choose another")


def check_metric(task: str, metric: str | None) -> None:
    """Refuse a metric that the task does not have."""
    try:
        known = parts.part("tasks", task).metric_names
    except RecipeError as error:
        raise ValueError(str(error)) from error
    if metric is not None and metric not in known:
        raise ValueError(f"metric '{metric}' is unknown for {task}; {did_you_mean(metric, known)}")


def dump_yaml(model: BaseModel) -> str:
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def _plain(values: Any) -> Any:
    """A setting's values as a dictionary to change freely."""
    return (
        values.model_dump() if isinstance(values, BaseModel) else dict(values) if isinstance(values, dict) else values
    )


def _is_default(model: type[BaseModel], name: str, value: Any) -> bool:
    default = model.model_fields[name].default if name in model.model_fields else ...
    return value is default or (isinstance(value, str | float | int | list | tuple | dict) and value == default)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)
