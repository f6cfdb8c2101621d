"""Batches for the model: requests that arrive while it works are predicted together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from understudy.serving.limits import Limits
from understudy.serving.metrics import Metrics

Row = tuple[str, str | None]  # a text and its pair
Answer = dict[str, Any]
_Part = tuple["_Request", Sequence[Row]]

_FRESH_S = 5.0  # a model that answered within this time counts as healthy without a probe
_PATIENCE_S = 10.0  # a model that needs longer for the probe counts as unhealthy


class QueueFull(Exception):
    """The rows of a request do not fit into the queue."""


@dataclass(eq=False)
class _Request:
    """Rows in the queue.

    Args:
        rows: of the request.
        answered: done when all rows are predicted.
        arrived: time of the event loop, in seconds.
        started: rows that are in a batch already.
        answers: of the rows predicted so far.
    """

    rows: Sequence[Row]
    answered: asyncio.Future[list[Answer]]
    arrived: float
    started: int = 0
    answers: list[Answer] = field(default_factory=list)


class Batcher:
    """A queue before a model, which predicts batch after batch in a separate thread.

    An idle model starts at once. Rows that arrive while it works wait, and form the next batch, first come first served. So batches
    grow with the load, and a single client waits for nobody.

    Args:
        predict: rows → an answer each; runs in the thread.
        probe: a row that any model can predict.
        limits: of the queue and of a batch.
        metrics: count every batch and every dropped row.
    """

    def __init__(self, predict: Callable[[Sequence[Row]], list[Answer]], probe: Row, limits: Limits, metrics: Metrics) -> None:
        self.waiting_rows = 0
        self._predict, self._probe_row, self._limits, self._metrics = predict, probe, limits, metrics
        self._waiting: deque[_Request] = deque()
        self._enough = asyncio.Event()  # rows for a whole batch
        self._work: asyncio.Task[None] | None = None
        self._probe: asyncio.Future[list[Answer]] | None = None
        self._answered_at = float("-inf")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        metrics.queue_rows.set_function(lambda: self.waiting_rows)

    def submit(self, rows: Sequence[Row]) -> asyncio.Future[list[Answer]]:
        """Queue the rows of a request, at least one.

        Returns:
            A future of their answers, in order. When it is cancelled, rows that are in no batch yet are dropped.

        Raises:
            QueueFull: the rows do not fit into the queue.
        """
        if self.waiting_rows + len(rows) > self._limits.queue_rows:
            raise QueueFull
        return self._queue(rows, self._waiting.append)

    async def answers(self) -> bool:
        """Whether the model works: it answered recently, or answers a probe, which goes to the front of the queue."""
        if asyncio.get_running_loop().time() - self._answered_at < _FRESH_S:
            return True
        if self._probe is None or self._probe.done():  # one probe serves all health checks at a time
            self._probe = self._queue([self._probe_row], self._waiting.appendleft)
        await asyncio.wait({self._probe}, timeout=_PATIENCE_S)
        return self._probe.done() and self._probe.exception() is None

    def close(self) -> None:
        """End the thread when it is done with its batch."""
        self._thread.shutdown()

    def _queue(self, rows: Sequence[Row], put: Callable[[_Request], None]) -> asyncio.Future[list[Answer]]:
        """Queue rows at the end that `put` appends to, and start the work if none is running."""
        loop = asyncio.get_running_loop()
        request = _Request(rows, loop.create_future(), loop.time())
        request.answered.add_done_callback(lambda _: self._drop(request))
        put(request)
        self.waiting_rows += len(rows)
        if self.waiting_rows >= self._limits.batch_rows:
            self._enough.set()
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._work_off())
        return request.answered

    def _drop(self, request: _Request) -> None:
        """Remove the rows of a finished or cancelled request that are in no batch yet."""
        if left := len(request.rows) - request.started:
            request.started = len(request.rows)
            self._waiting.remove(request)
            self.waiting_rows -= left
            self._metrics.dropped_rows.inc(left)

    async def _work_off(self) -> None:
        """Predict batch after batch until the queue is empty."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._wait_for_more()
            parts = self._take()
            if not parts:
                continue
            began = time.perf_counter()
            outcomes = await loop.run_in_executor(self._thread, self._predict_parts, [rows for _, rows in parts])
            self._metrics.batch(sum(len(rows) for _, rows in parts), time.perf_counter() - began)
            for (request, _), outcome in zip(parts, outcomes, strict=True):
                self._deliver(request, outcome)

    async def _wait_for_more(self) -> None:
        """Wait for a full batch, at most `wait_ms` after the first request arrived."""
        left = self._waiting[0].arrived + self._limits.wait_ms / 1000 - asyncio.get_running_loop().time()
        if left > 0 and self.waiting_rows < self._limits.batch_rows:
            self._enough.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), left)

    def _take(self) -> list[_Part]:
        """The next batch: whole requests while they fit, then the first rows of one that does not."""
        parts: list[_Part] = []
        room = self._limits.batch_rows
        while room and self._waiting:
            request = self._waiting[0]
            if request.answered.done():
                self._drop(request)
                continue
            rows = request.rows[request.started : request.started + room]
            parts.append((request, rows))
            request.started += len(rows)
            room -= len(rows)
            self.waiting_rows -= len(rows)
            if request.started == len(request.rows):
                self._waiting.popleft()
        return parts

    def _predict_parts(self, parts: Sequence[Sequence[Row]]) -> list[list[Answer] | Exception]:
        """The answers, or the error, of each part of a batch; runs in the thread.

        A batch that fails is predicted again part by part, so that no request fails because of another's rows.
        """
        try:
            answers = iter(self._predict([row for part in parts for row in part]))
            return [list(islice(answers, len(part))) for part in parts]
        except Exception as error:
            if len(parts) == 1:
                return [error]
        return [self._predict_parts([part])[0] for part in parts]

    def _deliver(self, request: _Request, outcome: list[Answer] | Exception) -> None:
        """Give a request its answers, or its error."""
        if not isinstance(outcome, Exception):
            self._answered_at = asyncio.get_running_loop().time()
        if request.answered.done():
            return
        if isinstance(outcome, Exception):
            request.answered.set_exception(outcome)
            return
        request.answers += outcome
        if len(request.answers) == len(request.rows):
            request.answered.set_result(request.answers)
