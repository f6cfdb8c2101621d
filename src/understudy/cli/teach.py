import json as json_
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    teacher: Annotated[list[str], typer.Option(help="Folder of a fine-tuned model. Repeat for an ensemble.")],
    store: Annotated[Path, typer.Option(help="Cache folder; created, or completed.")],
    task: options.Task = None,
    train: options.Train = None,
    validation: options.Validation = None,
    test: options.Test = None,
    transfer: options.Transfer = None,
    column: options.Column = None,
    max_length: options.MaxLength = None,
    set_: options.Set = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Cache the teacher's outputs in a folder. Several runs share it (`distill --store`); it resumes where it was stopped.

    \b
    understudy teach --teacher runs/teacher --train train.csv --transfer many.csv --store runs/outputs
    """
    from understudy.cli._recipe import recipe_from
    from understudy.programs.teach import teach

    # This recipe works with any teacher, of classes or numbers; only its data settings matter here.
    recipe = recipe_from(
        "tang", teacher, None, task, train, validation, test, transfer, column, set_, None, short={"max_length": max_length}
    )
    counts = teach(recipe, store, device=device, say=options.say)
    print(
        json_.dumps({"store": str(store), **counts})
        if json
        else f"{counts['computed']:,} rows computed, {counts['kept']:,} kept in {store}"
    )
