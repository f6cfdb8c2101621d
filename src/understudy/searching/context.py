"""What all trials of a search share: data and teacher, read once, and the students and recipes to choose from."""

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
    """What all trials share: data and teacher, read once, and the space to choose from.

    Args:
        rows: for the trials; they measure on validation rows, and the test rows are not among them.
        recipes: name → recipe, with the student that it names.
        overrides: settings of the user for every recipe, by dotted keys.
        facts: about the data, for the record.
        inputs: hashes of all rows, the test rows too, of the teacher, and of every file that a setting names.
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
    def prepare(cls, settings: Mapping[str, Any], budget: Budget, space: Space, out: Path, device: str, say: Say) -> SearchContext:
        """Read and check everything. Writes nothing.

        Raises:
            UserError: with what does not fit.
        """
        overrides = {"teacher.store": str(out / "teacher_outputs"), **settings}
        named = next((key for key in overrides if key.partition(".")[0] == "student"), None)
        if named is not None:
            raise RecipeError(f"--set {named}: the students come from the search space; give your own with --space FILE")
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
        for student in space.students:
            for shape, part in student.shapes.items():
                files |= files_of(part, f"student {student.kind}, {shape}: ")
        return cls(
            budget,
            space,
            recipes,
            overrides,
            task,
            replace(rows, test=rows.validation),
            teacher,
            device,
            rows.facts(),
            rows.inputs() | teacher_input(first, teacher) | files,
        )

    @property
    def user_settings(self) -> dict[str, Any]:
        """Settings of the user for all trials, by dotted keys, without data and teacher, which the facts give elsewhere."""
        return {key: value for key, value in self.overrides.items() if key.partition(".")[0] not in ("data", "teacher", "tasks")}

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
    def have_temperature(self) -> dict[str, bool]:
        """Recipe → whether it has a temperature."""
        return {name: bool(temperatures(recipe)) for name, recipe in self.recipes.items()}

    @property
    def described(self) -> dict[str, Any]:
        """All settings that the trials depend on; a folder, or a study, is resumed only with equal ones."""
        data = DataSettings().model_dump().keys() - {"max_length"}  # the rows are compared instead
        paths: Any = {"data": data, "teacher": {"models", "store"}, "report_to": True}
        recipes = {name: recipe.model_dump(mode="json", exclude=paths) for name, recipe in self.recipes.items()}
        return {
            "search": {
                "understudy": __version__,
                "task": self.first.task,
                "metric": self.metric,
                "seed": self.seed,
                "budget": dict(self.budget),
                "export": list(self.first.export),
                "max_length": self.first.data.max_length,
            },
            "space": self.space.model_dump(mode="json"),
            "recipes": recipes,
        }

    @property
    def name(self) -> str:
        """The name of the study, a hash of all that its trials depend on."""
        hashes = {name: entry["sha256"] for name, entry in self.inputs.items() if name != "test"}
        return f"understudy-{hashed([self.described, hashes])[:16]}"

    def recipe(self, tried: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial: its student and its drawn settings, which settings of the user replace."""
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
        """The choices of a trial, with the settings that its recipe has: a setting of the user replaces the one drawn."""
        stage, settings = self.recipe(tried).stages[0], {}
        for name in tried["settings"]:
            if name == "temperature":
                number = int(temperatures(self.recipes[tried["recipe"]])[0].split(".")[3])
                settings[name] = stage.objectives[number].settings["temperature"]
            else:
                settings[name] = getattr(stage.train, name)
        if stage.train.max_steps is not None:  # it alone determines the length of the training
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
        data = {ALONE: (self.task, self.rows, self.teacher)}
        return untrained_students(self.first, data, self.space.shape(kind, shape), augmented={})[ALONE]

    def candidates(self, say: Say) -> list[Candidate]:
        """Every student of the space with its costs.

        Raises:
            UserError: the teacher was not trained for the task; no student can be built, or taught, or is within the budget.
        """
        from tqdm.auto import tqdm

        shapes = [(student.kind, shape) for student in self.space.students for shape in student.shapes]
        candidates: list[Candidate] = []
        refused: dict[str, str] = {}
        say(f"Measuring {len(shapes)} students, untrained")
        for kind, shape in tqdm(shapes, desc="measuring", unit="student", leave=False, dynamic_ncols=True):
            try:
                plan = self.plan(tried_of(kind, shape, self.first.name)).first
            except UserError as error:
                refused[kind] = str(error)
                continue
            if not candidates:
                check_teacher(plan, self.device)
            forms = measure(plan, self.budget, self.device)
            candidate = Candidate(kind, shape, plan.student.parameters, forms, [])
            candidates.append(replace(candidate, recipes=self._fitting(candidate)) if candidate.within(self.budget) else candidate)
            if not candidate.within(self.budget):
                say(f"Over budget: {kind}, {shape}: {shown(least(candidate, self.budget))}")
        for kind, reason in refused.items():
            say(f"Skipped: student {kind}: {reason}")
        if not candidates:
            raise RecipeError("no student of the space can be built:\n" + "\n".join(refused.values()))
        within = [candidate for candidate in candidates if candidate.within(self.budget)]
        if not within:
            near = min(candidates, key=lambda candidate: excess(least(candidate, self.budget), self.budget))
            raise RecipeError(
                f"--budget {shown(self.budget)}: no student of the space is within it; the nearest is {near.kind} ({near.shape}) with "
                f"{shown(least(near, self.budget))}. Raise the budget, or give smaller students with --space FILE"
            )
        if not teachable(within):
            self._fitting(within[0], refuse=True)
        say(f"{len(within)} of {len(candidates)} students are within the budget")
        return candidates

    def _fitting(self, candidate: Candidate, *, refuse: bool = False) -> list[str]:
        """The recipes by which a student can be taught."""
        fitting = []
        for name in self.recipes:
            try:
                check_stages(self.plan(tried_of(candidate.kind, candidate.shape, name)).first)
                fitting.append(name)
            except UserError:
                if refuse:
                    raise
        return fitting

    def fill_store(self, candidates: Sequence[Candidate], say: Say) -> Store:
        """The store with the teacher's outputs for all rows that trials use, computed once."""
        store, computed = None, 0
        for name in self.recipes:
            taught = next((candidate for candidate in candidates if name in candidate.recipes), None)
            if taught is not None:
                plan = self.plan(tried_of(taught.kind, taught.shape, name)).first
                store = store or plan.store(Path(self.first.teacher.store or ""))
                computed += sum(store.fill(self.teacher, rows, device=self.device) for rows in plan.taught_rows())
        assert store is not None, "some student can be taught"
        say(f"Teacher outputs: {computed:,} rows computed now, {len(store):,} kept in {store.folder}")
        return store


def tried_of(kind: str, shape: str, recipe: str) -> dict[str, Any]:
    """The choices of a trial with these, and without drawn settings."""
    return {"student": kind, "shape": shape, "recipe": recipe, "settings": {}}


def least(candidate: Candidate, budget: Budget) -> dict[str, float]:
    """The costs of a candidate's form that is nearest to the budget."""
    return min(candidate.forms.values(), key=lambda costs: excess(costs, {name: budget[name] for name in budget if name in costs}))
