from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    model: Annotated[
        str,
        typer.Argument(help="Folder of a student, a teacher, any fine-tuned model or an export; of a run folder, its student is measured."),
    ],
    data: Annotated[str, typer.Option(help="Labelled rows; those without a label are left out.")],
    teacher: Annotated[str | None, typer.Option(help="Another model to compare with on the same rows.")] = None,
    task: options.Task = None,
    column: options.Column = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens kept per row; default: the model's limit.")] = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Measure a model on labelled rows. Reports quality with 95 % intervals, speed, size, and agreement with a teacher.

    \b
    understudy evaluate runs/first/student --data other.csv --column text=review --column label=stars
    understudy evaluate exports/first --teacher runs/teacher --data other.csv --json
    """
    from understudy.programs.evaluate import evaluate

    facts = evaluate(
        model, data, teacher=teacher, task=task, columns=options.columns(column), max_length=max_length, device=device, say=options.say
    )
    options.show(facts, as_json=json)
