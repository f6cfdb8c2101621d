"""The program `serve`: an export behind HTTP, from its folder to a graceful stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import ModelError, RecipeError
from understudy.installation import install_command
from understudy.runtime import Predictor
from understudy.serving.limits import Limits

if TYPE_CHECKING:
    import uvicorn

_STOP_S = 60  # at a stop, a caller who does not take its answer by then is cut off
_IDLE_S = 75  # longer than proxies keep a connection, which would otherwise ask on one that closes just then
_LAST_WORDS_S = 0.1  # at a stop, what callers had sent by then is still read


def serve(
    folder: str | Path, *, host: str = "127.0.0.1", port: int = 8000, threads: int | None = None, int8: bool | None = None,
    limits: Limits | None = None, listening: Callable[[str, Predictor], None] = lambda url, export: None,
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
        listening: is told the URL and the model, once it answers.

    Raises:
        ModelError: no export, or one that does not answer.
        RecipeError: an address that cannot be listened at, or the extra `serve` is not installed.
    """
    _check_installed()
    if threads is not None:  # the tokenizer's threads, which would otherwise be all cores
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    with bound(host, port) as listener:
        export = Predictor(folder, threads=threads, int8=int8)
        server = create_server(export, limits or Limits(), lambda: listening(_url(listener), export))
        with _asked_to_stop():
            server.run([listener])


def create_server(export: Predictor, limits: Limits, listening: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """A server that is ready to run on a bound socket.

    Args:
        export: the loaded model.
        limits: what it takes at most.
        listening: is called once it listens.

    Raises:
        ModelError: the model does not answer.
    """
    import uvicorn

    from understudy.serving.app import PROBE, ask, create_app

    stopping = False

    async def program(scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: Any) -> None:
            if stopping and message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await app(scope, receive, noting)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            listening()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Nobody new; those who are here may finish their sentence, and are told that it is their last."""
            nonlocal stopping
            stopping = True
            for server in self.servers:
                server.close()
            await asyncio.sleep(_LAST_WORDS_S)
            await super().shutdown(sockets)
            app.state.batcher.close()

    try:
        ask(export, [PROBE])
    except Exception as error:
        raise ModelError(f"{export.folder}: the model does not work ({error}); export it again") from error
    app = create_app(export, limits)
    # h11 is the parser that the tests run with; others that may be installed treat broken requests otherwise.
    settings = uvicorn.Config(
        program, http="h11", ws="none", lifespan="off", log_config=None, log_level="error", access_log=False,
        proxy_headers=False, server_header=False, timeout_keep_alive=_IDLE_S, timeout_graceful_shutdown=_STOP_S,
    )  # fmt: skip
    return Server(settings)


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet: so trouble is found before a model is loaded.

    Raises:
        RecipeError: no such address, or it is not free.
    """
    where = f"--host {host} --port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError, OverflowError) as error:
        raise RecipeError(f"{where}: no such address ({error})") from None
    listener = socket.socket(family, kind, protocol)  # asyncio sends small answers at once only where it reads TCP here
    try:
        if os.name == "posix":  # a server that was stopped a moment ago is no obstacle
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise RecipeError(f"{where}: {error.strerror or error}; give another --port, or 0 for a free one") from None
    return listener


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
