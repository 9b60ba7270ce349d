"""A TCP proxy whose connections all break after so many bytes of answers, without a goodbye."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class BreakingProxy:
    """Passes on what comes; `connections` is how many were made."""

    def __init__(self, server_port: int, *, after_bytes: int) -> None:
        self.port = 0
        self.connections = 0
        self._server_port = server_port
        self._after_bytes = after_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until one end closes it or its bytes are spent."""
        self.connections += 1
        server = await asyncio.open_connection("127.0.0.1", self._server_port)
        there = asyncio.create_task(_pass(reader, server[1], most_bytes=math.inf))
        back = asyncio.create_task(_pass(server[0], writer, most_bytes=self._after_bytes))
        self._tasks |= {there, back}
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, server[1]):
            end.transport.abort()

    async def close(self) -> None:
        """Break what is open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def breaking_proxy(server_port: int, *, after_bytes: int) -> AsyncIterator[BreakingProxy]:
    """A proxy before the server at a port, gone afterwards."""
    proxy = BreakingProxy(server_port, after_bytes=after_bytes)
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = int(listener.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        listener.close()
        await proxy.close()


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, most_bytes: float
) -> None:
    left = most_bytes
    with suppress(ConnectionError):
        while left and (piece := await reader.read(int(min(left, 1024)))):
            left -= len(piece)
            writer.write(piece)
            await writer.drain()
