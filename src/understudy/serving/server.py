"""A server with a graceful stop, and the socket that it listens on."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from understudy.errors import ModelError, RecipeError
from understudy.runtime import Predictor
from understudy.serving.limits import Limits

if TYPE_CHECKING:
    import uvicorn

_STOP_S = 60  # at a stop, connections whose responses are not received by then are closed
_IDLE_S = 75  # longer than proxies keep a connection; a proxy could else send a request on one that is just being closed
_LAST_REQUESTS_S = 0.1  # at a stop, requests that arrive within this time are still read


def create_server(export: Predictor, limits: Limits, listening: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """A server that is ready to run on a bound socket.

    Args:
        export: the loaded model.
        limits: of requests, queue and batches.
        listening: called when the server listens.

    Raises:
        ModelError: the model fails to predict a row.
    """
    import uvicorn

    from understudy.serving.app import PROBE, ask, create_app

    stopping = False

    async def program(scope: Any, receive: Any, send: Any) -> None:
        async def send_closing(message: Any) -> None:
            if stopping and message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await app(scope, receive, send_closing)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            listening()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Accept no new connections; answer the requests of open ones with `connection: close`."""
            nonlocal stopping
            stopping = True
            for server in self.servers:
                server.close()
            await asyncio.sleep(_LAST_REQUESTS_S)
            await super().shutdown(sockets)
            app.state.batcher.close()

    try:
        ask(export, [PROBE])
    except Exception as error:
        raise ModelError(f"{export.folder}: the model does not work ({error}); export it again") from error
    app = create_app(export, limits)
    # The tests run with the parser h11; other parsers, which may be installed, treat malformed requests differently.
    settings = uvicorn.Config(
        program,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_STOP_S,
    )
    return Server(settings)


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to an address, which does not listen yet: so an error comes before a model is loaded.

    Raises:
        RecipeError: no such address, or it is in use.
    """
    where = f"--host {host} --port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError, OverflowError) as error:
        raise RecipeError(f"{where}: no such address ({error})") from None
    listener = socket.socket(family, kind, protocol)  # asyncio turns off Nagle's delay only where the protocol is set to TCP
    try:
        if os.name == "posix":  # the address of a server that was just stopped can be used again
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise RecipeError(f"{where}: {error.strerror or error}; give another --port, or 0 for a free one") from None
    return listener
