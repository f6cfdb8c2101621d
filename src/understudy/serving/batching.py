"""Requests that come while the model works are answered together."""

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

_FRESH_S = 5.0  # a model that answered so lately need not be asked whether it does
_PATIENCE_S = 10.0  # how long it may take to answer a single row before it counts as stuck


class QueueFull(Exception):
    """More rows wait than are allowed."""


@dataclass(eq=False)
class _Request:
    rows: Sequence[Row]
    answered: asyncio.Future[list[Answer]]
    came: float
    started: int = 0  # rows that the model was given
    answers: list[Answer] = field(default_factory=list)


class Batcher:
    """A queue before a model that works in a thread of its own, a batch at a time.

    An idle model starts at once. What comes while it works waits, and goes to it together, first come first served: so batches
    grow with the load by themselves, and a single caller waits for nobody.

    Args:
        predict: rows → an answer each; runs in the thread.
        probe: a row that any model of this kind can answer.
        limits: of the queue and of a batch.
        metrics: are told of every batch and of rows that were dropped.
    """

    def __init__(
        self, predict: Callable[[Sequence[Row]], list[Answer]], probe: Row, limits: Limits, metrics: Metrics
    ) -> None:
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
            their answers, in order; cancel it, and the rows that have not started are dropped.

        Raises:
            QueueFull: more rows would wait than are allowed.
        """
        if self.waiting_rows + len(rows) > self._limits.queue_rows:
            raise QueueFull
        return self._queue(rows, self._waiting.append)

    async def answers(self) -> bool:
        """Whether the model answers: lately, or now that it is asked, before all that waits."""
        if asyncio.get_running_loop().time() - self._answered_at < _FRESH_S:
            return True
        if self._probe is None or self._probe.done():  # many may ask at once; the model runs it once
            self._probe = self._queue([self._probe_row], self._waiting.appendleft)
        await asyncio.wait({self._probe}, timeout=_PATIENCE_S)
        return self._probe.done() and self._probe.exception() is None

    def close(self) -> None:
        """Let the thread go, once it is done with its batch."""
        self._thread.shutdown()

    def _queue(self, rows: Sequence[Row], put: Callable[[_Request], None]) -> asyncio.Future[list[Answer]]:
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
        """Nobody waits for it any more: take what has not started out of the queue."""
        if left := len(request.rows) - request.started:
            request.started = len(request.rows)
            self._waiting.remove(request)
            self.waiting_rows -= left
            self._metrics.dropped_rows.inc(left)

    async def _work_off(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._wait_for_more()
            parts = self._take()
            if not parts:
                continue
            began = time.perf_counter()
            said = await loop.run_in_executor(self._thread, self._ask, [rows for _, rows in parts])
            self._metrics.batch(sum(len(rows) for _, rows in parts), time.perf_counter() - began)
            for (request, _), answers in zip(parts, said, strict=True):
                self._deliver(request, answers)

    async def _wait_for_more(self) -> None:
        left = self._waiting[0].came + self._limits.wait_ms / 1000 - asyncio.get_running_loop().time()
        if left > 0 and self.waiting_rows < self._limits.batch_rows:
            self._enough.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), left)

    def _take(self) -> list[_Part]:
        """The next batch: whole requests as long as they fit, and the beginning of one that does not."""
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

    def _ask(self, parts: Sequence[Sequence[Row]]) -> list[list[Answer] | Exception]:
        """In the thread. A batch that fails is asked again request by request, so that none fails for another's rows."""
        try:
            answers = iter(self._predict([row for part in parts for row in part]))
            return [list(islice(answers, len(part))) for part in parts]
        except Exception as error:
            if len(parts) == 1:
                return [error]
        return [self._ask([part])[0] for part in parts]

    def _deliver(self, request: _Request, answers: list[Answer] | Exception) -> None:
        if not isinstance(answers, Exception):
            self._answered_at = asyncio.get_running_loop().time()
        if request.answered.done():
            return
        if isinstance(answers, Exception):
            request.answered.set_exception(answers)
            return
        request.answers += answers
        if len(request.answers) == len(request.rows):
            request.answered.set_result(request.answers)
