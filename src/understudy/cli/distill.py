from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    recipe: Annotated[
        str | None, typer.Argument(help="A packaged recipe (understudy list) or a .yaml file.  [default: hinton]")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder of a fine-tuned model, or a file with its outputs (logits, probabilities or labels). Repeat for an ensemble."
        ),
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="Kind of student (understudy list students); default: the one of the recipe.")
    ] = None,
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
    control: Annotated[
        str | None,
        typer.Option(
            help="Controls to compare with: alone (the same student without the teacher), pseudo_labels (on its predicted labels), or "
            "both: alone,pseudo_labels."
        ),
    ] = None,
    no_control: Annotated[
        bool,
        typer.Option(
            "--no-control", help="Skip the controls. Without them the report cannot say whether the teacher helped."
        ),
    ] = False,
    no_export: Annotated[
        bool, typer.Option("--no-export", help="Skip the ONNX exports; the quantized teacher is not measured either.")
    ] = False,
    no_baseline: options.NoBaseline = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Train a small student on a teacher's outputs, and compare it with the teacher and with the same student trained without it.

    \b
    understudy distill hinton --teacher runs/teacher --student bilstm --train train.csv --out runs/first
    understudy distill hinton --teacher runs/teacher --set student.layers='[0,2,4]' \\
        --epochs 3 --train train.jsonl.gz --validation validation.jsonl.gz --out runs/second
    understudy distill tang --teacher a --teacher b --train few.csv --transfer many.csv --control alone,pseudo_labels
    understudy distill bam --task mood=classification --task likeness=similarity --teacher mood=a --teacher likeness=b \\
        --train mood=mood.csv --train likeness=pairs.csv --out runs/both
    """
    from understudy.cli._recipe import recipe_from
    from understudy.pipeline import distill
    from understudy.run import command_line

    short = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "max_length": max_length,
             "temperature": temperature}  # fmt: skip
    built = recipe_from(options.recipe_or_default(recipe), teacher, student, task, train, validation, test, transfer, column, set_, seed,
                        store, control, no_control, raw, pretrained, no_export, no_baseline, short)  # fmt: skip
    run = distill(
        built, out, resume=resume, overwrite=overwrite, device=device, command=command_line(), say=options.say
    )
    if run.finished:
        options.show(run.facts, as_json=json, page=run.folder / "report.html")
