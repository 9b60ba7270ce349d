"""uvicorn, told when a connection closes, and stopped by us rather than by its own signals."""

import asyncio
import contextlib
import math
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rethread.http.codec import error_body
from rethread.http.deliveries import Deliveries

CUT_OFF_SECONDS: Final = 0.2
MOST_HEAD_BYTES: Final = 64 * 1024  # the parser by itself keeps whatever comes
BAD_REQUEST: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: "
)


def protocol_with(deliveries: Deliveries) -> type[HttpToolsProtocol]:
    """The HTTP protocol of uvicorn, which tells whose connection has come and which has closed."""

    class Protocol(HttpToolsProtocol):
        head_bytes: int | None = None  # what has come of a request's head; None behind it

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.head_bytes is not None and not self.transport.is_closing():
                self.head_bytes += len(data)
                if self.head_bytes > MOST_HEAD_BYTES:
                    self.send_400_response("The request's headers are too large.")

        def on_message_begin(self) -> None:
            self.head_bytes = 0
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self.head_bytes = None
            super().on_headers_complete()

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
    """Leaves the process's signals alone: whoever runs it sets `should_exit`.

    Then answers under way may finish for `grace_seconds`, and what is left is cut off.
    """

    def __init__(self, config: uvicorn.Config, *, grace_seconds: float) -> None:
        super().__init__(config)
        self._grace_seconds = grace_seconds
        self._hurrying = asyncio.Event()

    def hurry(self) -> None:
        """Cut off the answers under way now, whatever grace is left."""
        self._hurrying.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish; uvicorn's own way to cut answers off is to log each as an error."""
        cutting = asyncio.create_task(self._cut_off())
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    async def _cut_off(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurrying.wait(), self._grace_seconds)
        tasks = list(self.server_state.tasks)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(CUT_OFF_SECONDS)  # streams end by themselves where nobody listens
        for task in tasks:
            task.cancel()

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
        timeout_graceful_shutdown=math.ceil(grace_seconds) + 5,  # should our own way fail
        backlog=2048,
    )
    return Server(config, grace_seconds=grace_seconds)
