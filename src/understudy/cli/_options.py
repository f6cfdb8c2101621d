"""Options that several commands share, and the settings that they set."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.errors import RecipeError

TASK = "What is predicted: classification (the default), another of `understudy list tasks`, or ./mine.py:MyTask."
Task = Annotated[str | None, typer.Option(help=TASK)]
TaskOfModel = Annotated[
    str | None, typer.Option("--task", help="./mine.py:MyTask, where the model is of a task of yours; default: the model's task.")
]
Teachers = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        help="Folder of a fine-tuned model, or a file with its outputs (logits, probabilities or labels). Repeat for an ensemble.",
    ),
]
Student = Annotated[str | None, typer.Option(help="Kind of student (understudy list students); default: the one of the recipe.")]
Control = Annotated[
    str | None,
    typer.Option(
        help="Controls to compare with: alone (the same student without the teacher), pseudo_labels (on its predicted labels), or "
        "both: alone,pseudo_labels."
    ),
]
NoControl = Annotated[
    bool, typer.Option("--no-control", help="Skip the controls. Without them the report cannot say whether the teacher helped.")
]
NoExport = Annotated[bool, typer.Option("--no-export", help="Skip the ONNX exports; the quantized teacher is not measured either.")]
TRAIN = "Labelled rows: .jsonl .json .csv .tsv .parquet (each also .gz), a folder, or a hub data set."
VALIDATION = "Labelled rows that select the best checkpoint; default: a tenth of --train is split off."
TEST = "Labelled rows for the reported metrics; default: the --validation rows if given, else a tenth of --train is split off."
TRANSFER = "Unlabelled rows, which the teacher labels. Without --train, no labels are needed at all."
Train = Annotated[str | None, typer.Option(help=TRAIN)]
Validation = Annotated[str | None, typer.Option(help=VALIDATION)]
Test = Annotated[str | None, typer.Option(help=TEST)]
Transfer = Annotated[str | None, typer.Option(help=TRANSFER)]
# The same options for a recipe that may have several tasks.
_EACH = "NAME=… for each task of a recipe that has several."
Tasks = Annotated[list[str] | None, typer.Option("--task", help=f"{TASK} {_EACH}")]
Trains = Annotated[list[str] | None, typer.Option("--train", help=f"{TRAIN} {_EACH}")]
Validations = Annotated[list[str] | None, typer.Option("--validation", help=f"{VALIDATION} {_EACH}")]
Tests = Annotated[list[str] | None, typer.Option("--test", help=f"{TEST} {_EACH}")]
Transfers = Annotated[list[str] | None, typer.Option("--transfer", help=f"{TRANSFER} {_EACH}")]
Stores = Annotated[list[str] | None, typer.Option("--store", help=f"Folder that caches the teacher's outputs for several runs. {_EACH}")]
Raw = Annotated[
    str | None,
    typer.Option(help="Unlabelled text for masked language modelling: .txt (or .txt.gz), one paragraph per line, or rows with text."),
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        help="The teacher before fine-tuning: student layers are copied from it, and stages on unlabelled text use it as their teacher."
    ),
]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", help="Map a column: text, text_pair or label = its name in the file, as in text=review. Repeatable."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting by its dotted key (understudy list settings), as in data.train_rows=500. Repeatable."),
]
Seed = Annotated[int | None, typer.Option(help="Random seed.")]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
NoBaseline = Annotated[
    bool, typer.Option("--no-baseline", help="Leave out the n-gram baseline: a linear model without a teacher or a neural network.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume a run that was interrupted.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; default: the fastest available.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


_STAGES = "; of every stage, where a recipe has several."
Epochs = Annotated[float | None, typer.Option(help=f"Training epochs{_STAGES}")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", "--lr", help=f"Peak learning rate{_STAGES}")]
BatchSize = Annotated[int | None, typer.Option(help=f"Batch size{_STAGES}")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens kept per row; default: the model's limit, at most 512.")]
Temperature = Annotated[float | None, typer.Option(help="Distillation temperature of every objective that has one.")]


_notes: set[str] = set()  # notes that this command has printed


def say(line: str) -> None:
    """Print a line on stderr, above the progress bars; stdout is for results. The same note is printed once in a command."""
    if line.startswith("Note:"):
        if line in _notes:
            return
        _notes.add(line)
    if "tqdm" not in sys.modules:
        print(line, file=sys.stderr)
        return
    from tqdm.auto import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        print(line, file=sys.stderr)


def forget_notes() -> None:
    """Let a new command print notes that an earlier one in this process has printed."""
    _notes.clear()


def recipe_or_default(recipe: str | None) -> str:
    """The given recipe, or `hinton` with a line on stderr."""
    if recipe is None:
        say("No recipe given: using hinton, soft targets beside the labels. For others: understudy list recipes")
    return recipe or "hinton"


def columns(pairs: list[str] | None) -> dict[str, str]:
    """`["text=review"]` → `{"text": "review"}`.

    Raises:
        RecipeError: no equals sign, or nothing on one side of it.
    """
    names = {}
    for pair in pairs or []:
        ours, equals, theirs = pair.partition("=")
        if not equals or not ours or not theirs:
            raise RecipeError(f"--column {pair}: write it as our name=the file's name, for example --column text=review")
        names[ours] = theirs
    return names


def overrides(
    *,
    column: list[str] | None,
    seed: int | None,
    set_: list[str] | None,
    task: str | None = None,
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Given options as dotted keys; `--set` overrides the others.

    Raises:
        RecipeError: `--column` or `--set` without an equals sign, or a value that is not YAML.
    """
    from understudy.settings.loading import parse_overrides

    values = {
        "task": task,
        "data.train": train,
        "data.validation": validation,
        "data.test": test,
        "data.columns": columns(column) or None,
        "seed": seed,
        **more,
    }
    return {key: value for key, value in values.items() if value is not None} | parse_overrides(set_ or [])


def show(facts: dict[str, Any], *, as_json: bool, page: Path | None = None) -> None:
    """Print facts as JSON; or as a table and, for a run, the verdict and the path of its page."""
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    from rich.console import Console

    from understudy.reporting.display import parts_of

    console, (table, *sentences) = Console(), parts_of(facts)
    console.print(table)
    if page is not None or "findings" in facts:  # `evaluate` has a table only
        for line in (*sentences, *([f"The page: {page}"] if page else [])):
            console.print(line, soft_wrap=True)
