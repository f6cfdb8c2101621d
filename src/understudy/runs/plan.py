"""The plan of a run, as values: rows, teacher and untrained student of each task, and what each stage trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.data.held_out import as_plain_text
from understudy.data.rows import Rows, labelled, single_texts, texts_in
from understudy.errors import RecipeError, StoreError
from understudy.models import encoder
from understudy.models.text_model import TextModel
from understudy.objectives import LayerObjective, Objective
from understudy.runs.inputs import files_of, teacher_input
from understudy.settings.recipe import Recipe
from understudy.settings.stage import Stage, make_objectives
from understudy.signals import Needs, Shape
from understudy.students.assembly import seeded
from understudy.tasks import Task
from understudy.teachers.store import MARKER, Store
from understudy.teachers.teacher import ModelTeacher, NoTeacher, Teacher
from understudy.training.length import Length, length, shared_out, updates_in_epoch
from understudy.training.lesson import joined
from understudy.training.terms import names_of, needs_of, prepare, weighted

if TYPE_CHECKING:
    from datasets import Dataset

TEACHER_OUTPUTS = "teacher_outputs"  # in a run folder: the store, where no other is named
ALONE = ""  # the name of the task of a run that has one


@dataclass(frozen=True)
class TaskPlan:
    """The plan of a run for one task.

    Args:
        recipe: resolved, of this task alone, with every training setting filled in.
        student: untrained; the student and each control are copies of it, so that all start with the same weights.
        autocast: whether bf16 makes this kind of student faster.
        augmented: stage → its augmented rows.
        assistants: stage → its untrained assistant.
        pretrained: the teacher before fine-tuning, if given; stages with a masked-language head use it.
        texts: stage with a masked-language head → the texts of all tasks that it learns from, and those held out for selection.
    """

    recipe: Recipe
    task: Task
    rows: Rows
    teacher: Teacher
    student: TextModel
    autocast: bool
    augmented: Mapping[str, Dataset] = field(default_factory=dict)
    assistants: Mapping[str, TextModel] = field(default_factory=dict)
    pretrained: ModelTeacher | None = None
    texts: Mapping[str, tuple[Dataset, Dataset]] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Hashes of its rows and its teacher."""
        return self.rows.inputs() | teacher_input(self.recipe, self.teacher)

    @cached_property
    def held_out(self) -> frozenset[str]:
        """The texts of validation and test rows, either side of pairs; no plain text for training may be among them."""
        return frozenset(as_plain_text(texts_in(self.rows.validation, self.rows.test)))

    @property
    def outputs(self) -> int:
        """Number of outputs of the heads."""
        return self.task.outputs

    @property
    def teacher_folders(self) -> tuple[Path, ...]:
        """The folders of the teacher's models; none for a file of outputs or a model from the hub."""
        folders = tuple(map(Path, self.recipe.teacher.models))
        return folders if all(folder.is_dir() for folder in folders) else ()

    def stage_rows(self, stage: Stage) -> Dataset:
        """The rows that a stage learns from, training rows first; without a teacher only those with a label.

        Raises:
            RecipeError: none of the splits that the stage names is given.
        """
        from datasets import concatenate_datasets

        if stage.masked_lm is not None and stage.name in self.texts:
            return self.texts[stage.name][0]
        named = {"train": self.rows.train, "transfer": self.rows.transfer, "raw": self.rows.raw}
        if self.recipe.data.train is None and "train" not in stage.rows:
            named["transfer"] = self.rows.train  # unlabelled: the teacher labels them
        if stage.masked_lm is not None:
            named = {
                name: single_texts(rows, self.held_out if name == "transfer" else ()) for name, rows in named.items() if rows is not None
            }
        selected = [rows for name in stage.rows if (rows := named.get(name)) is not None]
        if not selected:
            missing = " or ".join(f"--{name}" for name in stage.rows)
            raise RecipeError(f"stage {stage.name} learns from {' and '.join(stage.rows)} rows only; give a file with {missing}")
        rows = concatenate_datasets([*selected, *([self.augmented[stage.name]] if stage.name in self.augmented else [])])
        untaught = isinstance(self.teacher, NoTeacher) and stage.teacher == "given" and stage.masked_lm is None
        return labelled(rows) if untaught else rows

    def at(self, stage: Stage, previous: TextModel | None = None) -> TaskPlan:
        """The plan with the student that a stage trains and the teacher that it uses.

        Args:
            previous: the trained student of the previous stage; None: its untrained copy, which has the same shape.
        """
        changes: dict[str, Any] = {}
        if stage.student is not None:
            changes = {"student": self.assistants[stage.name], "autocast": stage.student.make().autocast}
        if stage.masked_lm is not None and self.pretrained is not None:
            changes["teacher"] = self.pretrained
        if stage.teacher == "self":
            changes["teacher"] = ModelTeacher([changes.get("student", self.student)])
        if stage.teacher == "previous":
            before = self.recipe.stages[[stage.name for stage in self.recipe.stages].index(stage.name) - 1]
            changes["teacher"] = ModelTeacher([previous or self.assistants.get(before.name, self.student)])
        return replace(self, **changes)

    def part(self, stage: Stage, rows: Dataset | None = None) -> Part:
        """A stage's part for this task, on its own or other rows."""
        return Part(self, stage, self.stage_rows(stage) if rows is None else rows)

    def teacher_covers(self, rows: Dataset) -> bool:
        """Whether the teacher has outputs for these rows; a file of outputs may lack some."""
        return self.teacher.covers(rows)

    def taught_rows(self) -> list[Dataset]:
        """All rows whose teacher outputs the run uses."""
        measured = [labelled(self.rows.validation), labelled(self.rows.test)]
        taught = [
            stage
            for stage in self.recipe.stages
            if stage.masked_lm is None
            and ("pseudo_labels" in self.recipe.control or (stage.teacher == "given" and self.part(stage).keeps_logits))
        ]
        return [*map(self.stage_rows, taught), *filter(self.teacher_covers, measured)]

    def store(self, folder: Path) -> Store:
        """The store of the teacher's outputs in a folder."""
        return Store(folder, self.teacher.fingerprint, self.outputs, dtype=self.recipe.teacher.dtype)

    def known_logits(self, rows: Dataset, device: str, run_folder: Path | None = None) -> np.ndarray:
        """The teacher's logits before the run starts, (rows, outputs): read from the store, else computed and remembered for it."""
        named = self.recipe.teacher.store
        folder = Path(named) if named else run_folder and run_folder / TEACHER_OUTPUTS
        if folder and (folder / MARKER).is_file():
            try:
                store = self.store(folder)
                if not store.missing(rows):
                    return store.logits(rows)
            except StoreError:  # perhaps of a run that is replaced; else filling it is refused
                if named:
                    raise
        return self.teacher.first_logits(rows, device=device)


@dataclass(frozen=True, eq=False)
class Part:
    """A stage's part for one task.

    Args:
        plan: of the task, the same for all stages.
        rows: that the stage learns from.
    """

    plan: TaskPlan
    stage: Stage
    rows: Dataset

    @cached_property
    def objectives(self) -> list[tuple[float, Objective]]:
        """The objectives with a weight above 0, prepared for these models and rows; a training uses copies of them.

        Raises:
            RecipeError: an objective that does not fit them.
        """
        return self._prepared(mixed=False)

    @cached_property
    def mixed(self) -> list[tuple[float, Objective]]:
        """The objectives on blended rows (mixup), prepared in the same way."""
        return self._prepared(mixed=True)

    def _prepared(self, *, mixed: bool) -> list[tuple[float, Objective]]:
        stage, plan = self.stage, self.plan.at(self.stage)
        described = stage.objectives if not mixed else stage.mixup.objectives if stage.mixup else ()
        objectives = weighted(make_objectives(described))
        teacher = plan.teacher.model
        shapes = {
            "student": encoder.shape(plan.student.model, f"student {(stage.student or plan.recipe.student).kind}"),
            "teacher": encoder.shape(teacher.model, "teacher") if teacher else Shape("teacher", plan.outputs),
        }
        if stage.masked_lm is not None:
            shapes = {
                name: replace(shape, outputs=len(plan.student.tokenizer)) for name, shape in shapes.items()
            }  # of the masked-language head
        with seeded(plan.recipe.seed):  # projections of objectives are drawn at random
            prepare(objectives, labels=np.asarray(self.rows["label"]), **shapes)
        return objectives

    @property
    def needs(self) -> Needs:
        """Which teacher outputs the objectives need."""
        return needs_of(self.objectives)[0]

    @property
    def runs_teacher(self) -> bool:
        """Whether the teacher is run during training: for hidden states, blended or masked rows, or a teacher that changes."""
        blended = any(objective.needs for _, objective in self.mixed)
        return blended or self.needs.internals or (bool(self.needs) and not self._keepable)

    @property
    def keeps_logits(self) -> bool:
        """Whether the teacher's logits are computed once and kept; else they are not needed, or it is run during training."""
        return self.needs.logits and not self.needs.internals and self._keepable

    @property
    def _keepable(self) -> bool:
        """Whether the teacher's outputs for a row never change during training."""
        return self.stage.masked_lm is None and self.stage.teacher != "self"

    def layer_maps(self) -> dict[str, list[tuple[int, int]]]:
        """Objective → the pairs (student layer, teacher layer) that it matches; on blended rows with the prefix `mixed_`."""
        layers = {}
        for prefix, objectives in (("", self.objectives), ("mixed_", self.mixed)):
            for name, (_, objective) in zip(names_of(objective for _, objective in objectives), objectives, strict=True):
                if isinstance(objective, LayerObjective):
                    layers[prefix + name] = objective.pairs
        return layers


@dataclass(frozen=True, eq=False)
class StagePlan:
    """One training of all students.

    Args:
        parts: task → its part; a stage on plain text trains the encoder for all tasks at once and has the single part `ALONE`.
        shares: task → its updates in an epoch.
    """

    parts: Mapping[str, Part]
    shares: Mapping[str, int]

    @property
    def stage(self) -> Stage:
        """The settings of the training; objectives and rows of each task are in the parts."""
        return next(iter(self.parts.values())).stage

    @property
    def length(self) -> Length:
        return length([len(part.rows) for part in self.parts.values()], self.stage.train)


@dataclass(frozen=True, eq=False)
class Plan:
    """The plan of a run.

    Args:
        recipe: resolved.
        tasks: task → its plan; the single one `ALONE` where the recipe has no tasks. Their students share an encoder.
    """

    recipe: Recipe
    tasks: Mapping[str, TaskPlan]

    @property
    def first(self) -> TaskPlan:
        """The plan of the first task, or of the only one."""
        return next(iter(self.tasks.values()))

    def of(self, task: str) -> TaskPlan:
        """The plan of a task; the first plan for a part of all tasks."""
        return self.tasks.get(task, self.first)

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Hashes of all that the run depends on beside its settings: rows, teachers and every file that a setting names."""
        of_tasks = {f"{task}, {name}" if task else name: entry for task, plan in self.tasks.items() for name, entry in plan.inputs.items()}
        return of_tasks | files_of(self.recipe)

    @property
    def parameters(self) -> int:
        """Number of parameters of the student with all its heads; the shared encoder counts once."""
        model = joined({task: plan.student.model for task, plan in self.tasks.items()})
        return sum(weight.numel() for weight in model.parameters())

    @cached_property
    def stages(self) -> list[StagePlan]:
        """The training of each stage; objectives are prepared once, so that those checked are those trained."""
        numbers = range(len(self.recipe.stages))
        return [self.staged({task: plan.recipe.stages[number] for task, plan in self.tasks.items()}) for number in numbers]

    def staged(
        self,
        stages: Mapping[str, Stage],
        rows_of: Callable[[TaskPlan, Stage], Dataset] = TaskPlan.stage_rows,
        shares: Mapping[str, int] | None = None,
    ) -> StagePlan:
        """The training of a stage, from its settings for each task.

        Args:
            shares: task → its updates in an epoch; None, or shares of other tasks: computed so that an epoch has as many updates as
                are needed to show each row once.
        """
        stage = next(iter(stages.values()))
        if stage.masked_lm is not None:
            stages = {ALONE: stage}
        parts = {task: self.of(task).part(task_stage, rows_of(self.of(task), task_stage)) for task, task_stage in stages.items()}
        if shares is None or shares.keys() != parts.keys():
            needed = [updates_in_epoch(len(part.rows), stage.train) for part in parts.values()]
            counts = shared_out(sum(needed), [float(updates**stage.sampling_power) for updates in needed])
            shares = dict(zip(parts, counts, strict=True))
        return StagePlan(parts, shares)
