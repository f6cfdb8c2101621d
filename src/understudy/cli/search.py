import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options
from understudy.errors import RecipeError

_UNITS = {"s": 1, "m": 60, "h": 3600}


def command(
    budget: Annotated[str, typer.Option(help="Limits on the exported student, as in 'latency_ms<=1, size_mib<=10'.")],
    teacher: options.Teachers = None,
    task: options.Task = None,
    train: options.Train = None,
    validation: options.Validation = None,
    test: options.Test = None,
    transfer: options.Transfer = None,
    out: options.Out = Path("runs/search"),
    space: Annotated[
        str | None, typer.Option(help="YAML file with the students, recipes and settings to try; default: the packaged search space.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Number of trials, over all workers.")] = 30,
    time: Annotated[str | None, typer.Option(help="Start no more trials after this: 90s, 30m, 2h.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="UNDERSTUDY_STORAGE",
            show_envvar=False,
            help="A database that several workers share, as in postgresql://user@host/database (or in UNDERSTUDY_STORAGE).",
        ),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="Only run trials of the search in --storage; another process distils the best.")
    ] = False,
    column: options.Column = None,
    epochs: options.Epochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    set_: options.Set = None,
    seed: options.Seed = None,
    store: Annotated[str | None, typer.Option(help="Folder that caches the teacher's outputs for several runs.")] = None,
    no_export: Annotated[
        bool, typer.Option("--no-export", help="Apply the budget to the torch model instead of its ONNX exports.")
    ] = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Search for the best student within a budget. Tries students, recipes and settings, and distils the best.

    \b
    understudy search --teacher runs/teacher --train train.csv --budget 'latency_ms<=1, size_mib<=10' --out runs/search
    understudy search --teacher runs/teacher --train train.csv --budget 'size_mib<=5' --trials 60 --time 2h --resume
    understudy search --teacher runs/teacher --train train.csv --budget 'size_mib<=5' --space mine.yaml \\
        --storage postgresql://me@host/studies --worker --out runs/worker
    """
    from understudy.programs.search import search
    from understudy.runs.folder import command_line
    from understudy.settings.listing import short_forms

    short = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "max_length": max_length}
    settings = options.overrides(
        task=task,
        train=train,
        validation=validation,
        test=test,
        column=column,
        seed=seed,
        set_=set_,
        **short_forms({"stages": [{}]}, short),  # all recipes of a search have one stage
        **{"data.transfer": transfer, "teacher.models": teacher, "teacher.store": store, "export": [] if no_export else None},
    )
    with suppress(ImportError):  # the program says what is missing
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
    run = search(
        settings,
        budget,
        out,
        space=space,
        trials=trials,
        seconds=_seconds(time),
        storage=storage,
        worker=worker,
        resume=resume,
        overwrite=overwrite,
        device=device,
        command=command_line(),
        say=options.say,
    )
    if not run.finished:
        return
    options.show(run.facts, as_json=json, page=run.folder / "report.html")


def _seconds(text: str | None) -> float | None:
    """`30m` → 1800.

    Raises:
        RecipeError: not a number with a unit.

    >>> _seconds("1.5h")
    5400.0
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not match or not float(match[1]):
        raise RecipeError(f"--time {text}: write it as a number above 0 with a unit, as in 90s, 30m or 2h")
    return float(match[1]) * _UNITS[match[2]]
