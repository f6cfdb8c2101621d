"""What a run works with, as values: of each task rows, teacher and untrained student; and what each stage is for it."""

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
    """What a run works with for one task.

    Args:
        recipe: resolved, of this task alone; every training setting filled in.
        student: untrained; copied for the student and each control, so that all start alike.
        autocast: whether this kind of student gains by bf16.
        augmented: stage → rows made for it.
        assistants: stage → the untrained student of its own.
        pretrained: the teacher before fine-tuning, where one is given; stages with a masked-language head use it.
        texts: stage with such a head → the texts it learns from, of all tasks, and those held out to select.
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
        """Its rows and its teacher, by hashes."""
        return self.rows.inputs() | teacher_input(self.recipe, self.teacher)

    @cached_property
    def held_out(self) -> frozenset[str]:
        """What no plain text may hold: the texts of validation and test rows, either side of pairs."""
        return frozenset(as_plain_text(texts_in(self.rows.validation, self.rows.test)))

    @property
    def outputs(self) -> int:
        """Width of the heads."""
        return self.task.outputs

    @property
    def teacher_folders(self) -> tuple[Path, ...]:
        """Where the teacher's models are; none for a file of outputs, or a model from the hub."""
        folders = tuple(map(Path, self.recipe.teacher.models))
        return folders if all(folder.is_dir() for folder in folders) else ()

    def stage_rows(self, stage: Stage) -> Dataset:
        """The rows that a stage learns from, training rows first; without a teacher those with a label."""
        from datasets import concatenate_datasets

        if stage.masked_lm is not None and stage.name in self.texts:
            return self.texts[stage.name][0]
        named = {"train": self.rows.train, "transfer": self.rows.transfer, "raw": self.rows.raw}
        if self.recipe.data.train is None and "train" not in stage.rows:
            named["transfer"] = self.rows.train  # none of which has a label
        if stage.masked_lm is not None:
            named = {
                name: single_texts(rows, self.held_out if name == "transfer" else ())
                for name, rows in named.items()
                if rows is not None
            }
        given = [rows for name in stage.rows if (rows := named.get(name)) is not None]
        if not given:
            missing = " or ".join(f"--{name}" for name in stage.rows)
            raise RecipeError(
                f"stage {stage.name} learns from {' and '.join(stage.rows)} rows only; give a file with {missing}"
            )
        rows = concatenate_datasets([*given, *([self.augmented[stage.name]] if stage.name in self.augmented else [])])
        untaught = isinstance(self.teacher, NoTeacher) and stage.teacher == "given" and stage.masked_lm is None
        return labelled(rows) if untaught else rows

    def at(self, stage: Stage, previous: TextModel | None = None) -> TaskPlan:
        """The plan as a stage sees it: the student that it trains, and the teacher that it uses.

        Args:
            previous: the student of the stage before; None takes its untrained self, which has the same shape.
        """
        changes: dict[str, Any] = {}
        if stage.student is not None:
            changes = {"student": self.assistants[stage.name], "autocast": stage.student.make().autocast}
        if stage.masked_lm is not None and self.pretrained is not None:
            changes["teacher"] = self.pretrained
        if stage.teacher == "self":
            changes["teacher"] = ModelTeacher([changes.get("student", self.student)])
        if stage.teacher == "previous":
            before = self.recipe.stages[[one.name for one in self.recipe.stages].index(stage.name) - 1]
            changes["teacher"] = ModelTeacher([previous or self.assistants.get(before.name, self.student)])
        return replace(self, **changes)

    def part(self, stage: Stage, rows: Dataset | None = None) -> Part:
        """What a stage is for this task, on its rows or others."""
        return Part(self, stage, self.stage_rows(stage) if rows is None else rows)

    def teacher_knows(self, rows: Dataset) -> bool:
        """Whether the teacher has outputs for these rows; a black box may not."""
        return self.teacher.covers(rows)

    def taught_rows(self) -> list[Dataset]:
        """All rows whose teacher outputs the run uses."""
        measured = [labelled(self.rows.validation), labelled(self.rows.test)]
        taught = [
            stage for stage in self.recipe.stages
            if stage.masked_lm is None
            and ("pseudo_labels" in self.recipe.control or (stage.teacher == "given" and self.part(stage).keeps_logits))
        ]  # fmt: skip
        return [*map(self.stage_rows, taught), *filter(self.teacher_knows, measured)]

    def store(self, folder: Path) -> Store:
        """The store of the teacher's outputs in a folder."""
        return Store(folder, self.teacher.fingerprint, self.outputs, dtype=self.recipe.teacher.dtype)

    def known_logits(self, rows: Dataset, device: str, run_folder: Path | None = None) -> np.ndarray:
        """The teacher's logits before a run is begun: kept ones, else computed now and remembered for the store."""
        named = self.recipe.teacher.store
        folder = Path(named) if named else run_folder and run_folder / TEACHER_OUTPUTS
        if folder and (folder / MARKER).is_file():
            try:
                store = self.store(folder)
                if not store.missing(rows):
                    return store.logits(rows)
            except StoreError:  # of a run that is replaced, perhaps; else it is refused where it is filled
                if named:
                    raise
        return self.teacher.first_logits(rows, device=device)


@dataclass(frozen=True, eq=False)
class Part:
    """What a stage is for one task.

    Args:
        plan: of the task, as all stages see it.
        rows: that are learned from.
    """

    plan: TaskPlan
    stage: Stage
    rows: Dataset

    @cached_property
    def objectives(self) -> list[tuple[float, Objective]]:
        """Those with a weight, made for these models and rows; a training learns with copies of them.

        Raises:
            RecipeError: one that cannot work on them.
        """
        return self._made(mixed=False)

    @cached_property
    def mixed(self) -> list[tuple[float, Objective]]:
        """The same of those on blended rows."""
        return self._made(mixed=True)

    def _made(self, *, mixed: bool) -> list[tuple[float, Objective]]:
        stage, plan = self.stage, self.plan.at(self.stage)
        described = stage.objectives if not mixed else stage.mixup.objectives if stage.mixup else ()
        made = weighted(make_objectives(described))
        teacher = plan.teacher.model
        shapes = {
            "student": encoder.shape(plan.student.model, f"student {(stage.student or plan.recipe.student).kind}"),
            "teacher": encoder.shape(teacher.model, "teacher") if teacher else Shape("teacher", plan.outputs),
        }
        if stage.masked_lm is not None:
            shapes = {
                name: replace(shape, outputs=len(plan.student.tokenizer)) for name, shape in shapes.items()
            }  # of the head that it trains under
        with seeded(plan.recipe.seed):  # maps that objectives learn are drawn
            prepare(made, labels=np.asarray(self.rows["label"]), **shapes)
        return made

    @property
    def needs(self) -> Needs:
        """What the objectives need of the teacher."""
        return needs_of(self.objectives)[0]

    @property
    def runs_teacher(self) -> bool:
        """Whether the teacher is run in the training: its hidden states, blended or masked rows, or one that changes."""
        blended = any(objective.needs for _, objective in self.mixed)
        return blended or self.needs.internals or (bool(self.needs) and not self._keepable)

    @property
    def keeps_logits(self) -> bool:
        """Whether the teacher's logits are computed once and kept; else none are needed, or it is run in the training."""
        return self.needs.logits and not self.needs.internals and self._keepable

    @property
    def _keepable(self) -> bool:
        """Whether the teacher's outputs of a row are the same whenever it is run."""
        return self.stage.masked_lm is None and self.stage.teacher != "self"

    def layer_maps(self) -> dict[str, list[tuple[int, int]]]:
        """Which layers of student and teacher the objectives match, those on blended rows too."""
        found = {}
        for prefix, made in (("", self.objectives), ("mixed_", self.mixed)):
            for name, (_, objective) in zip(names_of(objective for _, objective in made), made, strict=True):
                if isinstance(objective, LayerObjective):
                    found[prefix + name] = objective.pairs
        return found


@dataclass(frozen=True, eq=False)
class StagePlan:
    """One training of all students.

    Args:
        parts: task → what it asks; the encoder on plain text learns for all tasks at once, as `ALONE`.
        shares: task → its updates in an epoch.
    """

    parts: Mapping[str, Part]
    shares: Mapping[str, int]

    @property
    def stage(self) -> Stage:
        """Its settings; the objectives and rows of each task are in the parts."""
        return next(iter(self.parts.values())).stage

    @property
    def length(self) -> Length:
        return length([len(part.rows) for part in self.parts.values()], self.stage.train)


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run works with.

    Args:
        recipe: resolved.
        tasks: task → its plan; one without a name where the recipe has no tasks. Their students hold one encoder.
    """

    recipe: Recipe
    tasks: Mapping[str, TaskPlan]

    @property
    def first(self) -> TaskPlan:
        """The plan of the first task, or of the only one."""
        return next(iter(self.tasks.values()))

    def of(self, task: str) -> TaskPlan:
        """The plan of a task; the first one for what is of all tasks."""
        return self.tasks.get(task, self.first)

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """All that the run depends on beside its settings, by hashes: rows and teachers, and every file that a setting names."""
        own = {
            f"{task}, {name}" if task else name: one
            for task, plan in self.tasks.items()
            for name, one in plan.inputs.items()
        }
        return own | files_of(self.recipe)

    @property
    def parameters(self) -> int:
        """Of the student with all its heads, the encoder once."""
        model = joined({task: plan.student.model for task, plan in self.tasks.items()})
        return sum(weight.numel() for weight in model.parameters())

    @cached_property
    def stages(self) -> list[StagePlan]:
        """What each stage trains; objectives are made once, so that those checked are those learned with."""
        numbers = range(len(self.recipe.stages))
        return [
            self.staged({task: plan.recipe.stages[number] for task, plan in self.tasks.items()}) for number in numbers
        ]

    def staged(
        self, stages: Mapping[str, Stage], rows_of: Callable[[TaskPlan, Stage], Dataset] = TaskPlan.stage_rows,
        shares: Mapping[str, int] | None = None,
    ) -> StagePlan:  # fmt: skip
        """A training, of what a stage is for each task.

        Args:
            shares: task → its updates in an epoch; None, or those of other tasks: as many as show each row once.
        """
        stage = next(iter(stages.values()))
        if stage.masked_lm is not None:
            stages = {ALONE: stage}
        parts = {task: self.of(task).part(own, rows_of(self.of(task), own)) for task, own in stages.items()}
        if shares is None or shares.keys() != parts.keys():
            needed = [updates_in_epoch(len(part.rows), stage.train) for part in parts.values()]
            counts = shared_out(sum(needed), [float(one**stage.sampling_power) for one in needed])
            shares = dict(zip(parts, counts, strict=True))
        return StagePlan(parts, shares)
