"""uvicorn, told when a connection closes, and stopped by us rather than by its own signals."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rethread.http.deliveries import Connection


def protocol_with(on_closed: Callable[[Connection], None]) -> type[HttpToolsProtocol]:
    """The HTTP protocol of uvicorn, which tells whose connection has closed."""

    class Protocol(HttpToolsProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            if self.client:
                on_closed(self.client)
            super().connection_lost(exc)

    return Protocol


class Server(uvicorn.Server):
    """Leaves the process's signals alone: whoever runs it sets `should_exit`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def new_server(
    application: Any,
    *,
    on_closed: Callable[[Connection], None],
    grace_seconds: float,
) -> Server:
    """A server for an ASGI application; whose sockets it listens on is given to `serve`."""
    config = uvicorn.Config(
        application,
        http=protocol_with(on_closed),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a connection is known by its own address, whoever it forwards
        date_header=True,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(grace_seconds)),
        backlog=2048,
    )
    return Server(config)
