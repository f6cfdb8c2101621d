"""The program `serve`: serves an export over HTTP."""

from __future__ import annotations

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
    folder: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int | None = None,
    int8: bool | None = None,
    limits: Limits | None = None,
    task: str | None = None,
    listening: Callable[[str, Predictor], None] = lambda url, export: None,
) -> None:
    """Serve an export over HTTP until SIGTERM or SIGINT; the requests received by then are still answered.

    Pick it for programs in other languages or on other machines; in Python, `Predictor` needs no server.

    Args:
        folder: an export of `understudy export`.
        host: address to listen at.
        port: 0 takes a free one.
        threads: that the model uses; None: all available cores.
        int8: True for the quantized model, False for the float32 one; None: the quantized one, if there is one.
        limits: on requests.
        task: kind of task, if its class is in a file of yours; the export names that file, but it is not run without this.
        listening: is called with the URL and the model once the server answers.

    Raises:
        ModelError: not an export, or one that cannot be run.
        RecipeError: the address cannot be listened at, or the extra `serve` is not installed.
    """
    _check_installed()
    with bound(host, port) as listener:
        export = Predictor(folder, threads=threads, int8=int8, task=task)
        assert export.task  # found before the first request
        server = create_server(export, limits or Limits(), lambda: listening(_url(listener), export))
        with _stopped_by_signals():
            server.run([listener])


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Ignore the signal that uvicorn raises again after it has stopped: being stopped is not a failure."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _check_installed() -> None:
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            name = package.replace("_", "-")
            raise RecipeError(f"serving needs {name}, which is not installed; run: {install_command('serve')}")
