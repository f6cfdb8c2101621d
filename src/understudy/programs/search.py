"""The program `search`: tries students, recipes and settings within a budget, and distils the best."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from understudy import __version__
from understudy.errors import RecipeError, RunFolderError, UserError
from understudy.machine import find_device, process_count
from understudy.programs.distill import distill
from understudy.reporting.search import write_page
from understudy.runs.folder import Run, Say, check
from understudy.searching.budget import excess, parse_budget
from understudy.searching.context import SearchContext
from understudy.searching.costs import Candidate
from understudy.searching.space import load_space
from understudy.searching.study import SharedStudy, need_optuna, open_storage, without_password
from understudy.searching.trials import TrialRunner
from understudy.settings.calling import silent

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from understudy.tasks import Metric

DATABASE = "study.db"
_NOISE = 0.05  # relative difference of two latencies that are taken as equal

BEST = "best"  # the folder of the run of the best trial


def search(
    settings: Mapping[str, Any],
    budget: str,
    out: str | Path = "runs/search",
    *,
    space: str | Path | None = None,
    trials: int = 30,
    seconds: float | None = None,
    storage: str | None = None,
    worker: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    command: str = "",
    say: Say | None = print,
) -> Run:
    """Try students, recipes and settings, and distil the best one within a budget.

    The costs of every student of the space are measured untrained; those beyond the budget are never trained. Optuna searches among the
    others for the best validation metric of the shipped form. The best is distilled as by `distill` into the folder `best`; only it is
    measured on the test rows.

    Args:
        settings: of every recipe, by dotted keys, as in `{"data.train": "train.csv", "teacher.models": ["runs/teacher"]}`.
        budget: limits, as in `"latency_ms<=1, size_mib<=10"`.
        out: the folder of the search.
        space: a YAML file with the space; None: the packaged one.
        trials: number of trials of the study, of all its workers together.
        seconds: after which this process starts no more trials.
        storage: the URL of a database that several workers share; None: the study is kept in `out`.
        worker: only make trials, and leave distilling the best to another process.
        resume: continue a search that was stopped, or make more trials.
        overwrite: replace an existing search.
        device: as in `distill`.
        command: recorded in the facts; passwords in `storage` are left out.
        say: gets each line of progress; None is silent.

    Raises:
        UserError: the input does not fit, or no student is within the budget; nothing is left behind.
        UnderstudyError: no trial was completed within the budget.
    """
    say = say or silent
    need_optuna()
    if trials < 1:
        raise RecipeError(f"--trials {trials}: at least 1 is needed")
    if worker and storage is None:
        raise RecipeError("--worker runs trials of a shared search; name its database with --storage URL")
    if process_count() > 1:
        raise RecipeError("a search runs in one process; start several with one --storage instead")
    limits, chosen_from, out = parse_budget(budget), load_space(space), Path(out)
    database = open_storage(storage) if storage else None
    context = SearchContext.prepare(settings, limits, chosen_from, out, find_device(device), say)
    dump = yaml.safe_dump(context.described, sort_keys=False, allow_unicode=True, width=120)
    existing = check(out, dump, inputs=context.inputs, resume=resume, overwrite=overwrite)
    if existing is not None and len(existing.facts["trials"]) >= trials:
        say(f"{out} is a finished search of {len(existing.facts['trials'])} trials; nothing to do. For more: --trials")
        return existing
    own_storage = f"sqlite:///{out / DATABASE}"
    if database is None and resume and (out / DATABASE).is_file():
        database = open_storage(own_storage)
    worker_name = hashlib.sha256(f"{socket.gethostname()} {out.resolve()}".encode()).hexdigest()[:16]
    metric = context.task.metric(context.metric)
    join = partial(SharedStudy, name=context.name, seed=context.seed, worker=worker_name, metric=metric)
    study = join(database) if database else None
    described = study.open() if study else None
    described = described or {"candidates": [candidate.record() for candidate in context.candidates(say)]}
    run = Run.start(out, dump, inputs=context.inputs, resume=resume, overwrite=overwrite, device=context.device)
    try:
        study = study or join(open_storage(own_storage))
        candidates = [Candidate(**candidate) for candidate in study.make(described)["candidates"]]
        store = context.fill_store(candidates, say)
    except UserError:
        run.discard()
        raise
    runner = TrialRunner(context, study, store, run, [candidate for candidate in candidates if candidate.within(limits)], say)
    runner.all(trials, seconds, wait=not worker)
    if worker:
        return run
    best, command = runner.best(), command.replace(storage, without_password(storage)) if storage else command
    say(f"Trial {best.number} is the best within the budget: {runner.label(best)}. Distilling it into {out / BEST}")
    final = _distil(runner, best, command)
    run.record(facts_of(runner, candidates, best, final, command))
    write_page(run.folder)
    return run


def facts_of(runner: TrialRunner, candidates: Sequence[Candidate], best: FrozenTrial, final: Run, command: str) -> dict[str, Any]:
    """The content of facts.json of a search."""
    context = runner.context
    trials = [_entry(trial) for trial in runner.study.trials if trial.state.is_finished()]
    metric, models = final.facts["primary_metric"], final.facts["models"]
    shipped = models.get(f"student_{best.user_attrs['form']}") or models["student"]
    costs = {"latency_ms": shipped["latency_ms"]["p50"], "size_mib": shipped["size_mib"]}
    return {
        "understudy": __version__,
        "program": "search",
        "task": context.first.task,
        "seed": context.seed,
        "command": command,
        **({"reference": "teacher"} if "reference" in final.facts else {}),
        "primary_metric": metric,
        "budget": dict(context.budget),
        "data": context.facts,
        "settings": context.user_settings,
        "students": [{**candidate.record(), "within_budget": bool(candidate.within(context.budget))} for candidate in candidates],
        "trials": trials,
        "front": front(trials, runner.study.metric),
        "best": {
            "trial": best.number,
            "folder": BEST,
            **best.user_attrs["tried"],
            "form": best.user_attrs["form"],
            "validation": best.value,
            "test": shipped["quality"][metric],
            "teacher_test": _quality(models.get("teacher"), metric),
            **costs,
            "within_budget": excess(costs, context.budget) <= 1,
        },
    }


def front(trials: Sequence[Mapping[str, Any]], metric: Metric) -> list[int]:
    """The numbers of the Pareto-optimal trials: no other is at least as good, as fast and as small, and better in one of these.

    Latencies that differ by less than 5 % count as equal, because repeated measurements vary by that much.

    >>> from understudy.tasks import Metric
    >>> front([{"number": 0, "value": 0.9, "latency_ms": 1, "size_mib": 9}, {"number": 1, "value": 0.8, "latency_ms": 2, "size_mib": 9},
    ...        {"number": 2, "value": 0.8, "latency_ms": 2, "size_mib": 3}, {"number": 3, "value": None}], Metric("f1", "F1"))
    [0, 2]
    """

    def beats(rival: Mapping[str, Any], trial: Mapping[str, Any]) -> bool:
        quicker = rival["latency_ms"] < trial["latency_ms"] * (1 - _NOISE)
        as_quick = rival["latency_ms"] <= trial["latency_ms"] * (1 + _NOISE)
        lead, as_small = metric.lead(rival["value"], trial["value"]), rival["size_mib"] <= trial["size_mib"]
        better = quicker or lead > 0 or rival["size_mib"] < trial["size_mib"]
        return lead >= 0 and as_quick and as_small and better

    done = [trial for trial in trials if trial["value"] is not None]
    return [trial["number"] for trial in done if not any(beats(rival, trial) for rival in done)]


def _entry(trial: FrozenTrial) -> dict[str, Any]:
    """A trial in the facts; `value` is null unless it was completed within the budget."""
    attributes, done = trial.user_attrs, trial.state.name == "COMPLETE"
    return {
        "number": trial.number,
        "ended": "done" if done else attributes.get("ended", "stopped"),
        "tried": attributes.get("tried", {}),
        "value": trial.value if done else None,
        "validation": [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)],
        "form": attributes.get("form"),
        **attributes.get("costs", {}),
        "seconds": attributes.get("seconds"),
    }


def _quality(entry: Mapping[str, Any] | None, metric: str) -> Any:
    return ((entry or {}).get("quality") or {}).get(metric)


def _distil(runner: TrialRunner, best: FrozenTrial, command: str) -> Run:
    """The run of the best trial, with its controls and exports, measured on the test rows."""
    recipe = runner.context.recipe(best.user_attrs["tried"])
    folder, cache = runner.run.folder / BEST, runner.run.folder.parent / ".controls"
    try:
        check(folder, recipe.dump(), resume=True, overwrite=False)
    except RunFolderError:  # it holds the best of fewer trials
        shutil.rmtree(folder)
    return distill(recipe, folder, resume=True, device=runner.context.device, cache=cache, command=command, say=runner.say)
