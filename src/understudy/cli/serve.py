import json as json_
import os
from typing import Annotated

import typer

from understudy.cli import _options as options
from understudy.serving.limits import Limits

_DEFAULT = Limits()


def command(
    model: Annotated[str, typer.Argument(help="Folder that understudy export wrote; or a run folder: its export.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 8000,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of CPU threads; default: all cores.")] = None,
    precision: Annotated[str | None, typer.Option(help="int8 or float32; default: int8 where there is one.")] = None,
    batch_rows: Annotated[int, typer.Option(help="Rows per batch.")] = _DEFAULT.batch_rows,
    wait_ms: Annotated[float, typer.Option(help="How long an idle model waits for a fuller batch.")] = _DEFAULT.wait_ms,
    queue_rows: Annotated[int, typer.Option(help="Maximum rows in the queue (else HTTP 429).")] = _DEFAULT.queue_rows,
    max_rows: Annotated[int, typer.Option(help="Maximum rows per request (else HTTP 413).")] = _DEFAULT.max_rows,
    max_characters: Annotated[int, typer.Option(help="Maximum characters per text (else HTTP 413).")] = _DEFAULT.max_characters,
    max_body_mib: Annotated[float, typer.Option(help="Maximum size of a request (else HTTP 413).")] = _DEFAULT.max_body_mib,
    task: options.TaskOfModel = None,
    json: options.Json = False,
) -> None:
    """Serve an exported model over HTTP, without torch. Answers POST /predict, GET /health, /metrics and /openapi.json.

    SIGTERM or Ctrl-C stops it once all accepted requests are answered.

    \b
    understudy serve exports/first
    understudy serve exports/first --host 0.0.0.0 --port 80 --threads 4
    curl http://127.0.0.1:8000/predict -d '{"text": "a gripping film"}'
    """
    from understudy.errors import RecipeError
    from understudy.models.origin import model_in
    from understudy.programs.serve import serve
    from understudy.runtime import Predictor

    if precision not in (None, "int8", "float32"):
        raise RecipeError(f"--precision {precision}: allowed are int8 and float32")

    def listening(url: str, export: Predictor) -> None:
        if json:
            facts = {"model": model, "url": url, "precision": export.precision, "threads": export.threads}
            print(json_.dumps(facts, ensure_ascii=False), flush=True)
        else:
            options.say(f"Serving {model} at {url} ({export.precision}, threads: {export.threads})")

    if threads is not None:  # the tokenizer's, which would otherwise be all cores
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    serve(
        model_in(model, export=True, say=options.say),
        host=host,
        port=port,
        threads=threads,
        int8=None if precision is None else precision == "int8",
        listening=listening,
        task=task,
        limits=Limits(max_body_mib, max_rows, max_characters, queue_rows, batch_rows, wait_ms),
    )
