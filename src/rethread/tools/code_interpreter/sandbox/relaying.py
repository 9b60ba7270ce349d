"""The server's end of `relay`: a container's sockets, as sockets in a folder of this machine.

The container may be hostile: what it says are names that are checked, and bytes for connections
that this end has opened. It can hold up nobody but those who talk to it.
"""

import asyncio
import contextlib
import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rethread.tools.code_interpreter.sandbox.relay import (
    BYTES,
    CLOSE,
    FILE,
    HEADER,
    INTERRUPT,
    MOST_BYTES,
    OPEN,
    SOCKET,
)

NAME: Final = re.compile(rb"[a-z0-9-]{1,20}")
MOST_SOCKETS: Final = 16


class Relaying:
    """The connections to one container, over the standard streams of the engine's client."""

    def __init__(
        self, sockets: Path, asked: asyncio.StreamWriter, said: asyncio.StreamReader
    ) -> None:
        self._sockets, self._asked, self._said = sockets, asked, said
        self._numbers = itertools.count(1)
        self._connections: dict[int, asyncio.StreamWriter] = {}
        self._servers: dict[bytes, asyncio.Server] = {}

    def begin(self, files: Mapping[str, bytes]) -> None:
        """Have the program start, with these files in its folder of sockets."""
        for name, content in files.items():
            self._send(FILE, 0, name.encode() + b"\0" + content)
        self._send(INTERRUPT, 0)

    def interrupt(self) -> None:
        """SIGINT for the program."""
        self._send(INTERRUPT, 0)

    async def run(self) -> None:
        """Pass on what comes, until the container has nothing to say any more."""
        try:
            while True:
                kind, number, length = HEADER.unpack(await self._said.readexactly(HEADER.size))
                if length > MOST_BYTES:
                    return
                await self._take(kind, number, await self._said.readexactly(length))
        except asyncio.IncompleteReadError:
            return
        finally:
            for server in self._servers.values():
                server.close()
            for connection in self._connections.values():
                connection.close()
            self._asked.close()

    async def _take(self, kind: bytes, number: int, content: bytes) -> None:
        connection = self._connections.get(number)
        if kind == SOCKET:
            await self._listen(content)
        elif connection is not None and kind == BYTES:
            connection.write(content)
            with contextlib.suppress(ConnectionError):
                await connection.drain()
        elif connection is not None and kind == CLOSE:
            connection.close()

    async def _listen(self, name: bytes) -> None:
        """A socket here for one that is there."""
        if not NAME.fullmatch(name) or name in self._servers or len(self._servers) > MOST_SOCKETS:
            return

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(name, reader, writer)

        path = self._sockets / os.fsdecode(name)
        self._servers[name] = await asyncio.start_unix_server(connected, path)

    async def _serve(
        self, name: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        number = next(self._numbers)
        self._connections[number] = writer
        self._send(OPEN, number, name)
        try:
            while some := await reader.read(MOST_BYTES):
                self._send(BYTES, number, some)
                await self._asked.drain()
        except ConnectionError:
            pass
        finally:
            self._send(CLOSE, number)
            del self._connections[number]
            writer.close()

    def _send(self, kind: bytes, number: int, content: bytes = b"") -> None:
        if not self._asked.is_closing():
            self._asked.write(HEADER.pack(kind, number, len(content)) + content)
