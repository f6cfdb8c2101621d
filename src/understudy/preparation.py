"""All that a run needs, read and checked before anything is written."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import or_
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy import __version__, encoder, parts
from understudy.augmenters.augmentation import augmented
from understudy.data.batches import Tokens
from understudy.data.rows import (
    Rows,
    as_plain_text,
    facts_of,
    hashed,
    held_out_texts,
    labelled,
    read,
    read_rows,
    say_notes,
    single_texts,
    texts_in,
    write_rows,
)  # fmt: skip
from understudy.data.tables import MASKED
from understudy.errors import ModelError, RecipeError
from understudy.inputs import contents, files_of
from understudy.objectives import LayerObjective, Objective
from understudy.recipe import Recipe, Stage, StudentPart, TrainSettings, make_objectives, with_defaults
from understudy.run import Say
from understudy.signals import Needs, Shape
from understudy.students import Blueprint
from understudy.students.assembly import seeded
from understudy.tasks import Task
from understudy.teachers.file import FileTeacher
from understudy.teachers.teacher import ModelTeacher, NoTeacher, Teacher, is_file
from understudy.text_model import TextModel
from understudy.train.masked_lm import with_head
from understudy.train.trainer import length, names_of
from understudy.train.training import check_trainable

if TYPE_CHECKING:
    from datasets import Dataset


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
        return self.task.outputs(self.rows.label_names)

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


def teacher_input(recipe: Recipe, teacher: Teacher) -> dict[str, dict[str, Any]]:
    """The teacher as one of the inputs of a run: what decides its outputs."""
    return {"teacher": {"file": ", ".join(recipe.teacher.models) or "none", "sha256": hashed(teacher.fingerprint)}}


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with every training setting that it leaves open taken from its kind of student.

    Raises:
        RecipeError: no teacher or no training rows are named.
    """
    if not recipe.teacher.models:
        raise RecipeError(
            f"{recipe.name}: teacher.models is missing; give --teacher FOLDER (fine-tuned), or a file with logits"
        )
    if recipe.data.train is None:
        if recipe.data.transfer is None:
            raise RecipeError(
                f"{recipe.name}: data.train is missing; give --train FILE, or only --transfer FILE where no row has a label"
            )
        # Nothing but the teacher labels these rows: there is no control without it, and no truth to fit a temperature on.
        control = tuple(one for one in recipe.control if one != "alone")
        recipe = recipe.model_copy(update={"control": control, "calibrate": False})
    return filled_in(recipe)


def filled_in(recipe: Recipe) -> Recipe:
    """The recipe with the open settings of its stages taken from their kind of student."""

    def filled(stage: Stage) -> Stage:
        defaults = (stage.student or recipe.student).make().defaults()
        return stage.model_copy(update={"train": TrainSettings(**with_defaults(stage.train.model_dump(), defaults))})

    return recipe.model_copy(update={"stages": tuple(map(filled, recipe.stages))})


def gather(recipe: Recipe, say: Say, *, device: str = "cpu") -> tuple[Task, Rows, Teacher]:
    """What one task starts from: what it is, its rows, and who teaches it.

    Without labelled rows the teacher labels those that are held out.

    Raises:
        UserError: data or teacher do not fit, or not each other.
    """
    task: Task = parts.part("tasks", recipe.task)()
    settings, number = recipe.data, task.label_type == "number"
    models = _load_models(recipe)
    if models is not None and (models.label_names is None) != number:
        kind = "regression" if models.label_names is None else "classification"
        raise ModelError(f"{recipe.teacher.models[0]}: a {kind} model, but --task is {recipe.task}")

    def of_file(names: tuple[str, ...] | None) -> FileTeacher:
        scale = recipe.teacher.confidence_scale
        return FileTeacher(recipe.teacher.models[0], settings.columns, names, number=number, scale=scale)

    file = bool(recipe.teacher.models) and models is None
    teacher: Teacher = models or NoTeacher()
    if file and settings.train is None:  # then it is the file that names the classes
        teacher = of_file(settings.label_names)
    unanswered = teacher.unanswered if isinstance(teacher, FileTeacher) else frozenset()
    rows = read(settings, task, seed=settings.split_seed, label_names=teacher.label_names, unanswered=unanswered)
    if file:
        teacher = teacher if isinstance(teacher, FileTeacher) else of_file(rows.label_names)
        rows = _answered(teacher, rows, declared=settings.label_names is not None)
    if rows.labelled_by_teacher:
        rows = _labelled_by(teacher, rows, task, device)
    say_notes(rows.notes, say)
    return task, rows, teacher


def _answered(teacher: FileTeacher, rows: Rows, *, declared: bool) -> Rows:
    """The rows without those that a file does not answer; the order of its lists is checked with the labels."""
    known = [getattr(rows, name) for name in ("train", "validation", "test") if name not in rows.labelled_by_teacher]
    teacher.check_order(list(map(labelled, known)), declared=declared)
    answered = {
        name: part.select([row for row, key in enumerate(part["identity"]) if key not in teacher.unanswered])
        for name in ("train", "transfer")
        if teacher.unanswered and (part := getattr(rows, name)) is not None
    }
    notes = [*rows.notes, *teacher.notes]
    if "test" not in rows.labelled_by_teacher and (count := teacher.answered(rows.test)) < len(rows.test):
        notes.append(
            f"The teacher is not measured: {teacher.path} answers {count:,} of {len(rows.test):,} test rows. To measure it beside the "
            "student, append its answers to the others."
        )
    return replace(rows, **answered, notes=tuple(notes))


def _labelled_by(teacher: Teacher, rows: Rows, task: Task, device: str) -> Rows:
    """The rows with the teacher's answers as the labels of the splits that have none."""
    from datasets import Dataset

    made, answers = {}, []
    for split in rows.labelled_by_teacher:
        part: Dataset = getattr(rows, split)
        answers.append(task.predictions(teacher.logits(part, device=device)))
        made[split] = Dataset.from_dict({**part.to_dict(), "label": answers[-1]}, features=part.features)
    names, said = rows.label_names, np.concatenate(answers)
    if len(np.unique(said)) < 2:
        raise ModelError(
            f"the teacher gives the same answer to all {len(said)} held-out rows; it was not trained for this task, or these texts"
        )
    spread = f"numbers from {said.min():.3g} to {said.max():.3g}" if names is None else ", ".join(
        f"{names[place]} ({count:,})" for place, count in Counter(said.tolist()).most_common(30)
    )  # fmt: skip
    note = (
        f"The {' and '.join(rows.labelled_by_teacher)} rows have the teacher's answers as labels: {spread}. Figures on them are agreement "
        "with the teacher" + ("; quality against the truth is unknown." if "test" in rows.labelled_by_teacher else ".")
    )
    return replace(rows, **made, notes=(*rows.notes, note))


def prepare(
    recipe: Recipe, say: Say = lambda line: None, *, device: str = "cpu", run_folder: Path | None = None
) -> Plan:
    """Read and check everything that a resolved recipe needs: data, teacher, student, objectives. Writes nothing.

    The teacher answers the validation rows, so that one that does not know its task is found here.

    Args:
        run_folder: of the run, which may hold rows that were made before; see `keep_made_rows`.

    Raises:
        UserError: anything that does not fit.
    """
    task, rows, teacher = gather(recipe, say, device=device)
    plan = _planned(recipe, task, rows, teacher, _load_pretrained(recipe))
    if teacher.model is not None and plan.student.parameters > teacher.model.parameters:
        sizes = f"{plan.student.parameters:,} parameters against {teacher.model.parameters:,}"
        say(f"Warning: the student is larger than the teacher: {sizes}")
    check(plan, device)
    if (
        rows.pair
        and rows.transfer is not None
        and any(stage.masked_lm and "transfer" in stage.rows for stage in recipe.stages)
    ):
        texts, left = (len(single_texts(rows.transfer, held_out)) for held_out in ((), plan.held_out))
        if left < texts:
            say(f"Note: {texts - left:,} of {texts:,} texts of transfer pairs are also texts of validation or test pairs; masked language "
                "modelling leaves them out.")  # fmt: skip
    if any(stage.augment for stage in recipe.stages):
        made = _augmented(plan, run_folder, say)
        plan = _planned(recipe, task, rows, teacher, plan.pretrained, made)
        check_stages(plan)
    warn_of_few_updates(recipe, [plan.updates(stage) for stage in recipe.stages], say)
    return plan


def warn_of_few_updates(recipe: Recipe, updates: Sequence[int], say: Say, *, tasks: int = 1) -> None:
    """Say where a student, or an assistant, makes in all its stages fewer than half of the updates that its kind has at the least.

    Args:
        tasks: for each of which the least number is.
    """
    least = least_updates(recipe, tasks=tasks)
    totals: dict[str, tuple[StudentPart, int, str]] = {}
    for stage, count in zip(recipe.stages, updates, strict=True):
        who, part = (
            ("the student", recipe.student)
            if stage.student is None
            else (f"the assistant of stage {stage.name}", stage.student)
        )
        totals[who] = part, totals.get(who, (part, 0, ""))[1] + count, stage.name
    for who, (part, count, last) in totals.items():
        few_updates(count, least[last], f"{who} ({part.kind})", f"stages.{last}.train", say)


def least_updates(recipe: Recipe, *, tasks: int = 1) -> dict[str, int]:
    """Stage → the fewest updates that the kind of its student, or assistant, needs in all its stages; 0 where it names none."""
    return {
        stage.name: ((stage.student or recipe.student).make().defaults().get("min_updates") or 0) * tasks
        for stage in recipe.stages
    }


def few_updates(updates: int, least: int | None, who: str, place: str, say: Say) -> None:
    """Say where a training is so short that it may well end before it has learned the task."""
    if least and updates < least / 2:
        say(f"Warning: {updates:,} updates are few for {who}; about {least:,} are needed. Leave {place}.epochs and max_steps "
            f"out, or give {place}.min_updates={least}")  # fmt: skip


def _planned(
    recipe: Recipe, task: Task, rows: Rows, teacher: Teacher, pretrained: ModelTeacher | None,
    made: Mapping[str, Dataset] = MappingProxyType({}),
) -> Plan:  # fmt: skip
    """The plan with its untrained students; their vocabularies come from the rows made, too."""
    kind, blueprint = recipe.student.make(), blueprint_of(recipe, rows, teacher, made)
    assistants = {stage.name: stage.student.make().build(blueprint) for stage in recipe.stages if stage.student}
    plan = Plan(recipe, task, rows, teacher, kind.build(blueprint), kind.autocast, made, assistants, pretrained)
    texts = {stage.name: held_out_texts(plan.stage_rows(stage)) for stage in recipe.stages if stage.masked_lm}
    return replace(plan, texts=texts)


def _augmented(plan: Plan, run_folder: Path | None, say: Say) -> dict[str, Dataset]:
    """Stage → the rows made for it, now or before; stages that do alike share them."""
    made: dict[str, Dataset] = {}
    stages: dict[str, Dataset] = {}
    for stage in plan.recipe.stages:
        if stage.augment is None:
            continue
        rows, key = plan.stage_rows(stage), _made_rows_key(plan, stage)
        if key not in made:
            file = _made_rows_file(run_folder, key) if run_folder else None
            made[key] = read_rows(file, rows) if file and file.is_file() else augmented_rows(plan, stage, rows)
            if not len(made[key]):
                raise RecipeError(f"stage {stage.name}: augment changes none of {len(rows):,} rows; give other steps")
            say(f"Stage {stage.name}: {len(made[key]):,} rows made from {len(rows):,}")
        stages[stage.name] = made[key]
    return stages


def augmented_rows(plan: Plan, stage: Stage, rows: Dataset, *, keep_labels: bool = False) -> Dataset:
    """The rows that a stage makes out of others.

    Args:
        keep_labels: each has the label of the row that it was made from; else none has, and the teacher labels them.
    """
    assert stage.augment is not None
    return augmented(
        rows, [step.make() for step in stage.augment.steps], copies=stage.augment.copies, seed=plan.recipe.seed,
        teacher=plan.teacher.model, words=stage.augment.words, keep_labels=keep_labels,
        leave_out={*plan.rows.validation["identity"], *plan.rows.test["identity"]},
    )  # fmt: skip


def keep_made_rows(plan: Plan, run_folder: Path) -> None:
    """Write augmented rows into the run's folder: `prepare` reads them there when the run goes on."""
    for name, made in plan.augmented.items():
        stage = next(stage for stage in plan.recipe.stages if stage.name == name)
        file = _made_rows_file(run_folder, _made_rows_key(replace(plan, augmented={}), stage))
        if not file.is_file():
            write_rows(file, made)


def _made_rows_file(run_folder: Path, key: str) -> Path:
    return run_folder / "made_rows" / f"{key}.parquet"


def _made_rows_key(plan: Plan, stage: Stage) -> str:
    """A name for what decides which rows a stage makes."""
    assert stage.augment is not None
    described = [__version__, plan.recipe.seed, plan.teacher.fingerprint, stage.augment.model_dump(mode="json"),
                 contents([stage.augment]), facts_of(plan.stage_rows(stage)), facts_of(plan.rows.validation),
                 facts_of(plan.rows.test)]  # fmt: skip
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def blueprint_of(
    recipe: Recipe, rows: Rows, teacher: Teacher, made: Mapping[str, Dataset] = MappingProxyType({})
) -> Blueprint:
    """What the students of a recipe are built from.

    Args:
        made: stage → rows made for it.
    """
    made_texts = (text.replace(MASKED, " ") for text in texts_in(*made.values()))
    return Blueprint(
        texts=[*rows.texts, *made_texts], label_names=rows.label_names, pair=rows.pair,
        max_length=recipe.data.max_length, seed=recipe.seed,
        teacher=under_new_head(recipe, rows) if recipe.teacher.pretrained else teacher.model,
    )  # fmt: skip


def check(plan: Plan, device: str) -> None:
    """Refuse a plan whose teacher does not know its task, or whose stages cannot be trained.

    Raises:
        UserError: with what does not fit.
    """
    check_teacher(plan, device)
    check_stages(plan)


def check_stages(plan: Plan) -> None:
    """Refuse a plan whose stages cannot be trained on its student.

    Raises:
        UserError: with what does not fit.
    """
    unlabelled = not len(labelled(plan.rows.train))
    for number, stage in enumerate(plan.recipe.stages):
        plan.stage_rows(stage)
        taught = any(weight and one.hears_teacher for weight, one in make_objectives(stage.objectives))
        if unlabelled and stage.masked_lm is None and not taught:
            raise RecipeError(
                f"stage {stage.name} learns from labels only, but no training row has one; give labelled rows with --train, or have "
                f"it learn from the teacher, as with --set stages.{number}.objectives.0.target=teacher"
            )
        if stage.augment is not None and isinstance(plan.teacher, FileTeacher):
            raise RecipeError(
                f"stage {stage.name} augments rows for the teacher to label, but the teacher is a file of outputs; "
                f"give the teacher's folder, or set stages.{number}.augment=null"
            )
        _check_inside(plan.at(stage), stage)
        check_trainable(plan.at(stage).student, stage.train, plan.recipe.report_to)


def check_teacher(plan: Plan, device: str) -> None:
    """Refuse a teacher that knows less of the validation rows than the most frequent answer does; a black box may not know them.

    Raises:
        ModelError: with both figures.
    """
    validation = labelled(plan.rows.validation)
    if "validation" in plan.rows.labelled_by_teacher or not plan.teacher_knows(validation):
        return
    logits, labels = plan.teacher.logits(validation, device=device), np.asarray(validation["label"])
    found = plan.task.metrics(plan.task.predictions(logits), labels)
    name = plan.recipe.teacher.models[0]
    if plan.task.label_type == "number":
        if found["pearson"] <= 0:
            raise ModelError(
                f"{name}: its Pearson correlation on the validation rows is {found['pearson']:.3f}; it was not trained for this task"
            )
        return
    majority = float(np.bincount(labels).max() / len(labels))
    if found["accuracy"] < majority:
        raise ModelError(
            f"{name}: its accuracy on the validation rows is {found['accuracy']:.3f}, below that of always predicting the most frequent "
            f"label ({majority:.3f}). Is it fine-tuned on this task, with the labels "
            f"{', '.join(plan.rows.label_names or ())} in this order?"
        )


def _check_inside(plan: Plan, stage: Stage) -> None:
    """Refuse a stage that compares what goes on inside models where it cannot be compared.

    Raises:
        UserError: more than one teacher, or none but its outputs; attention that is not found; texts cut into other tokens.
    """
    objectives = [one for mixed in (False, True) for _, one in plan.objectives(stage, mixed=mixed)]
    if stage.masked_lm is not None:
        _check_language(plan, stage)
    for objective in objectives:
        for layer in objective.student_needs.attention:
            encoder.projections(plan.student.model, layer)
    if stage.mixup is not None and "inputs_embeds" not in inspect.signature(plan.student.model.forward).parameters:
        raise RecipeError(
            f"stage {stage.name} uses mixup of word embeddings, which student {plan.recipe.student.kind} does not support; "
            "use teacher_layers, narrow or pretrained"
        )
    if not plan.asks_live(stage):
        return
    if len(plan.teacher.models) != 1:
        many = f"{len(plan.teacher.models)} teachers" if plan.teacher.models else "a file of outputs"
        raise RecipeError(
            f"stage {stage.name} uses hidden states, attention or mixup, which need one teacher model; given are {many}"
        )
    teacher = plan.teacher.models[0]
    for objective in objectives:
        for layer in objective.needs.attention:
            encoder.projections(teacher.model, layer)
    if not (stage.mixup or stage.masked_lm or any(objective.compares_tokens for objective in objectives)):
        return
    rows = plan.stage_rows(stage)
    own, other = Tokens(plan.student, rows).lengths, Tokens(teacher, rows).lengths
    apart = np.flatnonzero(own != other)
    if apart.size:
        row = int(apart[0])
        short = min(plan.student.max_length, teacher.max_length)
        if plan.student.max_length != teacher.max_length and max(own[row], other[row]) > short:
            raise RecipeError(
                f"stage {stage.name} compares tokens, but the teacher reads at most {teacher.max_length} tokens of a row and the student "
                f"{plan.student.max_length}: set data.max_length={short}"
            )
        raise RecipeError(
            f"stage {stage.name} compares tokens, but teacher and student tokenize texts differently: row {row + 1} "
            f"({rows['text'][row]!r:.50}) has {other[row]} for the teacher, {own[row]} for the student. "
            "Give the student the teacher's vocabulary"
        )


def _check_language(plan: Plan, stage: Stage) -> None:
    """Refuse a stage with a masked-language head where student or teacher cannot have one, or count other tokens.

    Raises:
        UserError: with what to give instead.
    """
    teacher = plan.pretrained.models[0] if plan.pretrained else None
    with_head(plan.student, plan.recipe.seed, teacher)
    if not plan.needs(stage).logits:
        return
    if teacher is None:
        raise RecipeError(
            f"stage {stage.name} learns the predictions of a masked language model; give one with --pretrained FOLDER "
            "(the teacher before fine-tuning; `understudy pretrain` makes one)"
        )
    if teacher.tokenizer.get_vocab() != plan.student.tokenizer.get_vocab():
        raise RecipeError(
            f"stage {stage.name} compares probabilities of tokens, so student and --pretrained need one vocabulary; they have "
            f"{len(plan.student.tokenizer):,} and {len(teacher.tokenizer):,} tokens. Set student.vocabulary=teacher"
        )


def _keepable(stage: Stage) -> bool:
    """Whether what the teacher says of a row is the same whenever it is asked."""
    return stage.masked_lm is None and stage.teacher != "self"


def _load_pretrained(recipe: Recipe) -> ModelTeacher | None:
    """The teacher before fine-tuning; its masked-language head only has to be there where a stage listens to it."""
    if recipe.teacher.pretrained is None:
        return None
    listened = any(
        objective.needs.logits
        for stage in recipe.stages
        if stage.masked_lm
        for _, objective in make_objectives(stage.objectives)
    )
    return ModelTeacher([
        TextModel.load(recipe.teacher.pretrained, max_length=recipe.data.max_length, masked_lm=True, new_head=not listened)
    ])  # fmt: skip


def under_new_head(recipe: Recipe, rows: Rows) -> TextModel:
    """The pretrained model as a classifier (or regressor), to cut students from; a head that it lacks is drawn from the seed."""
    assert recipe.teacher.pretrained is not None
    with seeded(recipe.seed):
        return TextModel.load(
            recipe.teacher.pretrained,
            max_length=recipe.data.max_length,
            label_names=rows.label_names,
            outputs=1 if rows.label_names is None else len(rows.label_names),
        )


def _load_models(recipe: Recipe) -> ModelTeacher | None:
    """The teacher's models; None when it is a file of outputs."""
    files = [name for name in recipe.teacher.models if is_file(name)]
    if files and len(recipe.teacher.models) > 1:
        raise RecipeError(f"teacher {files[0]} is a file of outputs; it cannot be mixed with other teachers")
    if files or not recipe.teacher.models:
        return None
    models = [TextModel.load(name, max_length=recipe.data.max_length) for name in recipe.teacher.models]
    return ModelTeacher(models, recipe.teacher.combine, recipe.teacher.weights)
