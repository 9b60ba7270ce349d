"""uvicorn, told when a connection closes, and stopped by us rather than by its own signals."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rethread.http.codec import error_body
from rethread.http.deliveries import Deliveries

BAD_REQUEST: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: "
)


def protocol_with(deliveries: Deliveries) -> type[HttpToolsProtocol]:
    """The HTTP protocol of uvicorn, which tells whose connection has come and which has closed."""

    class Protocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client:
                deliveries.opened(self.client)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client:
                deliveries.closed(self.client)
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            """Answer what is no HTTP, in the shape of every other error."""
            body = error_body(msg, code="invalid_http")
            self.transport.write(b"%s%d\r\n\r\n%s" % (BAD_REQUEST, len(body), body))
            self.transport.close()

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
    deliveries: Deliveries,
    grace_seconds: float,
) -> Server:
    """A server for an ASGI application; whose sockets it listens on is given to `serve`."""
    config = uvicorn.Config(
        application,
        http=protocol_with(deliveries),
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
