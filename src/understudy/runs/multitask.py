"""One student for several tasks, one encoder with a head for each: what `distill` does with a recipe that has tasks."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from understudy import __version__
from understudy.data.examples import by_length, examples_of
from understudy.data.rows import labelled
from understudy.errors import RecipeError, UserError
from understudy.evaluation.measure import Measured
from understudy.evaluation.summary import summarise_tasks
from understudy.files import FACTS, METRICS, read_json, whole, write_json, write_text
from understudy.machine import is_helper, main_process_first
from understudy.models.agreement import resolve_max_length
from understudy.models.text_model import TextModel, set_head
from understudy.reporting.page import write_page
from understudy.runs import controls
from understudy.runs.checks import check, warn_of_few_updates
from understudy.runs.folder import Run, Say
from understudy.runs.folder import check as check_folder
from understudy.runs.inputs import files_of, teacher_input
from understudy.runs.plan import Plan
from understudy.runs.preparation import filled_in, gather, under_new_head
from understudy.runs.proof import prove
from understudy.runs.shipping import ship
from understudy.runs.training import fill_store
from understudy.settings.base import ObjectivePart
from understudy.settings.recipe import Recipe
from understudy.settings.stage import Stage, make_objectives
from understudy.students import Blueprint
from understudy.students.assembly import seeded
from understudy.teachers.teacher import NoTeacher, Teacher
from understudy.training.multitask import MultitaskModel, length_together, shared_out, train_together, updates_in_epoch

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from understudy.tasks import Task
    from understudy.teachers.store import Store
    from understudy.training.training import Trained


def distill_tasks(
    recipe: Recipe, out: Path, *, resume: bool, overwrite: bool, device: str, shelf: Path, command: str, say: Say
) -> Run:
    """Train one student for all tasks of a recipe, each taught by its own teacher, and measure what was kept of each.

    `out/TASK` is a run folder of its own for each task, with a student that works alone; the encoders in them are equal.
    `out/facts.json` sums up. Arguments and errors are those of `distill`.

    Source: Liu et al. 2019, arXiv:1904.09482; Clark et al. 2019, arXiv:1907.04829.
    """
    recipe = resolve_tasks(recipe)
    with main_process_first(device):
        resume = resume or is_helper()
        check_folder(out, recipe.dump(), resume=resume, overwrite=overwrite)
        together = prepare_tasks(recipe, say, device=device, run_folder=out)
        run = Run.start(out, recipe.dump(), inputs=together.inputs, resume=resume, overwrite=overwrite, device=device)
        if run.finished:
            say(f"{out} is a finished run; nothing to do")
            return run
        for task in together.plans:  # measured by a run that was stopped then: it is measured again
            (out / task / FACTS).unlink(missing_ok=True)
        runs = {
            task: Run.start(out / task, recipe.dump(), inputs=plan.inputs, resume=True, device=device)
            for task, plan in together.plans.items()
        }
        try:
            stores = {
                task: fill_store(plan, runs[task].folder, device, _about(task, say))
                for task, plan in together.plans.items()
                if plan.recipe.teacher.models
            }
        except UserError:
            run.discard()
            raise
    work = _Work(together, run, runs, stores, device, say)
    models = {"student": work.student()}
    for control in recipe.control:
        models[f"student_{control}"] = work.control(control, shelf)
    if is_helper():
        return run
    for task, plan in together.plans.items():
        measured = {name: one[task] for name, one in models.items()}
        shipped = ship(plan, measured["student"], runs[task].folder, shelf, device=device, say=_about(task, say))
        prove(
            runs[task], plan, measured, stores.get(task), shipped, device=device, command=command, say=_about(task, say)
        )
    run.record({
        "understudy": __version__, "recipe": recipe.name, "seed": recipe.seed, "student": recipe.student.kind, "command": command,
        "parameters": together.parameters, **summarise_tasks({task: one.facts for task, one in runs.items()}),
    })  # fmt: skip
    write_page(run.folder)
    return run


@dataclass(frozen=True)
class Together:
    """What a run of several tasks works with.

    Args:
        recipe: resolved.
        plans: task → its plan, whose recipe has this task alone; the students in them are untrained and hold one encoder.
    """

    recipe: Recipe
    plans: Mapping[str, Plan]

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """The rows and teachers of all tasks, and every file that a setting names."""
        own = {
            f"{task}, {name}": one
            for task, plan in self.plans.items()
            for name, one in (plan.rows.inputs() | teacher_input(plan.recipe, plan.teacher)).items()
        }
        return own | files_of(self.recipe)

    @property
    def parameters(self) -> int:
        """Of the student with all its heads, the encoder once."""
        model = MultitaskModel({task: plan.student.model for task, plan in self.plans.items()})
        return sum(weight.numel() for weight in model.parameters())

    @cached_property
    def stages(self) -> list[dict[str, tuple[Stage, Dataset]]]:
        """Of every stage: task → the stage as it is for this task, and the rows that it learns from."""
        return [
            {task: (plan.recipe.stages[number], self._rows(plan, number)) for task, plan in self.plans.items()}
            for number in range(len(self.recipe.stages))
        ]

    def shares(self, number: int) -> dict[str, int]:
        """Each task's updates in an epoch of a stage: together as many as show each of the student's rows once, for every control too."""
        stage = self.recipe.stages[number]
        needed = [updates_in_epoch(len(rows), stage.train) for _, rows in self.stages[number].values()]
        counts = shared_out(sum(needed), [float(one**stage.sampling_power) for one in needed])
        return dict(zip(self.stages[number], counts, strict=True))

    def updates(self, number: int) -> int:
        """How many updates a stage makes, at most where validation can stop it."""
        rows = [len(own) for _, own in self.stages[number].values()]
        return length_together(rows, self.recipe.stages[number].train).updates

    def _rows(self, plan: Plan, number: int) -> Dataset:
        rows = plan.stage_rows(plan.recipe.stages[number])
        return rows if plan.recipe.teacher.models else labelled(rows)  # nobody says anything of the others


def resolve_tasks(recipe: Recipe) -> Recipe:
    """The recipe with every training setting that it leaves open taken from its kind of student.

    Raises:
        RecipeError: no tasks, one without rows to learn from, or no teacher at all.
    """
    if not recipe.tasks:
        raise RecipeError(
            f"{recipe.name} is for several tasks; name each of them: --task NAME=classification (or similarity), "
            "--train NAME=FILE and --teacher NAME=FOLDER"
        )
    mistakes = [
        f"task {task.name} has no training rows; give --train {task.name}=FILE"
        + (
            " (without any labels, distil it alone: a recipe with one task takes --transfer without --train)"
            if task.data.transfer
            else ""
        )
        for task in recipe.tasks
        if task.data.train is None
    ]
    mistakes += [
        f"task {task.name} has transfer rows, but no teacher to label them; give --teacher {task.name}=FOLDER or leave them out"
        for task in recipe.tasks
        if task.data.transfer and not task.teacher.models
    ]
    if not any(task.teacher.models for task in recipe.tasks):
        mistakes.append(f"no task has a teacher; give at least one, as --teacher {recipe.tasks[0].name}=FOLDER")
    if mistakes:
        raise RecipeError("\n".join(f"{recipe.name}: {mistake}" for mistake in mistakes))
    return filled_in(recipe)


def prepare_tasks(
    recipe: Recipe, say: Say = lambda line: None, *, device: str = "cpu", run_folder: Path | None = None
) -> Together:
    """Read and check everything that a resolved recipe with tasks needs. Writes nothing; the run's folder may hold teachers' outputs.

    Raises:
        UserError: anything that does not fit.
    """
    assert recipe.tasks
    given, recipes = {}, {}
    for one in recipe.tasks:
        with _named(one.name):
            own = one.teacher.model_copy(update={"pretrained": recipe.teacher.pretrained})
            alone = recipe.model_copy(
                update={"tasks": None, "task": one.task, "metric": one.metric, "data": one.data, "teacher": own}
            )
            task, rows, teacher = given[one.name] = gather(alone, _about(one.name, say))
            recipes[one.name] = _for_task(alone, task, teacher)
    students = _students(recipe, recipes, given)
    autocast = recipe.student.make().autocast
    plans = {}
    for name, (task, rows, teacher) in given.items():
        plans[name] = Plan(recipes[name], task, rows, teacher, students[name], autocast, tasks=len(given))
        with _named(name):
            for stage in recipes[name].stages:
                if plans[name].asks_live(stage):
                    raise RecipeError(
                        f"stage {stage.name} uses hidden states or attention, which a recipe with tasks does not support; use objectives "
                        "on labels and logits"
                    )
            check(plans[name], device, run_folder and run_folder / name)
    together = Together(recipe, plans)
    updates = [together.updates(number) for number in range(len(recipe.stages))]
    warn_of_few_updates(recipe, updates, say, tasks=len(plans))
    return together


def _for_task(recipe: Recipe, task: Task, teacher: Teacher) -> Recipe:
    """The recipe with its objectives as they can be for this task.

    A number has no classes: there `soft_targets` gives way to `logit_regression`. Without a teacher all that uses one gives way to
    `labels`, which take over its weight.
    """

    def heard(objectives: Sequence[ObjectivePart]) -> tuple[ObjectivePart, ...]:
        if task.answer().kind == "number":
            objectives = [
                ObjectivePart(kind="logit_regression", weight=one.weight) if one.kind == "soft_targets" else one
                for one in objectives
            ]
        if not isinstance(teacher, NoTeacher):
            return tuple(objectives)
        others = [one for one in objectives if one.kind != "labels" and not one.make().hears_teacher]
        settings = next((one.settings for one in objectives if one.kind == "labels"), {})
        weight = sum(one.weight for one in objectives if one not in others)
        return (ObjectivePart(kind="labels", weight=weight, **{**settings, "target": "gold"}), *others)

    stages = tuple(stage.model_copy(update={"objectives": heard(stage.objectives)}) for stage in recipe.stages)
    return recipe.model_copy(update={"stages": stages} | ({} if recipe.teacher.models else {"control": ()}))


def _students(
    recipe: Recipe, recipes: Mapping[str, Recipe], given: Mapping[str, tuple[Task, Any, Teacher]]
) -> dict[str, TextModel]:
    """An untrained student for each task, all around the encoder of one: of the first task that has a teacher model.

    The others' heads are drawn anew, for their own numbers of classes. Vocabularies come from the texts of all tasks.
    """
    from transformers import AutoModelForSequenceClassification

    lead = next((task for task, (_, _, teacher) in given.items() if teacher.model is not None), next(iter(given)))
    kind, rows, teacher = given[lead]
    blueprint = Blueprint(
        texts=[text for _, own, _ in given.values() for text in own.texts], label_names=rows.label_names,
        pair=any(own.pair for _, own, _ in given.values()), max_length=recipes[lead].data.max_length, seed=recipe.seed,
        problem_type=kind.problem_type,
        teacher=under_new_head(recipe, rows, kind) if recipe.teacher.pretrained else teacher.model,
    )  # fmt: skip
    first = recipe.student.make().build(blueprint)
    if first.model.base_model is first.model:
        raise RecipeError(
            f"student {recipe.student.kind} has no encoder for tasks to share; use teacher_layers, narrow or pretrained"
        )
    students = {}
    for number, (task, (kind, own, _)) in enumerate(given.items()):
        model = first.model
        if task != lead:
            config = copy.deepcopy(first.model.config)
            set_head(config, kind.problem_type, own.label_names)
            with seeded(recipe.seed + number):
                model = AutoModelForSequenceClassification.from_config(config, dtype="float32").eval()
            setattr(model, model.base_model_prefix, first.model.base_model)
        asked = recipes[task].data.max_length or first.max_length
        length = resolve_max_length(model, first.tokenizer, asked, where=f"the student of {task}")
        students[task] = TextModel(model, first.tokenizer, length)
    return students


@dataclass(frozen=True)
class _Work:
    """What every training of a run shares."""

    together: Together
    run: Run
    runs: Mapping[str, Run]
    stores: Mapping[str, Store]
    device: str
    say: Say

    def student(self) -> dict[str, Measured]:
        stages = self.together.stages
        students, seconds = self._train(
            "student", [(stage, self.together.shares(number)) for number, stage in enumerate(stages)]
        )
        return self._shipped("student", students, seconds)

    def control(self, control: str, shelf: Path) -> dict[str, Measured]:
        """A control, trained or taken from the shelf: at most as many updates as the student, and the same task in each."""
        name = f"student_{control}"
        starts = filter(None, map(controls.start, self.together.plans.values()))
        self.say(controls.described(control, self.together.recipe, next(starts, "")))
        stages = control_stages(control, self.together)
        kept = shelf / self._key(control, stages)
        students = copies(self.together)
        model = _joined(students)
        if not (kept / "trained.json").is_file():
            students, seconds = self._train(name, stages)
            if not is_helper():
                lines = (self.run.folder / METRICS).read_text("utf-8").splitlines(keepends=True)
                write_text(kept / METRICS, "".join(line for line in lines if json.loads(line)["model"] == name))
                _save(_joined(students), kept / "model.safetensors")
                write_json(kept / "trained.json", {"seconds": seconds})
        elif not is_helper():
            self.say(f"The control '{control}' was trained before with these settings: taken from {kept}")
            model.load_state_dict(load_file(kept / "model.safetensors"))
            seconds = read_json(kept / "trained.json")["seconds"]
            if f'"{name}"' not in (self.run.folder / METRICS).read_text("utf-8"):
                for line in map(json.loads, (kept / METRICS).read_text("utf-8").splitlines()):
                    self._writer(line.pop("model"), line.pop("stage"))(line)
        else:
            seconds = 0.0
        return self._shipped(name, students, seconds)

    def _key(
        self, control: str, stages: Sequence[tuple[Mapping[str, tuple[Stage, Dataset]], Mapping[str, int]]]
    ) -> str:
        """A name for what decides a control's weights."""
        keys = [
            (task, controls.key(control, plan, [stage[task] for stage, _ in stages], self.device))
            for task, plan in self.together.plans.items()
        ]
        described = json.dumps([keys, [shares for _, shares in stages]])
        return f"{control}-{hashlib.sha256(described.encode()).hexdigest()[:16]}"

    def _train(
        self, name: str, stages: Sequence[tuple[Mapping[str, tuple[Stage, Dataset]], Mapping[str, int]]]
    ) -> tuple[dict[str, TextModel], float]:
        """Fresh students through all stages, with the seconds they took. A stage that was finished is not trained again."""
        seconds, plans = 0.0, self.together.plans
        students = copies(self.together)
        for of_tasks, shares in stages:
            stage = next(iter(of_tasks.values()))[0]
            checkpoints = self.run.checkpoints / f"{name}-{stage.name}"
            done, trained = checkpoints / "model.safetensors", checkpoints / "trained.json"
            if not trained.is_file():
                told = ", ".join(f"{len(rows):,} rows of {task}" for task, (_, rows) in of_tasks.items())
                planned = length_together([len(rows) for _, rows in of_tasks.values()], stage.train)
                self.say(f"Training the {name.replace('_', ' ')} ({self.together.recipe.student.kind}, "
                         f"{self.together.parameters:,} parameters): {told}, {planned}")  # fmt: skip
                kept = {
                    task: self.stores[task].logits(rows)
                    for task, (one, rows) in of_tasks.items()
                    if plans[task].keeps_logits(one)
                }
                found = train_stage(
                    self.together, students, of_tasks, kept, shares, checkpoints, name, self.device, write=self._writer(name, stage.name)
                )  # fmt: skip
                if is_helper():
                    continue
                _save(_joined(students), done)
                write_json(trained, {"seconds": found.seconds})
            _joined(students).load_state_dict(load_file(done))
            seconds += read_json(trained)["seconds"]
        return students, seconds

    def _shipped(self, name: str, students: Mapping[str, TextModel], seconds: float) -> dict[str, Measured]:
        """The students as folders of their own, as they are measured; the seconds are those of the training that they share."""
        if is_helper():
            return {task: Measured((student,)) for task, student in students.items()}
        folders = {task: run.folder / name for task, run in self.runs.items()}
        for task, student in students.items():
            student.save(folders[task])
        return {task: Measured((TextModel.load(folder),), (folder,), seconds) for task, folder in folders.items()}

    def _writer(self, name: str, stage: str) -> Callable[[dict[str, Any]], None]:
        """A function that writes a line of numbers into the metrics of the run, and into each task's what is of it."""
        whole = self.run.writer(name, stage)
        parts = {task: run.writer(name, stage) for task, run in self.runs.items()}

        def write(line: dict[str, Any]) -> None:
            whole(line)
            for task, part in parts.items():
                if own := _line_of(task, line):
                    part(own)

        return write


def train_stage(
    together: Together, students: Mapping[str, TextModel], of_tasks: Mapping[str, tuple[Stage, Dataset]], kept: Mapping[str, np.ndarray],
    shares: Mapping[str, int], checkpoints: Path, name: str, device: str, *, write: Callable[[dict[str, Any]], None],
) -> Trained:  # fmt: skip
    """Train `students`, which share an encoder, in place on the rows of one stage; the mean of their metrics on validation rows selects.

    Args:
        of_tasks: task → the stage as it is for this task, and its rows.
        kept: task → logits of its teacher, where the stage listens to one.
    """
    plans = together.plans
    stage = next(iter(of_tasks.values()))[0]
    return train_together(
        students,
        {
            task: examples_of(students[task], rows, kept.get(task), balanced=stage.train.balanced_sampling)
            for task, (_, rows) in of_tasks.items()
        },
        {task: by_length(students[task], labelled(plan.rows.validation)) for task, plan in plans.items()},
        {task: (plan.task, plan.recipe.selection_metric) for task, plan in plans.items()}, stage.train,
        {task: make_objectives(one.objectives) for task, (one, _) in of_tasks.items()}, shares=shares, folder=checkpoints,
        seed=together.recipe.seed, name=name.replace("_", " "), write=write, device=device,
        autocast=next(iter(plans.values())).autocast, report_to=together.recipe.report_to,
    )  # fmt: skip


def control_stages(control: str, together: Together) -> list[tuple[dict[str, tuple[Stage, Dataset]], dict[str, int]]]:
    """What a control trains on: of each stage, task → the stage as it is for it, with its rows; and the tasks' updates in an epoch."""
    found = []
    for number, of_tasks in enumerate(together.stages):
        made = {}
        for task, (stage, rows) in of_tasks.items():
            plan = together.plans[task]
            own = controls.MAKE[control](stage, plan.recipe, together.updates(number))
            made[task] = own, controls.rows_of(control, own, plan) if control == "alone" else rows
        found.append((made, together.shares(number)))
    return found


def copies(together: Together) -> dict[str, TextModel]:
    """The untrained students, copied with the encoder that they share."""
    models = copy.deepcopy({task: plan.student.model for task, plan in together.plans.items()})
    return {task: plan.student.around(models[task]) for task, plan in together.plans.items()}


def _line_of(task: str, line: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a line of metrics says of one task, as the run of one task would say it; None where it says nothing.

    >>> _line_of("sst2", {"step": 3, "loss": 0.9, "loss/sst2/labels": 0.5, "loss/stsb/labels": 2.0})
    {'step': 3, 'loss/labels': 0.5}
    >>> _line_of("sst2", {"step": 3, "validation": {"sst2/accuracy": 0.8, "mean": 0.7}})
    {'step': 3, 'validation': {'accuracy': 0.8}}
    """
    if "validation" in line:
        own = f"{task}/"
        values = {key.removeprefix(own): value for key, value in line["validation"].items() if key.startswith(own)}
        return {**line, "validation": values}
    terms = {key.replace(f"/{task}/", "/", 1): value for key, value in line.items() if key.startswith(f"loss/{task}/")}
    shared = {key: value for key, value in line.items() if not key.startswith(("loss", "grad_norm"))}
    return shared | terms if terms else None


def _joined(students: Mapping[str, TextModel]) -> MultitaskModel:
    return MultitaskModel({task: student.model for task, student in students.items()})


def _save(model: MultitaskModel, path: Path) -> None:
    with whole(path) as new:
        save_file(model.state_dict(), new)


def _about(task: str, say: Say) -> Say:
    return lambda line: say(f"{task}: {line}")


@contextmanager
def _named(task: str) -> Iterator[None]:
    """Has a user's mistake say which task it is in."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"task {task}: {error}") from error
