import json as json_
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    recipe: Annotated[str | None, typer.Argument(help="A packaged recipe (understudy list) or a .yaml file.  [default: hinton]")] = None,
    teacher: options.Teachers = None,
    student: options.Student = None,
    task: options.Tasks = None,
    train: options.Trains = None,
    validation: options.Validations = None,
    test: options.Tests = None,
    transfer: options.Transfers = None,
    raw: options.Raw = None,
    pretrained: options.Pretrained = None,
    column: options.Column = None,
    epochs: options.Epochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    temperature: options.Temperature = None,
    set_: options.Set = None,
    seed: options.Seed = None,
    store: options.Stores = None,
    control: options.Control = None,
    no_control: options.NoControl = False,
    no_export: options.NoExport = False,
    # These have no effect here; with them the command line of a run works for `plan` too.
    out: Annotated[str | None, typer.Option(hidden=True)] = None,
    no_baseline: Annotated[bool, typer.Option("--no-baseline", hidden=True)] = False,
    resume: Annotated[bool, typer.Option("--resume", hidden=True)] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", hidden=True)] = False,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Dry run of `distill` with the same options. Shows rows, updates, parameters, disk, time and memory; writes nothing.

    \b
    understudy plan hinton --teacher runs/teacher --student bilstm --train train.csv --transfer many.csv
    """
    from understudy.cli._recipe import recipe_from
    from understudy.programs.plan import plan

    short = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "max_length": max_length,
        "temperature": temperature,
    }
    built = recipe_from(
        options.recipe_or_default(recipe),
        teacher,
        student,
        task,
        train,
        validation,
        test,
        transfer,
        column,
        set_,
        seed,
        store,
        control,
        no_control,
        raw,
        pretrained,
        no_export,
        short=short,
    )
    estimate = plan(built, device=device, say=options.say)
    if json:
        print(json_.dumps(estimate, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for name, value in estimate.items():
        shown = (
            f"{value:,.1f}"
            if isinstance(value, float)
            else f"{value:,}"
            if isinstance(value, int)
            else "–"
            if value is None
            else str(value)
        )
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)
