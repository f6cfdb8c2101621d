"""The paths of a server: their requests, responses and errors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from understudy import __version__
from understudy.runtime import Predictor
from understudy.serving.batching import Answer, Batcher, QueueFull, Row
from understudy.serving.limits import Limits
from understudy.serving.metrics import CONTENT_TYPE, Metrics
from understudy.serving.rows import answer_schema, read_rows, request_schema

PROBE: Row = ("a", "a")  # a row that any model can predict
_BODY_S = 30.0  # limit for receiving a body: a slower client would delay a graceful stop
_DISCONNECTED = Response(status_code=499)  # the usual status in logs and metrics; no client receives it

_REFUSALS = {
    400: "The body is not JSON.",
    408: f"The body was not received within {_BODY_S:.0f} s.",
    413: "Too large: bytes of the body, rows, or characters of a text.",
    422: "Not a row, or a text that cannot be predicted.",
    429: "The queue is full; try again later.",
    500: "The server failed.",
}


def create_app(export: Predictor, limits: Limits) -> FastAPI:
    """The ASGI application that serves an export.

    Pick it to run under another ASGI server; `serve` runs it with a graceful stop.

    Args:
        export: the loaded model.
        limits: of requests, queue and batches.
    """
    metrics = Metrics()
    batcher = Batcher(lambda rows: ask(export, rows), PROBE, limits, metrics)
    # No page at /docs: it would load scripts from a third party into the reader's browser.
    app = FastAPI(title="understudy", version=__version__, description="Predictions of an exported model.", docs_url=None, redoc_url=None)
    app.state.batcher = batcher

    @app.post(
        "/predict",
        summary="Predict one row, or a list of rows; the response has the same shape.",
        openapi_extra={"requestBody": {"required": True, "content": _json(request_schema(export, limits))}},
        responses={200: {"description": "A prediction for each row, in order.", "content": _json(answer_schema(export))}, **_refusals()},
    )
    async def predict(request: Request) -> Response:
        try:
            body = await _read_body(request, limits.max_body_bytes)
        except ClientDisconnect:
            return _DISCONNECTED
        rows, many = read_rows(body, export, limits)
        answers = await _answers(batcher, rows, request) if rows else []
        if answers is None:
            return _DISCONNECTED
        metrics.rows.inc(len(rows))
        return JSONResponse(answers if many else answers[0])

    @app.get(
        "/health",
        summary="Whether the model works.",
        responses={
            200: {"description": "It does.", "content": _json(_health_schema("ready"))},
            503: {"description": "It does not work.", "content": _json(_health_schema("unavailable"))},
        },
    )
    async def health() -> Response:
        ready = await batcher.answers()
        return JSONResponse(
            {"status": "ready" if ready else "unavailable", "task": export.about["task"], "precision": export.precision},
            200 if ready else 503,
        )

    @app.get(
        "/metrics",
        summary="Counters for Prometheus.",
        responses={200: {"description": "All of them.", "content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}},
        response_class=Response,
    )
    async def counters() -> Response:
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": "internal error; see the server's log"}, 500)

    app.add_middleware(metrics.count, paths=frozenset(app.openapi()["paths"]) | {"/openapi.json"})
    return app


def ask(export: Predictor, rows: Sequence[Row]) -> list[Answer]:
    """Answers of the model, without the texts, which the client has."""
    pairs = [str(pair) for _, pair in rows] if export.pair else None
    answers = export.predict([text for text, _ in rows], pairs)
    return [{name: value for name, value in answer.items() if name not in ("text", "text_pair")} for answer in answers]


async def _read_body(request: Request, limit: int) -> bytes:
    """The whole body; without a content length, its length is checked as it arrives.

    Args:
        limit: in bytes.

    Raises:
        HTTPException: 413 where it is too long, 408 where it takes too long.
        ClientDisconnect: the client is gone.
    """
    too_long = HTTPException(413, f"the body is longer than {limit} bytes")
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_long
    except TimeoutError:
        raise HTTPException(408, _REFUSALS[408], {"connection": "close"}) from None
    return bytes(body)


async def _answers(batcher: Batcher, rows: Sequence[Row], request: Request) -> list[Answer] | None:
    """Answers of the rows; None where the client disconnected first, and its queued rows are dropped.

    Raises:
        HTTPException: 429, the queue is full.
    """
    try:
        answered = batcher.submit(rows)
    except QueueFull:
        raise HTTPException(429, _REFUSALS[429], {"retry-after": "1"}) from None
    disconnected = asyncio.create_task(_wait_for_disconnect(request))
    either: set[asyncio.Future[Any]] = {answered, disconnected}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return await answered if answered.done() else None
    finally:
        answered.cancel()
        disconnected.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    """Return when the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _refusals() -> dict[int | str, dict[str, Any]]:
    """Responses of the errors, by status, as OpenAPI describes them."""
    schema = {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"], "additionalProperties": False}
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": description, "content": _json(schema)} for status, description in _REFUSALS.items()
    }
    responses[429]["headers"] = {"Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer"}}}
    return responses


def _health_schema(status: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"status": {"const": status}, "task": {"type": "string"}, "precision": {"enum": ["float32", "int8"]}},
        "required": ["status", "task", "precision"],
        "additionalProperties": False,
    }
