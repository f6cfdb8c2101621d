import json as json_
from typing import Annotated

import typer

from understudy.cli import _options as options
from understudy.serving.limits import Limits

_DEFAULT = Limits()


def command(
    model: Annotated[str, typer.Argument(help="An exported folder.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all of them.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    threads: Annotated[
        int | None, typer.Option(min=1, help="That the model computes with; without it, all cores.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="int8 or float32; without it, int8 where there is one.")] = None,
    batch_rows: Annotated[int, typer.Option(help="Rows that the model gets at once.")] = _DEFAULT.batch_rows,
    wait_ms: Annotated[float, typer.Option(help="How long an idle model waits for more rows.")] = _DEFAULT.wait_ms,
    queue_rows: Annotated[
        int, typer.Option(help="Rows that may wait for the model; beyond them: 429.")
    ] = _DEFAULT.queue_rows,
    max_rows: Annotated[int, typer.Option(help="Of a request; beyond them: 413.")] = _DEFAULT.max_rows,
    max_characters: Annotated[int, typer.Option(help="Of a text; beyond them: 413.")] = _DEFAULT.max_characters,
    max_body_mib: Annotated[float, typer.Option(help="Of a request; beyond it: 413.")] = _DEFAULT.max_body_mib,
    json: options.Json = False,
) -> None:
    """Answer over HTTP with an exported model: POST /predict, GET /health, /metrics and /openapi.json. Needs no torch.

    SIGTERM or Ctrl-C stops it, when all that was accepted is answered.

    \b
    understudy serve exports/first
    understudy serve exports/first --host 0.0.0.0 --port 80 --threads 4
    curl http://127.0.0.1:8000/predict --json '{"text": "a gripping film"}'
    """
    from understudy.errors import RecipeError
    from understudy.runtime import Predictor
    from understudy.serving.server import serve

    if precision not in (None, "int8", "float32"):
        raise RecipeError(f"--precision {precision}: allowed are int8 and float32")

    def listening(url: str, export: Predictor) -> None:
        if json:
            facts = {"model": model, "url": url, "precision": export.precision, "threads": export.threads}
            print(json_.dumps(facts, ensure_ascii=False), flush=True)
        else:
            options.say(f"{model} answers at {url} ({export.precision}, threads: {export.threads})")

    serve(
        model, host=host, port=port, threads=threads, int8=None if precision is None else precision == "int8",
        limits=Limits(max_body_mib, max_rows, max_characters, queue_rows, batch_rows, wait_ms), listening=listening,
    )  # fmt: skip
