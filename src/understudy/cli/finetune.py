from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder or hub name of a pretrained encoder, such as sentence-transformers/all-MiniLM-L6-v2; or a kind of student, to "
            "train it on the labels."
        ),
    ],
    task: options.Task = None,
    train: options.Train = None,
    validation: options.Validation = None,
    test: options.Test = None,
    out: options.Out = Path("runs/teacher"),
    column: options.Column = None,
    epochs: options.Epochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    set_: options.Set = None,
    seed: options.Seed = None,
    no_baseline: options.NoBaseline = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Fine-tune a pretrained encoder on labelled rows, as a teacher. Keeps the checkpoint with the best validation metric.

    \b
    understudy finetune sentence-transformers/all-MiniLM-L6-v2 --train train.csv --out runs/teacher
    understudy finetune path/to/encoder --train train.csv --column text=review --column label=stars \\
        --validation validation.csv --epochs 3 --learning-rate 1e-4 --set train.last_layers=4 --out runs/teacher
    """
    from understudy.programs.finetune import finetune
    from understudy.runs.folder import command_line
    from understudy.settings.finetune import FinetuneSettings
    from understudy.settings.listing import short_forms
    from understudy.settings.loading import build

    short = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "max_length": max_length}
    values = options.overrides(
        task=task,
        train=train,
        validation=validation,
        test=test,
        column=column,
        seed=seed,
        set_=set_,
        baseline=False if no_baseline else None,
        **short_forms({}, short),
    )
    settings = build(FinetuneSettings, {"model": model, "objective": {"kind": "labels"}}, values, where="finetune")
    run = finetune(settings, out, resume=resume, overwrite=overwrite, device=device, say=options.say, command=command_line())
    if run.finished:
        options.show(run.facts, as_json=json, page=run.folder / "report.html")
        options.say(f"Saved the model to {out}")
