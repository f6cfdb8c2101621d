"""What all trials stand on: the data and the teacher, read once, and the students and recipes that are chosen from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from understudy import __version__, parts
from understudy.data.rows import Rows, hashed
from understudy.errors import RecipeError, UserError
from understudy.models.text_model import TextModel
from understudy.runs.checks import check_stages, check_teacher
from understudy.runs.folder import Say
from understudy.runs.inputs import files_of, teacher_input
from understudy.runs.plan import ALONE, Plan, TaskPlan
from understudy.runs.preparation import gather, resolve
from understudy.runs.students import untrained_students
from understudy.searching.budget import Budget, excess, shown
from understudy.searching.costs import Candidate, measure, teachable
from understudy.searching.space import Space, check_searchable, temperatures
from understudy.settings.data import DataSettings
from understudy.settings.loading import load_recipe
from understudy.settings.recipe import Recipe
from understudy.settings.stage import LENGTHS
from understudy.tasks import Task
from understudy.teachers.store import Store
from understudy.teachers.teacher import Teacher


@dataclass(frozen=True, eq=False)
class SearchContext:
    """What all trials stand on: the data and the teacher, read once, and what is chosen from.

    Args:
        rows: the trials'; where test rows were given, or split off, they are not among them.
        recipes: by name, with the student that they come with.
        overrides: what the user set in every recipe.
        inputs: all rows, the test's too, the teacher, and every file that a setting names, by hashes.
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
    inputs: dict[str, dict[str, Any]]

    @classmethod
    def prepare(
        cls, settings: Mapping[str, Any], budget: Budget, space: Space, out: Path, device: str, say: Say
    ) -> SearchContext:
        """Read and check all of it; writes nothing.

        Raises:
            UserError: anything that does not fit.
        """
        overrides = {"teacher.store": str(out / "teacher_outputs"), **settings}
        named = next((key for key in overrides if key.partition(".")[0] == "student"), None)
        if named is not None:
            raise RecipeError(
                f"--set {named}: the students come from the search space; give your own with --space FILE"
            )
        recipes = {}
        for name in space.recipes:
            recipe = load_recipe(name, overrides)
            check_searchable(recipe)
            recipes[name] = resolve(recipe)
        first = next(iter(recipes.values()))
        task, rows, teacher = gather(first, say, device=device)
        files: dict[str, dict[str, Any]] = {}
        for name, recipe in recipes.items():
            files |= files_of(recipe, f"{name}: ")
        for one in space.students:
            for shape, part in one.shapes.items():
                files |= files_of(part, f"student {one.kind}, {shape}: ")
        return cls(
            budget, space, recipes, overrides, task, replace(rows, test=rows.validation), teacher, device, rows.facts(),
            rows.inputs() | teacher_input(first, teacher) | files,
        )  # fmt: skip

    @property
    def given(self) -> dict[str, Any]:
        """What the user set for all trials, by dotted keys; data and teacher stand elsewhere in the facts."""
        return {
            key: value
            for key, value in self.overrides.items()
            if key.partition(".")[0] not in ("data", "teacher", "tasks")
        }

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
        """All settings that decide the trials: a folder, and a study, is gone on with only under equal ones."""
        data = DataSettings().model_dump().keys() - {"max_length"}  # the rows themselves count
        paths: Any = {"data": data, "teacher": {"models", "store"}, "report_to": True}
        recipes = {name: recipe.model_dump(mode="json", exclude=paths) for name, recipe in self.recipes.items()}
        return {
            "search": {
                "understudy": __version__, "task": self.first.task, "metric": self.metric, "seed": self.seed, "budget": dict(self.budget),
                "export": list(self.first.export), "max_length": self.first.data.max_length,
            },
            "space": self.space.model_dump(mode="json"), "recipes": recipes,
        }  # fmt: skip

    @property
    def name(self) -> str:
        """Of the study: another one wherever anything that decides its trials is different."""
        hashes = {name: one["sha256"] for name, one in self.inputs.items() if name != "test"}
        return f"understudy-{hashed([self.described, hashes])[:16]}"

    def recipe(self, tried: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial: with a student of the space, and with the settings drawn; what the user set wins."""
        kind, name = tried["student"], tried["recipe"]
        values: dict[str, Any] = {"student": {"kind": kind, **self.space.shape(kind, tried["shape"]).settings}}
        for setting, value in tried["settings"].items():
            if setting == "temperature":
                values |= dict.fromkeys(temperatures(self.recipes[name]), value)
            else:
                values[f"stages.0.train.{setting}"] = value
        if any(key.rpartition(".")[2] in LENGTHS for key in self.overrides):
            values.pop("stages.0.train.min_updates", None)
        return resolve(load_recipe(name, values | self.overrides))

    def used(self, tried: Mapping[str, Any]) -> dict[str, Any]:
        """What a trial tries, with the settings as its recipe has them: where the user set one, that is used, recorded and shown."""
        stage, settings = self.recipe(tried).stages[0], {}
        for name in tried["settings"]:
            if name == "temperature":
                number = int(temperatures(self.recipes[tried["recipe"]])[0].split(".")[3])
                settings[name] = stage.objectives[number].settings["temperature"]
            else:
                settings[name] = getattr(stage.train, name)
        if stage.train.max_steps is not None:  # what ends the training, whatever else was drawn
            settings = {name: value for name, value in settings.items() if name not in ("epochs", "min_updates")}
            settings = {"max_steps": stage.train.max_steps, **settings}
        return {**tried, "settings": {name: value for name, value in settings.items() if value is not None}}

    def plan(self, tried: Mapping[str, Any]) -> Plan:
        """The plan of a trial."""
        student = self._untrained(tried["student"], tried["shape"])
        autocast = parts.part("students", tried["student"]).autocast
        recipe = self.recipe(tried)
        return Plan(recipe, {ALONE: TaskPlan(recipe, self.task, self.rows, self.teacher, student, autocast)})

    @lru_cache(maxsize=4)  # noqa: B019 (one context a process)
    def _untrained(self, kind: str, shape: str) -> TextModel:
        given = {ALONE: (self.task, self.rows, self.teacher)}
        return untrained_students(self.first, given, self.space.shape(kind, shape), made={})[ALONE]

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
                plan = self.plan(tried_of(kind, shape, self.first.name)).first
            except UserError as error:
                refused[kind] = str(error)
                continue
            if not found:
                check_teacher(plan, self.device)
            forms = measure(plan, self.budget, self.device)
            one = Candidate(kind, shape, plan.student.parameters, forms, [])
            found.append(replace(one, recipes=self._fitting(one)) if one.within(self.budget) else one)
            if not one.within(self.budget):
                say(f"Over budget: {kind}, {shape}: {shown(least(one, self.budget))}")
        for kind, reason in refused.items():
            say(f"Skipped: student {kind}: {reason}")
        if not found:
            raise RecipeError("no student of the space can be built:\n" + "\n".join(refused.values()))
        within = [one for one in found if one.within(self.budget)]
        if not within:
            near = min(found, key=lambda one: excess(least(one, self.budget), self.budget))
            raise RecipeError(
                f"--budget {shown(self.budget)}: no student of the space is within it; the nearest is {near.kind} ({near.shape}) with "
                f"{shown(least(near, self.budget))}. Raise the budget, or give smaller students with --space FILE"
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
                check_stages(self.plan(tried_of(one.kind, one.shape, name)).first)
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
                plan = self.plan(tried_of(taught.kind, taught.shape, name)).first
                store = store or plan.store(Path(self.first.teacher.store or ""))
                computed += sum(store.fill(self.teacher, rows, device=self.device) for rows in plan.taught_rows())
        assert store is not None, "some student can be taught"
        say(f"Teacher outputs: {computed:,} rows computed now, {len(store):,} kept in {store.folder}")
        return store


def tried_of(kind: str, shape: str, recipe: str) -> dict[str, Any]:
    """What a trial would try, with no setting drawn."""
    return {"student": kind, "shape": shape, "recipe": recipe, "settings": {}}


def least(one: Candidate, budget: Budget) -> dict[str, float]:
    """The costs of a candidate's form that is nearest to the budget."""
    return min(
        one.forms.values(), key=lambda costs: excess(costs, {name: budget[name] for name in budget if name in costs})
    )
