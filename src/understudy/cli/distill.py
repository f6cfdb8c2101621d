from pathlib import Path
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
    out: options.Out = Path("runs/distilled"),
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
    no_baseline: options.NoBaseline = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Train a small student on a teacher's outputs. Compares it with the teacher and with the same student trained without it.

    \b
    understudy distill hinton --teacher runs/teacher --student bilstm --train train.csv --out runs/first
    understudy distill hinton --teacher runs/teacher --set student.layers='[0,2,4]' \\
        --epochs 3 --train train.jsonl.gz --validation validation.jsonl.gz --out runs/second
    understudy distill tang --teacher a --teacher b --train few.csv --transfer many.csv --control alone,pseudo_labels
    understudy distill bam --task mood=classification --task likeness=similarity --teacher mood=a --teacher likeness=b \\
        --train mood=mood.csv --train likeness=pairs.csv --out runs/both
    """
    from understudy.cli._recipe import recipe_from
    from understudy.programs.distill import distill
    from understudy.runs.folder import command_line

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
        no_baseline,
        short,
    )
    run = distill(built, out, resume=resume, overwrite=overwrite, device=device, command=command_line(), say=options.say)
    if run.finished:
        options.show(run.facts, as_json=json, page=run.folder / "report.html")
