"""HTTP on one connection: uvicorn's, told when it closes, with bounds and an end of its own.

A stop closes no connection on which a request may be on its way: that one is answered, and told
with the answer that it was the last.
"""

import asyncio
from typing import Final

from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rethread.http.codec import error_body
from rethread.http.deliveries import Deliveries
from rethread.http.intake import LARGE_BYTES, Intake
from rethread.http.stopping import Stop

KEEP_ALIVE_SECONDS: Final = 75
LINGER_SECONDS: Final = 0.5  # that an idle connection is kept in a stop, for one request more
MOST_HEAD_BYTES: Final = 64 * 1024  # the parser by itself keeps whatever comes
BAD_REQUEST: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: "
)


class Protocol(HttpToolsProtocol):
    """One connection."""

    deliveries: Deliveries
    stop: Stop
    head_bytes: int | None = None  # what has come of a request's head; None behind it

    @property
    def is_sending(self) -> bool:
        """Whether an answer is on its way: a stream, most likely."""
        return self._has_cycle and self.cycle.response_started and not self.cycle.response_complete

    @property
    def is_idle(self) -> bool:
        """Whether there is no request to answer."""
        return not self._has_cycle or self.cycle.response_complete

    @property
    def _has_cycle(self) -> bool:
        return self.cycle is not None  # none before the first request, whatever its type says

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
        if self.stop.has_begun:
            self.cycle.keep_alive = False
        size = dict(self.headers).get(b"content-length", b"")
        if size.isdigit() and int(size) >= LARGE_BYTES:
            intake = Intake(self, int(size), self.cycle.receive)
            self.cycle.receive = intake.receive  # type: ignore[method-assign, assignment]

    def body_has_ended(self) -> None:
        """Read the next request; of this one the parser has seen no more than the beginning."""
        self.parser = HttpRequestParser(self)
        self.cycle.more_body = False

    # uvicorn narrows the base class's transport in the same way.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client:
            self.deliveries.opened(self.client)
        if self.stop.has_begun:
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client:
            self.deliveries.closed(self.client)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close behind an answer that has said so, or after having been idle for a while.

        A request may be on its way on an idle connection: closed at once, it would fail, and its
        client could not know whether it was read.
        """
        # Declared as whole seconds, used as any number.
        self.timeout_keep_alive = LINGER_SECONDS  # type: ignore[assignment]
        if self.is_idle:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                LINGER_SECONDS, self.timeout_keep_alive_handler
            )
        elif not self.is_sending:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the shape of every other error."""
        body = error_body(msg, code="invalid_http")
        self.transport.write(b"%s%d\r\n\r\n%s" % (BAD_REQUEST, len(body), body))
        self.transport.close()


def protocol_with(deliveries: Deliveries, stop: Stop) -> type[Protocol]:
    """The protocol that tells whose connection has come and which has closed, and heeds a stop."""
    return type("Protocol", (Protocol,), {"deliveries": deliveries, "stop": stop})
