"""The program `search`: students, recipes and settings within a budget. It ends with an ordinary run of the best."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from understudy import __version__, parts, processes
from understudy.data.rows import Rows, labelled
from understudy.errors import RecipeError, RunFolderError, TrainingError, UnderstudyError, UserError
from understudy.evaluate.measure import answers_of
from understudy.pipeline import distill, open_store, train_stage
from understudy.preparation import Plan, blueprint_of, check_stages, check_teacher, gather, resolve
from understudy.recipe import Recipe
from understudy.recipe_file import load_recipe
from understudy.report.search import words_of, write_page
from understudy.run import Run, Say, check
from understudy.search.budget import Budget, excess, parse_budget, shown
from understudy.search.costs import Candidate, measure, shippable, teachable
from understudy.search.space import Space, check_searchable, load_space, temperatures
from understudy.search.study import SharedStudy, need_optuna, open_storage, without_password
from understudy.tasks import Task
from understudy.teachers.store import Store
from understudy.teachers.teacher import Teacher
from understudy.text_model import TextModel
from understudy.train.precision import find_device

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

BEST, DATABASE = "best", "study.db"
_NOISE = 0.05  # of a latency


def search(
    settings: Mapping[str, Any], budget: str, out: str | Path, *, space: str | Path | None = None, trials: int = 30,
    seconds: float | None = None, storage: str | None = None, worker: bool = False, resume: bool = False,
    overwrite: bool = False, device: str | None = None, command: str = "", say: Say = lambda line: None,
) -> Run:  # fmt: skip
    """Try students, recipes and settings, and distil the best that costs no more than a budget.

    Every student of the space is measured untrained; those beyond the budget are never trained. The others are tried by Optuna, for the
    best validation metric of what ships. The best is distilled as by `distill`, into the folder `best`; only it sees the test rows.

    Args:
        settings: of every recipe, by dotted keys, as in `{"data.train": "train.csv", "teacher.models": ["runs/teacher"]}`.
        budget: limits, as in `"latency_ms<=1, size_mib<=10"`.
        out: the folder of the search.
        space: a YAML file of what is chosen from; None takes the packaged one.
        trials: of the study in all, over all its workers.
        seconds: after which this process begins no more trials.
        storage: a database's URL, which several workers share; None keeps the study in `out`.
        worker: make trials only, and leave the best to another process.
        resume: go on with a search that was stopped, or with more trials.
        overwrite: replace a search that is there.
        device: as in `distill`.
        command: recorded in the facts; passwords in `storage` are left out.
        say: takes each line that tells the user what is going on.

    Raises:
        UserError: the input does not fit, or nothing is within the budget; nothing is left behind.
        UnderstudyError: no trial came to its end within the budget.
    """
    need_optuna()
    if trials < 1:
        raise RecipeError(f"--trials {trials}: at least 1 is needed")
    if worker and storage is None:
        raise RecipeError("--worker makes trials for others; name the database that they share with --storage URL")
    if processes.count() > 1:
        raise RecipeError("a search runs in one process; start several with one --storage instead")
    limits, chosen_from, out = parse_budget(budget), load_space(space), Path(out)
    database = open_storage(storage) if storage else None
    ground = Ground.prepare(settings, limits, chosen_from, out, find_device(device), say)
    dump = yaml.safe_dump(ground.described, sort_keys=False, allow_unicode=True, width=120)
    there = check(out, dump, resume=resume, overwrite=overwrite)
    if there is not None and len(there.facts["trials"]) >= trials:
        say(f"{out} is a finished search of {len(there.facts['trials'])} trials; nothing to do. For more: --trials")
        return there
    own = f"sqlite:///{out / DATABASE}"
    if database is None and resume and (out / DATABASE).is_file():
        database = open_storage(own)
    worker_name = hashlib.sha256(f"{socket.gethostname()} {out.resolve()}".encode()).hexdigest()[:16]
    join = partial(SharedStudy, name=ground.name, seed=ground.seed, worker=worker_name)
    study = join(database) if database else None
    described = study.open() if study else None
    described = described or {"candidates": [one.record() for one in ground.candidates(say)]}
    run = Run.start(out, dump, resume=resume, overwrite=overwrite, device=ground.device)
    try:
        study = study or join(open_storage(own))
        candidates = [Candidate(**one) for one in study.make(described)["candidates"]]
        store = ground.fill_store(candidates, say)
    except UserError:
        run.discard()
        raise
    trying = Trying(ground, study, store, run, [one for one in candidates if one.within(limits)], say)
    trying.all(trials, seconds, wait=not worker)
    if worker:
        return run
    best, command = trying.best(), command.replace(storage, without_password(storage)) if storage else command
    say(f"Trial {best.number} is the best within the budget: {trying.label(best)}. Distilling it into {out / BEST}")
    final = trying.distil(best, command)
    run.record(facts_of(trying, candidates, best, final, command))
    write_page(run.folder)
    return run


@dataclass(frozen=True, eq=False)
class Ground:
    """What all trials stand on: the data and the teacher, read once, and what is chosen from.

    Args:
        rows: the trials'; where test rows were given, or split off, they are not among them.
        recipes: by name, with the student that they come with.
        overrides: what the user set in every recipe.
        test_is_validation: no test rows were given.
    """

    budget: Budget
    space: Space
    recipes: dict[str, Recipe]
    overrides: dict[str, Any]
    task: Task
    rows: Rows
    teacher: Teacher
    device: str
    facts: dict[str, Any]

    @classmethod
    def prepare(
        cls, settings: Mapping[str, Any], budget: Budget, space: Space, out: Path, device: str, say: Say
    ) -> Ground:
        """Read and check all of it; writes nothing.

        Raises:
            UserError: anything that does not fit.
        """
        overrides = {"teacher.store": str(out / "teacher_outputs"), **settings}
        named = next((key for key in overrides if key.partition(".")[0] == "student"), None)
        if named is not None:
            raise RecipeError(f"--set {named}: the space names the students; give one of your own with --space FILE")
        recipes = {}
        for name in space.recipes:
            recipe = load_recipe(name, overrides)
            check_searchable(recipe)
            recipes[name] = resolve(recipe)
        first = next(iter(recipes.values()))
        task, rows, teacher = gather(first, say)
        return cls(
            budget, space, recipes, overrides, task, replace(rows, test=rows.validation), teacher, device, rows.facts()
        )

    @property
    def first(self) -> Recipe:
        return next(iter(self.recipes.values()))

    @property
    def seed(self) -> int:
        return self.first.seed

    @property
    def metric(self) -> str:
        return self.first.selection_metric

    @property
    def hot(self) -> dict[str, bool]:
        """Which recipes have a temperature."""
        return {name: bool(temperatures(recipe)) for name, recipe in self.recipes.items()}

    @property
    def described(self) -> dict[str, Any]:
        """All that decides the trials: a folder, and a study, is gone on with only under an equal one."""
        stages = {name: recipe.model_dump(mode="json")["stages"] for name, recipe in self.recipes.items()}
        return {
            "search": {
                "understudy": __version__, "task": self.first.task, "metric": self.metric, "seed": self.seed, "budget": dict(self.budget),
                "export": list(self.first.export), "max_length": self.first.data.max_length,
            },
            "data": {split: self.facts[split]["sha256"] for split in ("train", "validation", "transfer") if split in self.facts},
            "teacher": self.teacher.fingerprint, "space": self.space.model_dump(mode="json"), "stages": stages,
        }  # fmt: skip

    @property
    def name(self) -> str:
        """Of the study: another one wherever anything that decides its trials is different."""
        return f"understudy-{hashlib.sha256(json.dumps(self.described, sort_keys=True).encode()).hexdigest()[:16]}"

    def recipe(self, tried: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial: with a student of the space, and with the settings drawn; what the user set wins."""
        kind, name = tried["student"], tried["recipe"]
        values: dict[str, Any] = {"student": {"kind": kind, **self.space.shape(kind, tried["shape"]).settings}}
        for setting, value in tried["settings"].items():
            if setting == "temperature":
                values |= dict.fromkeys(temperatures(self.recipes[name]), value)
            else:
                values[f"stages.0.train.{setting}"] = value
        return resolve(load_recipe(name, values | self.overrides))

    def plan(self, tried: Mapping[str, Any]) -> Plan:
        """The plan of a trial."""
        student = self._untrained(tried["student"], tried["shape"])
        autocast = parts.part("students", tried["student"]).autocast
        return Plan(self.recipe(tried), self.task, self.rows, self.teacher, student, autocast)

    @lru_cache(maxsize=4)  # noqa: B019 (one ground a process)
    def _untrained(self, kind: str, shape: str) -> TextModel:
        return self.space.shape(kind, shape).make().build(blueprint_of(self.first, self.rows, self.teacher))

    def candidates(self, say: Say) -> list[Candidate]:
        """Every student of the space with its costs.

        Raises:
            UserError: the teacher does not know the task; none can be built, or taught, or is within the budget.
        """
        from tqdm.auto import tqdm

        shapes = [(one.kind, shape) for one in self.space.students for shape in one.shapes]
        found: list[Candidate] = []
        refused: dict[str, str] = {}
        say(f"Measuring {len(shapes)} students, untrained")
        for kind, shape in tqdm(shapes, desc="measuring", unit="student", leave=False, dynamic_ncols=True):
            try:
                plan = self.plan(_tried(kind, shape, self.first.name))
            except UserError as error:
                refused[kind] = str(error)
                continue
            if not found:
                check_teacher(plan, self.device)
            forms = measure(plan, self.budget, self.device)
            one = Candidate(kind, shape, plan.student.parameters, forms, [])
            found.append(replace(one, recipes=self._fitting(one)) if one.within(self.budget) else one)
            if not one.within(self.budget):
                say(f"Beyond the budget: {kind}, {shape}: {shown(_least(one, self.budget))}")
        for kind, reason in refused.items():
            say(f"Left out: student {kind}: {reason}")
        if not found:
            raise RecipeError("no student of the space can be built:\n" + "\n".join(refused.values()))
        within = [one for one in found if one.within(self.budget)]
        if not within:
            near = min(found, key=lambda one: excess(_least(one, self.budget), self.budget))
            raise RecipeError(
                f"--budget {shown(self.budget)}: no student of the space is within it; the nearest is {near.kind} ({near.shape}) with "
                f"{shown(_least(near, self.budget))}. Raise the budget, or give smaller students with --space FILE"
            )
        if not teachable(within):
            self._fitting(within[0], refuse=True)
        say(f"{len(within)} of {len(found)} students are within the budget")
        return found

    def _fitting(self, one: Candidate, *, refuse: bool = False) -> list[str]:
        """The recipes that can teach a student."""
        fitting = []
        for name in self.recipes:
            try:
                check_stages(self.plan(_tried(one.kind, one.shape, name)))
                fitting.append(name)
            except UserError:
                if refuse:
                    raise
        return fitting

    def fill_store(self, candidates: Sequence[Candidate], say: Say) -> Store:
        """The teacher's outputs for all that the trials ask, computed once."""
        store, computed = None, 0
        for name in self.recipes:
            taught = next((one for one in candidates if name in one.recipes), None)
            if taught is not None:
                plan = self.plan(_tried(taught.kind, taught.shape, name))
                store = store or open_store(plan, Path(self.first.teacher.store or ""))
                computed += sum(store.fill(self.teacher, rows, device=self.device) for rows in plan.taught_rows())
        assert store is not None, "some student can be taught"
        say(f"Teacher outputs: {computed:,} rows computed now, {len(store):,} kept in {store.folder}")
        return store


@dataclass(frozen=True)
class Trying:
    """The trials of this process.

    Args:
        candidates: within the budget.
    """

    ground: Ground
    study: SharedStudy
    store: Store
    run: Run
    candidates: list[Candidate]
    say: Say

    def all(self, total: int, seconds: float | None, *, wait: bool) -> None:
        """Make trials until the study has `total`, or the time is over; then wait for those of other workers.

        The bar on stderr counts the trials of all workers.
        """
        from tqdm.auto import tqdm

        ends = time.monotonic() + seconds if seconds is not None else math.inf
        waiting = False
        self.study.recover()
        with tqdm(desc="search", total=total, unit="trial", leave=False, dynamic_ncols=True) as bar:
            while time.monotonic() < ends:
                self.study.revive()
                bar.n = self.study.count("COMPLETE", "PRUNED")
                bar.set_postfix({"best": "–" if self.study.best is None else f"{self.study.best:.4f}"})
                if self.study.count("WAITING") or len(self.study.trials) < total:
                    self.study.run_one(total, self._try)
                    continue
                if not wait or not self.study.count("RUNNING"):
                    break
                if not waiting:
                    self._tell(f"Waiting for {self.study.count('RUNNING')} trials of other workers")
                waiting = True
                time.sleep(1)
        self.say(f"{self.study.count('COMPLETE', 'PRUNED')} of {total} trials are done")

    def _try(self, trial: Trial) -> float:
        """One trial: draw, train, export; the validation metric of what would ship."""
        from optuna import TrialPruned

        ground, started = self.ground, time.perf_counter()
        tried = ground.space.draw(trial, teachable(self.candidates), hot=ground.hot)
        one = self._candidate(tried)
        trial.set_user_attr("tried", tried)
        trial.set_user_attr("kind", one.kind)
        trial.set_user_attr("parameters", one.parameters)
        trial.set_user_attr("costs", one.forms[one.within(ground.budget)[0]])
        try:
            value, form = self._value(trial, ground.plan(tried), one)
        except TrainingError as error:
            self._stopped(trial, "broken", str(error))
            raise TrialPruned(str(error)) from error
        except TrialPruned as pruned:
            self._stopped(trial, "stopped", str(pruned))
            raise
        finally:
            trial.set_user_attr("seconds", round(time.perf_counter() - started, 1))
        if form is None:
            why = "no form of it that fits the budget answers as the student does"
            self._stopped(trial, "over budget", why)
            raise TrialPruned(why)
        trial.set_user_attr("form", form)
        trial.set_user_attr("costs", one.forms[form])
        self._tell(f"Trial {trial.number}: {self.label(trial)}: {ground.metric} {value:.4f}, {shown(one.forms[form])}")
        return value

    def _value(self, trial: Trial, plan: Plan, one: Candidate) -> tuple[float, str | None]:
        """Train the student of a trial; the metric of the form that ships, and which one that is."""
        ground, (stage,) = self.ground, plan.recipe.stages
        student = TextModel(copy.deepcopy(plan.student.model), plan.student.tokenizer, plan.student.max_length)
        rows = plan.stage_rows(stage)
        key = hashlib.sha256(plan.recipe.dump().encode()).hexdigest()[:16]
        folder = self.run.checkpoints / key  # a trial that was killed goes on where it was
        write = self.run.writer(f"trial {trial.number}", stage.name)
        every = max(plan.updates(stage) // stage.train.evaluations, 1)

        def heard(line: dict[str, Any]) -> None:
            write(line)
            if "validation" in line:
                self.study.report(trial, line["validation"][ground.metric], line["step"] // every)

        kept = self.store.logits(rows) if plan.keeps_logits(stage) else None
        train_stage(plan, student, stage, rows, kept, folder, f"trial {trial.number}", ground.device, write=heard)
        validation = labelled(plan.rows.validation)
        with tempfile.TemporaryDirectory() as exports:
            student.save(Path(exports) / "student")
            student = TextModel.load(Path(exports) / "student")  # in bf16, training leaves its casts in the model
            ships = shippable(plan, student, validation, Path(exports), trained=True, device=ground.device)
            form = next((form for form in one.within(ground.budget) if form in ships), None)
            logits = answers_of(ships[form] if form else student, validation, ground.device)
        shutil.rmtree(folder, ignore_errors=True)
        return plan.task.metrics(plan.task.predictions(logits), np.asarray(validation["label"]))[ground.metric], form

    def _stopped(self, trial: Trial, state: str, why: str) -> None:
        trial.set_user_attr("ended", state)
        self._tell(f"Trial {trial.number}: {self.label(trial)}: {state}: {why}")

    def _candidate(self, tried: Mapping[str, Any]) -> Candidate:
        return next(one for one in self.candidates if (one.kind, one.shape) == (tried["student"], tried["shape"]))

    def label(self, trial: Trial | FrozenTrial) -> str:
        """What a trial tries, in words."""
        return ", ".join(words_of(trial.user_attrs["tried"]))

    def best(self) -> FrozenTrial:
        """The trial with the best validation metric; of equal ones the cheapest.

        Raises:
            UnderstudyError: none came to its end within the budget.
        """
        done = [one for one in self.study.trials if one.state.name == "COMPLETE"]
        if not done:
            raise UnderstudyError(
                f"none of {len(self.study.trials)} trials came to its end within the budget; try more with --resume and a higher "
                "--trials, or raise the budget"
            )
        return max(
            done, key=lambda one: (one.value, *(-cost for cost in one.user_attrs["costs"].values()), -one.number)
        )

    def distil(self, best: FrozenTrial, command: str) -> Run:
        """The ordinary run of the best, with its controls and exports, measured on the test rows."""
        recipe = self.ground.recipe(best.user_attrs["tried"])
        folder, shelf = self.run.folder / BEST, self.run.folder.parent / ".controls"
        try:
            check(folder, recipe.dump(), resume=True, overwrite=False)
        except RunFolderError:  # the best of fewer trials
            shutil.rmtree(folder)
        return distill(
            recipe, folder, resume=True, device=self.ground.device, shelf=shelf, command=command, say=self.say
        )

    def _tell(self, line: str) -> None:
        """A line that does not break the bars."""
        from tqdm.auto import tqdm

        with tqdm.external_write_mode(file=sys.stderr):
            self.say(line)


def facts_of(
    trying: Trying, candidates: Sequence[Candidate], best: FrozenTrial, final: Run, command: str
) -> dict[str, Any]:
    """What facts.json of a search says."""
    ground = trying.ground
    trials = [_entry(one) for one in trying.study.trials if one.state.is_finished()]
    metric, models = final.facts["primary_metric"], final.facts["models"]
    shipped = models.get(f"student_{best.user_attrs['form']}") or models["student"]
    costs = {"latency_ms": shipped["latency_ms"]["p50"], "size_mib": shipped["size_mib"]}
    return {
        "understudy": __version__, "program": "search", "task": ground.first.task, "seed": ground.seed, "command": command,
        "primary_metric": metric, "budget": dict(ground.budget), "data": ground.facts,
        "students": [{**one.record(), "within_budget": bool(one.within(ground.budget))} for one in candidates],
        "trials": trials, "front": front(trials),
        "best": {
            "trial": best.number, "folder": BEST, **best.user_attrs["tried"], "form": best.user_attrs["form"],
            "validation": best.value, "test": shipped["quality"][metric], "teacher_test": _quality(models.get("teacher"), metric),
            **costs, "within_budget": excess(costs, ground.budget) <= 1,
        },
    }  # fmt: skip


def front(trials: Sequence[Mapping[str, Any]]) -> list[int]:
    """Numbers of the trials that no other one beats: at least as good, as quick and as small, and better in one of these.

    Latencies that differ by less than a twentieth count as equal: so much of them is the machine's mood.

    >>> front([{"number": 0, "value": 0.9, "latency_ms": 1, "size_mib": 9}, {"number": 1, "value": 0.8, "latency_ms": 2, "size_mib": 9},
    ...        {"number": 2, "value": 0.8, "latency_ms": 2, "size_mib": 3}, {"number": 3, "value": None}])
    [0, 2]
    """

    def beats(other: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
        quicker = other["latency_ms"] < one["latency_ms"] * (1 - _NOISE)
        as_quick = other["latency_ms"] <= one["latency_ms"] * (1 + _NOISE)
        as_good, as_small = other["value"] >= one["value"], other["size_mib"] <= one["size_mib"]
        better = quicker or other["value"] > one["value"] or other["size_mib"] < one["size_mib"]
        return as_good and as_quick and as_small and better

    done = [one for one in trials if one["value"] is not None]
    return [one["number"] for one in done if not any(beats(other, one) for other in done)]


def _entry(trial: FrozenTrial) -> dict[str, Any]:
    """A trial in the facts; `value` is null unless it came to its end within the budget."""
    said, done = trial.user_attrs, trial.state.name == "COMPLETE"
    return {
        "number": trial.number, "ended": "done" if done else said.get("ended", "stopped"), "tried": said.get("tried", {}),
        "value": trial.value if done else None,
        "validation": [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)],
        "form": said.get("form"), **said.get("costs", {}), "seconds": said.get("seconds"),
    }  # fmt: skip


def _tried(kind: str, shape: str, recipe: str) -> dict[str, Any]:
    """What a trial would try, with no setting drawn."""
    return {"student": kind, "shape": shape, "recipe": recipe, "settings": {}}


def _quality(entry: Mapping[str, Any] | None, metric: str) -> Any:
    return ((entry or {}).get("quality") or {}).get(metric)


def _least(one: Candidate, budget: Budget) -> dict[str, float]:
    """The costs of a candidate's form that is nearest to the budget."""
    return min(
        one.forms.values(), key=lambda costs: excess(costs, {name: budget[name] for name in budget if name in costs})
    )
