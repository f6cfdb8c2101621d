"""The trials of a process: draw, train, export, measure."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.data.rows import labelled
from understudy.errors import TrainingError, UnderstudyError
from understudy.evaluation.measure import answers_of
from understudy.models.text_model import TextModel
from understudy.reporting.search import FORMS, words_of
from understudy.runs.folder import Run, Say
from understudy.runs.plan import ALONE, Plan
from understudy.runs.training import copies, train_stage
from understudy.searching.budget import shown
from understudy.searching.context import SearchContext
from understudy.searching.costs import Candidate, shippable, teachable
from understudy.searching.study import SharedStudy
from understudy.teachers.store import Store

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class TrialRunner:
    """Makes the trials of this process.

    Args:
        candidates: those within the budget.
    """

    context: SearchContext
    study: SharedStudy
    store: Store
    run: Run
    candidates: list[Candidate]
    say: Say

    def all(self, total: int, seconds: float | None, *, wait: bool) -> None:
        """Make trials until the study has `total`, or `seconds` have passed; then wait for those of other workers.

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
                bar.set_postfix_str("" if self.study.best is None else f"best {self.context.metric} {self.study.best:.4f}")
                if self.study.count("WAITING") or len(self.study.trials) < total:
                    self.study.run_trial(total, self._try)
                    continue
                if not wait or not self.study.count("RUNNING"):
                    break
                if not waiting:
                    self.say(f"Waiting for {self.study.count('RUNNING')} trials of other workers")
                waiting = True
                time.sleep(1)
        self.say(f"{self.study.count('COMPLETE', 'PRUNED')} of {total} trials are done")

    def _try(self, trial: Trial) -> float:
        """A trial: draw, train, export; returns the validation metric of the form that would ship."""
        from optuna import TrialPruned

        context, started = self.context, time.perf_counter()
        tried = context.used(context.space.draw(trial, teachable(self.candidates), have_temperature=context.have_temperature))
        candidate = self._candidate(tried)
        trial.set_user_attr("tried", tried)
        trial.set_user_attr("kind", candidate.kind)
        trial.set_user_attr("parameters", candidate.parameters)
        trial.set_user_attr("costs", candidate.forms[candidate.within(context.budget)[0]])
        try:
            value, form = self._value(trial, context.plan(tried), candidate)
        except TrainingError as error:
            self._stopped(trial, "broken", str(error))
            raise TrialPruned(str(error)) from error
        except TrialPruned as pruned:
            self._stopped(trial, "stopped", str(pruned))
            raise
        finally:
            trial.set_user_attr("seconds", round(time.perf_counter() - started, 1))
        if form is None:
            why = "no export within the budget matches the student"
            self._stopped(trial, "over budget", why)
            raise TrialPruned(why)
        trial.set_user_attr("form", form)
        trial.set_user_attr("costs", candidate.forms[form])
        costs = f"{FORMS[form]}: {shown(candidate.forms[form])}"
        self.say(f"Trial {trial.number}: {self.label(trial)}: {context.metric} {value:.4f}, {costs}")
        return value

    def _value(self, trial: Trial, plan: Plan, candidate: Candidate) -> tuple[float, str | None]:
        """Train the student of a trial; returns the validation metric of the form that would ship, and the name of that form."""
        context, (stage,), task_plan = self.context, plan.stages, plan.first
        (part,) = stage.parts.values()
        key = hashlib.sha256(plan.recipe.dump().encode()).hexdigest()[:16]
        folder = self.run.checkpoints / key  # a repeated trial is resumed from its last checkpoint
        write = self.run.writer(f"trial {trial.number}", stage.stage.name)
        interval = max(stage.length.updates // stage.stage.train.evaluations, 1)

        def noted(line: dict[str, Any]) -> None:
            write(line)
            if "validation" in line:
                self.study.report(trial, line["validation"][context.metric], line["step"] // interval)

        students = copies({ALONE: task_plan.student})
        kept = {ALONE: self.store.logits(part.rows)} if part.keeps_logits else {}
        train_stage(stage, {ALONE: task_plan.at(stage.stage)}, students, kept, folder, f"trial {trial.number}", context.device, write=noted)
        validation = labelled(task_plan.rows.validation)
        with tempfile.TemporaryDirectory() as exports:
            students[ALONE].save(Path(exports) / "student")
            student = TextModel.load(Path(exports) / "student")  # after training in bf16 the model still casts
            ships = shippable(task_plan, student, validation, Path(exports), trained=True, device=context.device)
            form = next((form for form in candidate.within(context.budget) if form in ships), None)
            logits = answers_of(ships[form] if form else student, validation, context.device)
        shutil.rmtree(folder, ignore_errors=True)
        return task_plan.task.validated(logits, np.asarray(validation["label"]))[context.metric], form

    def _stopped(self, trial: Trial, state: str, why: str) -> None:
        trial.set_user_attr("ended", state)
        self.say(f"Trial {trial.number}: {self.label(trial)}: {state}: {why}")

    def _candidate(self, tried: Mapping[str, Any]) -> Candidate:
        return next(candidate for candidate in self.candidates if (candidate.kind, candidate.shape) == (tried["student"], tried["shape"]))

    def label(self, trial: Trial | FrozenTrial) -> str:
        """The choices of a trial, in words."""
        return ", ".join(words_of(trial.user_attrs["tried"]))

    def best(self) -> FrozenTrial:
        """The trial with the best validation metric; among equal ones the cheapest.

        Raises:
            UnderstudyError: no trial was completed within the budget.
        """
        done = [trial for trial in self.study.trials if trial.state.name == "COMPLETE"]
        if not done:
            raise UnderstudyError(
                f"none of {len(self.study.trials)} trials finished within the budget; try more with --resume and a higher "
                "--trials, or raise the budget"
            )
        signed = self.study.metric.signed
        return max(done, key=lambda trial: (signed(trial.value), *(-cost for cost in trial.user_attrs["costs"].values()), -trial.number))
