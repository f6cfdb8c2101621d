"""The program `distill`: a student is taught, measured beside its controls, and written into a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.machine import find_device, is_helper, main_process_first
from understudy.runs.folder import Run, Say, check
from understudy.runs.made_rows import keep_made_rows
from understudy.runs.preparation import prepare, resolve
from understudy.runs.proof import prove
from understudy.runs.shipping import ship
from understudy.runs.training import Trainings, fill_store, train_control, train_student
from understudy.settings.calling import Source, recipe_of, silent
from understudy.settings.recipe import Recipe


def distill(
    recipe: str | Path | Recipe = "hinton", out: str | Path = "runs/distilled", *, teacher: Any = None,
    student: str | Mapping[str, Any] | None = None, train: Source = None, validation: Source = None, test: Source = None,
    transfer: Source = None, text: str | None = None, text_pair: str | None = None, label: str | None = None, task: str | None = None,
    epochs: float | None = None, learning_rate: float | None = None, batch_size: int | None = None, max_length: int | None = None,
    temperature: float | None = None, seed: int | None = None, settings: Mapping[str, Any] | None = None, resume: bool = False,
    overwrite: bool = False, device: str | None = None, shelf: str | Path | None = None, command: str = "", say: Say | None = print,
) -> Run:  # fmt: skip
    """Train a small student to imitate a teacher, measure it beside its controls, and write it all into a run folder.

    Args:
        recipe: a packaged recipe by name (`understudy list recipes`), a .yaml file, or a `Recipe`.
        out: the run folder.
        teacher: folder of a fine-tuned model, or a file with its outputs; a list of them is an ensemble.
        student: a kind, as `"bilstm"`, or a kind with its settings, as `{"kind": "bilstm", "hidden": 100}`.
        train: rows with labels; `validation` selects the checkpoint, `test` is only measured. Without them parts of `train` are split off.
        transfer: rows without labels, for the teacher to label.
        text: name of the column of texts, where it is not `text`; likewise `text_pair` and `label`.
        epochs: of every stage; so are `learning_rate`, `batch_size` and `temperature`.
        settings: any other setting by its dotted key, as in `{"stages.0.train.patience": 3}`.
        resume: continue a run that was stopped.
        overwrite: replace an existing run.
        device: `cpu`, `cuda`, `mps`; None takes the fastest there is.
        shelf: folder of controls that runs share; None: `.controls` beside `out`.
        command: recorded in the facts.
        say: gets each line of progress; None is silent.

    Returns:
        the run: `facts` and `folder`; in a notebook it shows its table and verdict.

    Raises:
        UserError: the input does not fit; nothing is left behind.
    """
    recipe = recipe_of(
        recipe, teacher=teacher, student=student, train=train, validation=validation, test=test, transfer=transfer, text=text,
        text_pair=text_pair, label=label, task=task, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        max_length=max_length, temperature=temperature, seed=seed, settings=settings,
    )  # fmt: skip
    say = say or silent
    out, device = Path(out), find_device(device)
    shelf = Path(shelf or out.parent / ".controls")
    if recipe.tasks is not None:
        from understudy.runs.multitask import distill_tasks  # it knows this file

        return distill_tasks(
            recipe, out, resume=resume, overwrite=overwrite, device=device, shelf=shelf, command=command, say=say
        )
    recipe = resolve(recipe)
    with main_process_first(device):
        resume = resume or is_helper()
        check(out, recipe.dump(), resume=resume, overwrite=overwrite)
        plan = prepare(recipe, say, device=device, run_folder=out)
        run = Run.start(out, recipe.dump(), inputs=plan.inputs, resume=resume, overwrite=overwrite, device=device)
        if run.finished:
            say(f"{out} is a finished run; nothing to do")
            return run
        keep_made_rows(plan, run.folder)
        try:
            store = fill_store(plan, run.folder, device, say)
        except UserError:
            run.discard()
            raise
    work = Trainings(plan, run, store, device, say)
    models = {"student": train_student(work)}
    for control in recipe.control:
        models[f"student_{control}"] = train_control(work, control, shelf)
    if is_helper():
        return run
    shipped = ship(plan, models["student"], run.folder, shelf, device=device, say=say)
    prove(run, plan, models, store, shipped, device=device, command=command, say=say)
    return run
