"""A large body, taken off its connection straight into memory: past the HTTP parser, which copies.

uvicorn's way costs four copies of each byte, on the loop that everybody else waits for. So where
a request says that much is to come, its connection is read here until the body has ended, and by
the parser again from the next request on. Nothing past the body is read here.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from rethread.blobs import PIECE_BYTES

LARGE_BYTES: Final = 2 * PIECE_BYTES  # of a body; less is not worth it
MOST_WAITING: Final = 2  # pieces; whoever sends more waits
PATIENCE_SECONDS: Final = 1.0  # how long a piece may take to become whole before it goes as it is

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Connection(Protocol):
    """Who reads the connection before and afterwards: a protocol of asyncio's."""

    transport: asyncio.Transport

    def body_has_ended(self) -> None:
        """Read on: the next byte is the next request's."""

    def connection_lost(self, exc: Exception | None) -> None: ...
    def eof_received(self) -> bool | None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Intake(asyncio.BufferedProtocol):
    """The body of one request of a known length; `receive` is ASGI's."""

    def __init__(self, connection: Connection, size: int, receive: Receive) -> None:
        self._connection = connection
        self._first_receive = receive
        self._left = size  # what has not come yet
        self._buffer = bytearray()
        self._filled = 0  # of the buffer
        self._ready: deque[bytes | bytearray] = deque()
        self._has_news = asyncio.Event()
        self._has_begun = self._is_paused = self._is_lost = False

    async def receive(self) -> Mapping[str, Any]:
        """What came along with the request's head, then piece by piece; then a disconnect."""
        if self._has_begun and (piece := await self._next()) is not None:
            return _message(piece, is_last=not self._left and not self._ready)
        message = await self._first_receive()
        if message["type"] == "http.request" and not self._has_begun:
            self._left -= len(message["body"])
            if self._left >= PIECE_BYTES and not self._connection.transport.is_closing():
                self._begin()
        return message

    def get_buffer(self, _sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        self._left -= nbytes
        if self._filled == len(self._buffer):
            self._hand_over()
        if not self._left:
            self._give_back()
        elif len(self._ready) >= MOST_WAITING:
            self._is_paused = True
            self._connection.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._has_news.set()
        self._connection.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def _begin(self) -> None:
        self._has_begun = True
        self._renew()
        _read_by(self._connection.transport, self)

    def _give_back(self) -> None:
        _read_by(self._connection.transport, self._connection)
        self._connection.body_has_ended()

    def _hand_over(self) -> None:
        """Let what has come be received."""
        is_full = self._filled == len(self._buffer)
        self._ready.append(self._buffer if is_full else bytes(self._buffer[: self._filled]))
        self._renew()
        self._has_news.set()

    def _renew(self) -> None:
        self._buffer = bytearray(min(self._left, PIECE_BYTES))
        self._filled = 0

    async def _next(self) -> bytes | bytearray | None:
        """A piece, most likely a whole one; None where no more comes."""
        while not self._ready:
            if self._is_lost or not self._left:
                return None
            self._has_news.clear()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._has_news.wait()
            except TimeoutError:
                if self._filled:
                    self._hand_over()
        if self._is_paused and not self._is_lost:
            self._is_paused = False
            self._connection.transport.resume_reading()
        return self._ready.popleft()


def _read_by(transport: asyncio.Transport, reader: Any) -> None:
    """Have what comes from here on given to another reader, in the way that it wants it."""
    transport.pause_reading()
    transport.set_protocol(reader)
    transport.resume_reading()


def _message(piece: bytes | bytearray, *, is_last: bool) -> Mapping[str, Any]:
    return {"type": "http.request", "body": piece, "more_body": not is_last}
