"""The program `distill`: trains a student and its controls, measures them, and writes a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.machine import find_device, is_helper, main_process_first
from understudy.runs.folder import Run, Say, check
from understudy.runs.made_rows import keep_made_rows
from understudy.runs.preparation import about, prepare, resolve
from understudy.runs.proof import prove, summarise
from understudy.runs.shipping import ship
from understudy.runs.training import Trainings, fill_store
from understudy.settings.calling import Source, recipe_of, silent
from understudy.settings.recipe import Recipe


def distill(
    recipe: str | Path | Recipe = "hinton",
    out: str | Path = "runs/distilled",
    *,
    teacher: Any = None,
    student: str | Mapping[str, Any] | None = None,
    train: Source = None,
    validation: Source = None,
    test: Source = None,
    transfer: Source = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    task: str | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    cache: str | Path | None = None,
    command: str = "",
    say: Say | None = print,
) -> Run:
    """Train a small student to imitate a teacher, measure it beside its controls, and write everything into a run folder.

    A recipe with tasks trains one student for all of them, with a teacher for each. `out/TASK` is then the run folder of a task, with a
    student that can be used alone (the encoders in them are equal), and `out/facts.json` summarizes them.

    Args:
        recipe: a packaged recipe by name (`understudy list recipes`), a .yaml file, or a `Recipe`.
        out: the run folder.
        teacher: folder of a fine-tuned model, or a file with its outputs; a list of folders is an ensemble.
        student: a kind, as `"bilstm"`, or a kind with its settings, as `{"kind": "bilstm", "hidden": 100}`.
        train: rows with labels; `validation` selects the checkpoint, `test` is only measured. Without them parts of `train` are split off.
        transfer: rows without labels, for the teacher to label.
        text: name of the column of texts, if it is not `text`; likewise `text_pair` and `label`.
        epochs: of every stage; so are `learning_rate`, `batch_size` and `temperature`.
        settings: any other setting by its dotted key, as in `{"stages.0.train.patience": 3}`.
        resume: continue a run that was stopped.
        overwrite: replace an existing run.
        device: `cpu`, `cuda`, `mps`; None: the fastest one available.
        cache: folder of controls and exports that runs share; None: `.controls` beside `out`.
        command: recorded in the facts.
        say: gets each line of progress; None is silent.

    Returns:
        the run: `facts` and `folder`; in a notebook it shows its table and verdict.

    Raises:
        UserError: the input does not fit; nothing is left behind.
    """
    recipe = recipe_of(
        recipe,
        teacher=teacher,
        student=student,
        train=train,
        validation=validation,
        test=test,
        transfer=transfer,
        text=text,
        text_pair=text_pair,
        label=label,
        task=task,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        max_length=max_length,
        temperature=temperature,
        seed=seed,
        settings=settings,
    )
    recipe, say = resolve(recipe), say or silent
    out, device = Path(out), find_device(device)
    cache = Path(cache or out.parent / ".controls")
    with main_process_first(device):
        resume = resume or is_helper()
        check(out, recipe.dump(), resume=resume, overwrite=overwrite)
        plan = prepare(recipe, say, device=device, run_folder=out)
        run = Run.start(out, recipe.dump(), inputs=plan.inputs, resume=resume, overwrite=overwrite, device=device)
        if run.finished:
            say(f"{out} is a finished run; nothing to do")
            return run
        runs = {name: run.of(name, inputs=task_plan.inputs, device=device) for name, task_plan in plan.tasks.items()}
        for name, task_plan in plan.tasks.items():
            keep_made_rows(task_plan, runs[name].folder)
        try:
            stores = {
                name: fill_store(task_plan, runs[name].folder, device, about(name, say))
                for name, task_plan in plan.tasks.items()
                if task_plan.recipe.teacher.models
            }
        except UserError:
            run.discard()
            raise
    trainings = Trainings(plan, run, runs, stores, device, say)
    models = {"student": trainings.student()}
    for control in recipe.control:
        models[f"student_{control}"] = trainings.control(control, cache)
    if is_helper():
        return run
    for name, task_plan in plan.tasks.items():  # a single one for most recipes
        report = about(name, say)
        task_models = {model: of_tasks[name] for model, of_tasks in models.items()}
        shipped = ship(task_plan, task_models["student"], runs[name].folder, cache, device=device, say=report)
        prove(
            runs[name], task_plan, task_models, stores.get(name), shipped, device=device, command=command, tasks=len(plan.tasks), say=report
        )
    if recipe.tasks is not None:
        summarise(run, plan, runs, command)
    return run
