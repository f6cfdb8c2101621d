"""The measurements of a run: every model on the test rows, and the files that are written about it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy import __version__
from understudy.data.rows import Rows, labelled
from understudy.evaluation.measure import ModelResult, compare
from understudy.evaluation.ngrams import fit_ngrams
from understudy.evaluation.predictions import PREDICTIONS, predictions, write_predictions
from understudy.evaluation.reference import as_agreement
from understudy.evaluation.summary import summarise_tasks
from understudy.exporting.model_card import write_model_card
from understudy.files import read_json
from understudy.models.text_model import TextModel
from understudy.reporting.advice import findings
from understudy.reporting.page import write_page
from understudy.runs import controls
from understudy.runs.checks import least_updates
from understudy.runs.folder import Run, Say
from understudy.runs.plan import Plan, TaskPlan
from understudy.runs.shipping import Shipped
from understudy.settings.finetune import FinetuneSettings
from understudy.settings.recipe import Recipe
from understudy.teachers.store import Store

if TYPE_CHECKING:
    from understudy.tasks import Task


def prove(
    run: Run,
    plan: TaskPlan,
    models: Mapping[str, ModelResult],
    store: Store | None,
    shipped: Shipped,
    *,
    device: str,
    command: str,
    tasks: int,
    say: Say,
) -> None:
    """Measure all models on the test rows and write the results: predictions, facts, model cards and page.

    Args:
        models: the trained student and controls.
        store: outputs of the teacher; None: there is no teacher.
        shipped: the exports, which are measured too.
        command: the command line, for the record.
        tasks: how many tasks the student was trained on.
    """
    say("Measuring on the test rows")
    recipe, names, test = plan.recipe, plan.rows.label_names, labelled(plan.rows.test)
    validation = test if plan.rows.test_is_validation else labelled(plan.rows.validation)
    if store is not None:
        logits = [store.logits(rows) if plan.teacher_covers(rows) else None for rows in (test, validation)]
        teacher = ModelResult(plan.teacher.models, plan.teacher_folders, _seconds_of(plan.teacher_folders), *logits)
        models = {"teacher": teacher, **models}
    models = {**models, **ngram_baseline(plan.rows, plan.task, recipe, say)}
    models = {name: result.answered(test, validation, device, plan.task) for name, result in {**models, **shipped.models}.items()}
    by_teacher = plan.rows.labelled_by_teacher
    compared = compare(
        models,
        test,
        plan.task,
        metric=recipe.selection_metric,
        device=device,
        seed=recipe.seed,
        validation=None if "validation" in by_teacher else validation,
    )
    if "test" in by_teacher:
        compared = as_agreement(compared)
    write_predictions(run.folder / PREDICTIONS, predictions(test, models, plan.task, compared["models"]))
    facts = {
        "understudy": __version__,
        "task": recipe.task,
        "recipe": recipe.name,
        "seed": recipe.seed,
        "student": recipe.student.kind,
        "command": command,
        "label_names": names,
        "data": plan.rows.facts(),
        "layer_maps": {stage.name: layers for stage in recipe.stages if (layers := plan.part(stage).layer_maps())},
        **compared,
        "trainings": _trainings(run, plan, models, tasks),
        "exports": shipped.parity,
        "controls": {
            name: {"kept": controls.kept(name, recipe), "start": controls.start(plan)}
            for name in controls.MAKE
            if f"student_{name}" in models
        },
    }
    run.record({**facts, "findings": findings(facts)})
    shipped.update_card(run.facts)
    for name, (model, *_) in ((name, measured.models) for name, measured in models.items() if measured.models):
        if isinstance(model, TextModel) and (run.folder / name / "config.json").is_file():
            write_model_card(model, run.folder / name, pair=plan.rows.pair, task=plan.task)
    write_page(run.folder)


def _trainings(run: Run, plan: TaskPlan, models: Container[str], tasks: int) -> dict[str, Any]:
    """Model → stage → the course of its training; the teacher's is included where a single one was made by `understudy finetune`."""
    rows, least = len(labelled(plan.rows.validation)), least_updates(plan.recipe, tasks=tasks)
    recorded = run.trainings(plan.task.metric(plan.recipe.selection_metric), rows=rows, least=least)
    kept = {model: stages for model, stages in recorded.items() if model in models}  # a control may have been left out since
    facts = list(map(_facts_of, plan.teacher_folders))
    if len(facts) == 1:
        kept |= facts[0].get("trainings") or {}
    return kept


def summarise(run: Run, plan: Plan, runs: Mapping[str, Run], command: str) -> None:
    """Write the facts and the page of a run of several tasks, from the facts of each."""
    recipe = plan.recipe
    run.record(
        {
            "understudy": __version__,
            "recipe": recipe.name,
            "seed": recipe.seed,
            "student": recipe.student.kind,
            "command": command,
            "parameters": plan.parameters,
            **summarise_tasks({task: task_run.facts for task, task_run in runs.items()}),
        }
    )
    write_page(run.folder)


def ngram_baseline(rows: Rows, task: Task, settings: Recipe | FinetuneSettings, say: Say) -> dict[str, ModelResult]:
    """The n-gram baseline as the model `ngrams`, fitted now; empty where the settings leave it out or no row has a label."""
    if not settings.baseline:
        return {}
    if not len(labelled(rows.train)):
        say("No n-gram baseline: it learns from labels, and no training row has one")
        return {}
    model = fit_ngrams(labelled(rows.train), labelled(rows.validation), task, settings.selection_metric)
    if model is None:
        say("No n-gram baseline: the labelled training rows have no n-grams, or only one class")
        return {}
    return {"ngrams": ModelResult((model,), seconds=model.seconds)}


def _seconds_of(teachers: Sequence[Path]) -> float | None:
    """Seconds of training of all teachers together; None unless `understudy finetune` made them all."""
    seconds = [_facts_of(folder).get("models", {}).get("teacher", {}).get("seconds") for folder in teachers]
    return None if not seconds or None in seconds else sum(seconds)


def _facts_of(teacher: Path) -> dict[str, Any]:
    """What `understudy finetune` wrote beside a teacher; empty where another program made it, or the file is damaged."""
    try:
        facts = read_json(teacher / "facts.json")
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) and isinstance(facts.get("models", {}), dict) else {}
