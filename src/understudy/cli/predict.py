import json as json_
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli import _options as options


def command(
    model: Annotated[str, typer.Argument(help="An exported folder; or the folder of a fine-tuned model or student.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to predict; without them and without --input, standard input.")
    ] = None,
    input_: Annotated[
        str | None, typer.Option("--input", help="A file of rows instead, with a column text (text_pair).")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write JSON Lines there instead of printing.")] = None,
    pair: Annotated[str | None, typer.Option(help="The second text of a pair, with one text.")] = None,
    column: options.Column = None,
    precision: Annotated[
        str | None, typer.Option(help="int8 or float32, of an export; without it, int8 where there is one.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of an export; without it, all cores.")] = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Predict labels with their probabilities (or numbers, for a regression).

    \b
    understudy predict exports/first "a gripping film"
    understudy predict exports/first --input reviews.csv --column text=review --output predictions.jsonl
    cat texts.txt | understudy predict exports/first > predictions.jsonl
    understudy predict runs/first/student "a gripping film"
    """
    from understudy.errors import DataError
    from understudy.predicting import write_line, write_lines
    from understudy.runtime import is_export

    if texts and input_:
        raise DataError("give texts, or a file with --input; got both")
    if not texts and not input_ and sys.stdin.isatty():
        raise DataError("give texts, or a file with --input, or text on standard input; got neither")
    if pair is not None and len(texts or []) != 1:
        raise DataError(f"--pair goes with one text; got {len(texts or [])}")
    if is_export(model):
        answers = _of_export(model, texts, pair, input_, options.columns(column), precision, threads, device)
    else:
        answers = _of_model(model, texts, pair, input_, options.columns(column), precision, threads, device)
    if output is not None:
        print(f"{write_lines(answers, output):,} predictions in {output}", file=sys.stderr)
    elif json:
        print(json_.dumps({"model": model, "predictions": list(answers)}, ensure_ascii=False))
    elif not texts:
        for one in answers:
            write_line(one, sys.stdout)
    else:
        for one in answers:
            answer = f"{one['value']:.4f}" if "value" in one else f"{one['label']} ({one['probability']:.1%})"
            print(f"{answer}\t{one['text']}")


def _of_export(
    folder: str, texts: list[str] | None, pair: str | None, source: str | None, columns: Mapping[str, str], precision: str | None,
    threads: int | None, device: str | None,
) -> Iterable[Mapping[str, Any]]:  # fmt: skip
    from understudy.errors import RecipeError
    from understudy.predicting import predict_rows
    from understudy.runtime import Predictor

    if device not in (None, "cpu"):
        raise RecipeError(f"--device {device}: exports run on the processor; leave it out")
    if precision not in (None, "int8", "float32"):
        raise RecipeError(f"--precision {precision}: allowed are int8 and float32")
    export = Predictor(folder, threads=threads, int8=None if precision is None else precision == "int8")
    if texts:
        return export.predict(texts, None if pair is None else [pair])
    return predict_rows(export, source, columns=columns)


def _of_model(
    folder: str, texts: list[str] | None, pair: str | None, source: str | None, columns: dict[str, str], precision: str | None,
    threads: int | None, device: str | None,
) -> Iterable[Mapping[str, Any]]:  # fmt: skip
    from understudy.data.streams import stream_lines
    from understudy.errors import DataError, RecipeError
    from understudy.inference import predict

    if precision is not None or threads is not None:
        raise RecipeError(f"{folder} is no export, and --precision and --threads are of exports; leave them out")
    pairs = None if pair is None else [pair]
    if not texts and source is None:
        rows = list(stream_lines(sys.stdin.buffer))
        texts = [text for text, _ in rows]
        pairs = [second for _, second in rows if second is not None] or None
        if not texts or (pairs is not None and len(pairs) != len(texts)):
            raise DataError(
                f"standard input: {len(texts)} texts and {len(pairs or [])} second texts; give texts, and all their seconds or none"
            )
    return predict(folder, texts=texts, pairs=pairs, file=source, columns=columns, device=device)
