import json as json_
import sys
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    model: Annotated[str, typer.Argument(help="Folder of a fine-tuned model or student.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to predict.")] = None,
    input_: Annotated[
        str | None, typer.Option("--input", help="A file of rows instead, with a column text (text_pair).")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write JSON Lines there instead of printing.")] = None,
    pair: Annotated[str | None, typer.Option(help="The second text of a pair, with one text.")] = None,
    column: options.Column = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Predict labels with their probabilities (or numbers, for a regression).

    \b
    understudy predict runs/first/student "a gripping film"
    understudy predict runs/first/student --input reviews.csv --column text=review --output predictions.jsonl
    """
    from understudy.errors import DataError
    from understudy.inference import predict
    from understudy.run import write_whole

    if bool(texts) == bool(input_):
        raise DataError("give texts, or a file with --input; got " + ("both" if texts else "neither"))
    if pair is not None and len(texts or []) != 1:
        raise DataError(f"--pair goes with one text; got {len(texts or [])}")
    found = predict(model, texts=texts, pair=pair, file=input_, columns=options.columns(column), device=device)
    lines = [json_.dumps(one, ensure_ascii=False) for one in found]
    if output is not None:
        write_whole(output, "".join(line + "\n" for line in lines))
        print(f"{len(lines):,} predictions in {output}", file=sys.stderr)
    elif json:
        print(json_.dumps({"model": model, "predictions": found}, ensure_ascii=False))
    elif input_:
        print("\n".join(lines))
    else:
        for one in found:
            answer = f"{one['value']:.4f}" if "value" in one else f"{one['label']} ({one['probability']:.1%})"
            print(f"{answer}\t{one['text']}")
