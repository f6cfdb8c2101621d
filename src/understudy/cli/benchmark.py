import json as json_
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    models: Annotated[list[str], typer.Argument(help="Folders of fine-tuned models, students, and exports.")],
    data: Annotated[str, typer.Option(help="Rows to measure on; if they are labelled, quality is measured too.")],
    task: options.TaskOfModel = None,
    column: options.Column = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads for every model; default: as many as torch uses.")] = None,
    json: options.Json = False,
) -> None:
    """Measure speed, memory, size and quality of several models. Compares torch, ONNX and int8 ONNX side by side.

    \b
    understudy benchmark runs/teacher runs/first/student exports/first --data test.csv --column text=review --column label=stars
    """
    from understudy.programs.benchmark import benchmark

    facts = benchmark(models, data, columns=options.columns(column), threads=threads, task=task, say=options.say)
    if json:
        print(json_.dumps(facts, ensure_ascii=False))
        return
    from rich.console import Console

    from understudy.reporting.table import benchmark_table

    console = Console()
    console.print(benchmark_table(facts))
    console.print(
        f"{facts['threads']} threads, batches of {facts['batch_size']} rows of similar length, tokenization included; "
        "in brackets the slowest and the fastest of five rounds.",
        soft_wrap=True,
    )
