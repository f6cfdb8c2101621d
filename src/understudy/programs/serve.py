"""The program `serve`: an export behind HTTP, from its folder to a graceful stop."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from understudy.errors import RecipeError
from understudy.installation import install_command
from understudy.runtime import Predictor
from understudy.serving.limits import Limits
from understudy.serving.server import bound, create_server


def serve(
    folder: str | Path, *, host: str = "127.0.0.1", port: int = 8000, threads: int | None = None, int8: bool | None = None,
    limits: Limits | None = None, task: str | None = None, listening: Callable[[str, Predictor], None] = lambda url, export: None,
) -> None:  # fmt: skip
    """Answer for an export over HTTP until SIGTERM or SIGINT; then answer all that came, and return.

    Pick it where programs in other languages or on other machines ask; in Python, `Predictor` needs no server.

    Args:
        folder: what `understudy export` wrote.
        host: address to listen at.
        port: 0 takes a free one.
        threads: that the model computes with; None takes all cores at hand.
        int8: True for the quantized model, False for the float32 one; None takes the quantized one where there is one.
        limits: what it takes at most.
        task: kind of task, where it is in a file of yours; an export names it, but what it names is not run.
        listening: is told the URL and the model, once it answers.

    Raises:
        ModelError: no export, or one that does not answer.
        RecipeError: an address that cannot be listened at, or the extra `serve` is not installed.
    """
    _check_installed()
    if threads is not None:  # the tokenizer's threads, which would otherwise be all cores
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    with bound(host, port) as listener:
        export = Predictor(folder, threads=threads, int8=int8, task=task)
        assert export.task  # found before the first request
        server = create_server(export, limits or Limits(), lambda: listening(_url(listener), export))
        with _asked_to_stop():
            server.run([listener])


@contextmanager
def _asked_to_stop() -> Iterator[None]:
    """uvicorn raises the signal that stopped it again when it is done; to be asked to stop is no failure here."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _check_installed() -> None:
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            name = package.replace("_", "-")
            raise RecipeError(f"serving needs {name}, which is not installed; run: {install_command('serve')}")
