"""Counters of a server, in the format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# An ASGI application, and the function that it sends messages with.
Send = Callable[[Any], Awaitable[None]]
Program = Callable[[Any, Any, Send], Awaitable[None]]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters of one server, in a separate registry: those of two servers in one process do not mix."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("understudy_requests", "Requests completed.", ["path", "status"], registry=registry)
        self.request_seconds = Histogram(
            "understudy_request_seconds",
            "Request duration in seconds, from its header to the end of the response.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.rows = Counter("understudy_rows", "Rows predicted.", registry=registry)
        self.dropped_rows = Counter(
            "understudy_dropped_rows", "Rows dropped from the queue because the client disconnected.", registry=registry
        )
        self.queue_rows = Gauge("understudy_queue_rows", "Rows waiting in the queue.", registry=registry)
        self.batch_rows = Histogram("understudy_batch_rows", "Rows per batch.", buckets=_ROWS, registry=registry)
        self.batch_seconds = Histogram("understudy_batch_seconds", "Model time per batch in seconds.", buckets=_SECONDS, registry=registry)

    def batch(self, rows: int, seconds: float) -> None:
        """Count a batch that was predicted in so many seconds."""
        self.batch_rows.observe(rows)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """All counters, as Prometheus reads them."""
        return generate_latest(self._registry)

    def count(self, program: Program, paths: frozenset[str]) -> Program:
        """The same ASGI application with its responses counted.

        Args:
            program: the application.
            paths: counted each; all others are counted together as `other`, since clients can request any path.
        """

        async def counted(scope: Any, receive: Any, send: Send) -> None:
            if scope["type"] != "http":
                await program(scope, receive, send)
                return
            status, began = 500, time.perf_counter()

            async def send_noting_status(message: Any) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await program(scope, receive, send_noting_status)
            finally:
                path = scope["path"] if scope["path"] in paths else "other"
                self.requests.labels(path, str(status)).inc()
                self.request_seconds.labels(path).observe(time.perf_counter() - began)

        return counted
