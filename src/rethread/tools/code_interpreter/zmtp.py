"""One end of a ZeroMQ socket, as far as a Jupyter client needs it: ZMTP 3.0 over a Unix socket.

Made here and not libzmq's, because the other end may be hostile: nothing is read ahead, a part
that is too long is passed over while it arrives, and a connection that is gone stays gone.
Spec: https://rfc.zeromq.org/spec/23/
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self

SocketType = Literal["DEALER", "SUB"]

MORE: Final = 1
LONG: Final = 2
COMMAND: Final = 4
# Signature, version 3.0, mechanism NULL, no server, filler.
GREETING: Final = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48)
SIGNATURE_END: Final = 0x7F
SUBSCRIBE_ALL: Final = b"\x01"
MOST_PARTS: Final = 32  # a Jupyter message has 7 or so; the rest of a longer one is passed over
MOST_BYTES: Final = 12 * 1024 * 1024  # of a message
BUFFER_BYTES: Final = 64 * 1024  # what is read ahead
# Others have their turn after each so many bytes, where a part counts as many more as it costs
# time. Who sends without end is read slowly: past what is free, each turn is a pause.
FREE_BYTES: Final = 4 * 1024 * 1024
TURN_BYTES: Final = 128 * 1024
PAUSE_SECONDS: Final = 0.002
PART_BYTES: Final = 1024


class Closed(Exception):
    """The other end is gone, or does not speak ZMTP."""


class Message(NamedTuple):
    """Its parts; None for one that was too long. `size` is what arrived, in bytes."""

    parts: list[bytes | None]
    size: int


class Channel:
    """A connection. Reading may be cancelled at any time and goes on where it was."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._parts: list[bytes | None] = []
        self._size = 0
        self._flags: int | None = None  # of the part that is arriving
        self._left: int | None = None  # bytes of it; None until its length is known
        self._free = FREE_BYTES
        self._taken = 0  # in this turn

    @classmethod
    async def opened(cls, path: Path, kind: SocketType) -> Self:
        """A connection to the socket at that path; Closed or OSError where there is none."""
        reader, writer = await asyncio.open_unix_connection(path, limit=BUFFER_BYTES)
        channel = cls(reader, writer)
        try:
            await channel._shake_hands(kind)
        except BaseException:
            channel.close()
            raise
        return channel

    @property
    def is_closed(self) -> bool:
        """Whether the other end is known to be gone, with nothing left to read."""
        return self._reader.at_eof() or self._reader.exception() is not None

    def begin(self) -> None:
        """Have so much free again that is read at once."""
        self._free = FREE_BYTES

    async def send(self, parts: Sequence[bytes]) -> None:
        """One message."""
        if self._writer.is_closing():
            raise Closed("The other end is gone.")
        frames = [_frame(part, MORE) for part in parts[:-1]]
        self._writer.write(b"".join([*frames, _frame(parts[-1], 0)]))
        try:
            await self._writer.drain()
        except ConnectionError as problem:
            raise Closed("The other end is gone.") from problem

    async def receive(self) -> Message:
        """The next message; Closed where there is none to come."""
        while True:
            try:
                flags = await self._part()
            except (asyncio.IncompleteReadError, ConnectionError) as problem:
                raise Closed("The other end is gone.") from problem
            if not flags & (MORE | COMMAND):
                message = Message(self._parts, self._size)
                self._parts, self._size = [], 0
                return message

    def close(self) -> None:
        """Let go."""
        self._writer.transport.abort()

    async def _shake_hands(self, kind: SocketType) -> None:
        ready = b"\x05READY" + _property(b"Socket-Type", kind.encode())
        self._writer.write(GREETING + _frame(ready, COMMAND))
        try:
            greeting = await self._reader.readexactly(len(GREETING))
            if greeting[0] != GREETING[0] or greeting[9] != SIGNATURE_END or greeting[10] < 3:
                raise Closed("The other end does not speak ZMTP 3.")
            while not (await self._part()) & COMMAND:
                raise Closed("The other end begins without a handshake.")
        except (asyncio.IncompleteReadError, ConnectionError) as problem:
            raise Closed("The other end is gone.") from problem
        if kind == "SUB":
            await self.send([SUBSCRIBE_ALL])

    async def _part(self) -> int:
        """Read one part, or go on with it; its flags. A step that is cancelled has read nothing."""
        await self._pause()
        if self._flags is None:
            self._flags = (await self._reader.readexactly(1))[0]
        if self._left is None:
            length = await self._reader.readexactly(8 if self._flags & LONG else 1)
            self._left = int.from_bytes(length)
            self._size += self._left
            self._taken += PART_BYTES
            self._parts.append(None)
        if self._size <= MOST_BYTES and len(self._parts) <= MOST_PARTS:
            self._parts[-1] = await self._reader.readexactly(self._left)
            self._taken += self._left
        else:
            await self._pass_over()
        flags, self._flags, self._left = self._flags, None, None
        if flags & COMMAND or len(self._parts) > MOST_PARTS:
            self._parts.pop()
        if flags & COMMAND:
            self._size = 0
        return flags

    async def _pass_over(self) -> None:
        while self._left:
            await self._pause()
            piece = await self._reader.read(min(self._left, BUFFER_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", self._left)
            self._left -= len(piece)
            self._taken += len(piece)

    async def _pause(self) -> None:
        if self._taken < TURN_BYTES:
            return
        turns, self._taken = self._taken / TURN_BYTES, 0
        self._free -= int(turns * TURN_BYTES)
        await asyncio.sleep(turns * PAUSE_SECONDS if self._free < 0 else 0)


def _frame(body: bytes, flags: int) -> bytes:
    if len(body) < 256:
        return bytes((flags, len(body))) + body
    return bytes((flags | LONG,)) + len(body).to_bytes(8) + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4) + value
