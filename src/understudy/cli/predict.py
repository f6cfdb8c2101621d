import json as json_
import sys
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="An exported model, a student, a teacher or any fine-tuned model; or a run folder: its export, else its student."
        ),
    ],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify; without them and without --input, standard input.")] = None,
    input_: Annotated[str | None, typer.Option("--input", help="A file of rows with a column text (and text_pair): see --column.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write a .csv, .tsv or .jsonl file (each also .gz) instead of printing.")] = None,
    keep_columns: Annotated[
        bool, typer.Option("--keep-columns", help="Keep all columns of the input, and append the predictions.")
    ] = False,
    pair: Annotated[str | None, typer.Option(help="The second text, for one text and a model of pairs.")] = None,
    task: options.TaskOfModel = None,
    column: options.Column = None,
    precision: Annotated[str | None, typer.Option(help="Exports only: int8 or float32; default int8 where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Exports only: CPU threads; default all cores.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --output names.")] = False,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Predict labels with probabilities, or similarities.

    CSV files get the predicted label and its probability; JSON Lines get the probabilities of all classes too.

    \b
    understudy predict exports/first "a gripping film"
    understudy predict runs/first --input reviews.csv --column text=review --keep-columns --output predictions.csv
    cat texts.txt | understudy predict exports/first > predictions.jsonl
    understudy predict runs/pairs "How old are you?" --pair "What is your age?"
    """
    from understudy.models.origin import model_in
    from understudy.programs.predict import answering, check_output, files_among, line_writer, predict_rows, rows_of, shown, write_answers

    _check(texts or [], input_, pair, keep_columns)
    if output is not None:
        check_output(output, overwrite=overwrite)
    for text in files_among([*(texts or []), *([] if pair is None else [pair])]):
        options.say(f"Note: '{text}' is a file, but its name is classified as a text. To read the file: --input {text}")
    answer = answering(model_in(model, export=True, say=options.say), precision=precision, threads=threads, device=device, task=task)
    if texts:
        answers = iter(answer(rows_of(texts, None if pair is None else [pair])))
    else:
        answers = predict_rows(answer, input_, columns=options.columns(column), keep_columns=keep_columns, say=options.say)
    if output is not None:
        options.say(f"{write_answers(answers, output):,} predictions in {output}")
    elif json:
        print(json_.dumps({"model": model, "predictions": list(answers)}, ensure_ascii=False, default=str))
    elif not texts:
        write = line_writer(sys.stdout)
        for prediction in answers:
            write(prediction)
    else:
        for prediction in answers:
            print(shown(prediction))


def _check(texts: list[str], file: str | None, pair: str | None, keep_columns: bool) -> None:
    """Refuse options that exclude each other.

    Raises:
        DataError: texts and a file, neither of them, or an option that belongs to the other.
    """
    from understudy.errors import DataError

    if texts and file:
        raise DataError("give texts, or a file with --input; got both")
    if not texts and not file and sys.stdin.isatty():
        raise DataError("give texts, or a file with --input, or text on standard input; got neither")
    if pair is not None and len(texts) != 1:
        raise DataError(f"--pair goes with one text; got {len(texts)}")
    if texts and keep_columns:
        raise DataError("--keep-columns goes with --input or standard input, not with texts")
