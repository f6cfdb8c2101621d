"""What a run works with, as values: task, rows, teacher, untrained student, and what each stage asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import or_
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
from understudy.tasks import Task
from understudy.teachers.store import MARKER, Store
from understudy.teachers.teacher import ModelTeacher, Teacher
from understudy.training.trainer import length, names_of

if TYPE_CHECKING:
    from datasets import Dataset

TEACHER_OUTPUTS = "teacher_outputs"  # in a run folder: the store, where no other is named


@dataclass(frozen=True)
class Plan:
    """What a run works with.

    Args:
        recipe: resolved; every training setting filled in.
        student: untrained; copied for the student and each control, so that all start alike.
        autocast: whether this kind of student gains by bf16.
        augmented: stage → rows made for it.
        assistants: stage → the untrained student of its own.
        pretrained: the teacher before fine-tuning, where one is given; stages with a masked-language head use it.
        texts: stage with such a head → the texts it learns from, and those held out to select.
        tasks: which share the student, and its updates.
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
    tasks: int = 1

    @cached_property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """All that the run depends on beside its settings, by hashes: the rows, the teacher, and every file that a setting names."""
        return self.rows.inputs() | teacher_input(self.recipe, self.teacher) | files_of(self.recipe)

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
        """Where the teacher's models lie; none for a file of outputs, or a model from the hub."""
        folders = tuple(map(Path, self.recipe.teacher.models))
        return folders if all(folder.is_dir() for folder in folders) else ()

    def stage_rows(self, stage: Stage) -> Dataset:
        """The rows that a stage learns from, training rows first."""
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
        there = [rows for name in stage.rows if (rows := named.get(name)) is not None]
        if not there:
            missing = " or ".join(f"--{name}" for name in stage.rows)
            raise RecipeError(
                f"stage {stage.name} learns from {' and '.join(stage.rows)} rows only; give a file with {missing}"
            )
        return concatenate_datasets([*there, *([self.augmented[stage.name]] if stage.name in self.augmented else [])])

    def updates(self, stage: Stage) -> int:
        """How many updates a stage makes, at most where validation can stop it."""
        return length(len(self.stage_rows(stage)), stage.train).updates

    def at(self, stage: Stage, previous: TextModel | None = None) -> Plan:
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
            changes["teacher"] = ModelTeacher([self.student])
        if stage.teacher == "previous":
            before = self.recipe.stages[[one.name for one in self.recipe.stages].index(stage.name) - 1]
            changes["teacher"] = ModelTeacher([previous or self.assistants.get(before.name, self.student)])
        return replace(self, **changes)

    def needs(self, stage: Stage) -> Needs:
        """What the stage's objectives ask of the teacher."""
        return reduce(or_, [objective.needs for _, objective in self.objectives(stage)], Needs())

    def asks_live(self, stage: Stage) -> bool:
        """Whether the stage asks the teacher live: of what goes on inside, of blended or masked rows, or one that changes."""
        needs, blended = self.needs(stage), [one.needs for _, one in self.objectives(stage, mixed=True)]
        return any(blended) or needs.inside or (bool(needs) and not _keepable(stage))

    def keeps_logits(self, stage: Stage) -> bool:
        """Whether the teacher's logits are computed once and kept for the stage; else it needs none, or asks the teacher live."""
        needs = self.at(stage).needs(stage)
        return needs.logits and not needs.inside and _keepable(stage)

    def objectives(self, stage: Stage, *, mixed: bool = False) -> list[tuple[float, Objective]]:
        """The stage's objectives that have a weight, or those on blended rows, made for these models and rows.

        Raises:
            RecipeError: one that cannot work on them.
        """
        described = stage.objectives if not mixed else stage.mixup.objectives if stage.mixup else ()
        found = [(weight, objective) for weight, objective in make_objectives(described) if weight]
        labels = np.asarray(self.rows.train["label"])
        teacher = self.teacher.model
        shapes = {
            "student": encoder.shape(self.student.model, f"student {(stage.student or self.recipe.student).kind}"),
            "teacher": encoder.shape(teacher.model, "teacher") if teacher else Shape("teacher", self.outputs),
        }
        if stage.masked_lm is not None:
            shapes = {
                name: replace(shape, outputs=len(self.student.tokenizer)) for name, shape in shapes.items()
            }  # of the head that it trains under
        for _, objective in found:
            objective.prepare(labels=labels, **shapes)
        return found

    def layer_maps(self, stage: Stage) -> dict[str, list[tuple[int, int]]]:
        """Which layers of student and teacher the stage's objectives match, those on blended rows too."""
        found = {}
        for mixed in (False, True):
            made = [one for _, one in self.objectives(stage, mixed=mixed)]
            for name, one in zip(names_of(made), made, strict=True):
                if isinstance(one, LayerObjective):
                    found[f"mixed_{name}" if mixed else name] = one.pairs
        return found

    def teacher_knows(self, rows: Dataset) -> bool:
        """Whether the teacher can say something of these rows; a black box may not."""
        return self.teacher.covers(rows)

    def taught_rows(self) -> list[Dataset]:
        """All rows whose teacher outputs the run uses."""
        measured = [labelled(self.rows.validation), labelled(self.rows.test)]
        heard = [
            stage for stage in self.recipe.stages
            if stage.masked_lm is None
            and ("pseudo_labels" in self.recipe.control or (stage.teacher == "given" and self.keeps_logits(stage)))
        ]  # fmt: skip
        return [*map(self.stage_rows, heard), *filter(self.teacher_knows, measured)]

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


def _keepable(stage: Stage) -> bool:
    """Whether what the teacher says of a row is the same whenever it is asked."""
    return stage.masked_lm is None and stage.teacher != "self"
