"""A TCP proxy between a client and the server that loses answers on purpose.

It understands as much HTTP/1.1 as it takes to know where an answer begins and ends. Every POST
takes the next of `cuts`; without one left, all goes through.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal, Self

# Where the client's connection ends: before the server has answered, when the answer is there
# but none of it was passed on, in its middle, or behind its last byte.
Cut = Literal["at_once", "before", "middle", "after"]


class Hold:
    """The answer has come and is not passed on; once told to `go`, the connection ends."""

    def __init__(self) -> None:
        self.has_answer = asyncio.Event()
        self.go = asyncio.Event()


class CuttingProxy:
    """Listens on a port of its own; `retry_counts` are what the POSTs said of themselves."""

    def __init__(self, server_port: int, *cuts: Cut | Hold) -> None:
        self.cuts = deque(cuts)
        self.retry_counts: list[str] = []
        self._server_port = server_port
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    @classmethod
    @asynccontextmanager
    async def before(cls, server_port: int, *cuts: Cut | Hold) -> AsyncIterator[Self]:
        """A proxy before the server at a port, gone afterwards."""
        proxy = cls(server_port, *cuts)
        listener = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.port = int(listener.sockets[0].getsockname()[1])
        try:
            yield proxy
        finally:
            listener.close()
            for task in proxy._tasks:
                task.cancel()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)
            await listener.wait_closed()

    port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while await self._pass_on(reader, writer, *upstream):
                    pass
        finally:
            for end in (writer, upstream[1]):
                end.transport.abort()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer; False once the connection shall end."""
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(_header(head, b"content-length") or 0))
        server_writer.write(head + body)
        cut: Cut | Hold | None = None
        if head.startswith(b"POST"):
            self.retry_counts.append(_header(head, b"x-stainless-retry-count"))
            cut = self.cuts.popleft() if self.cuts else None
        if cut == "at_once":
            await server_writer.drain()
            return False
        answer = await server_reader.readuntil(b"\r\n\r\n")
        if cut == "before":
            return False
        if isinstance(cut, Hold):
            cut.has_answer.set()
            await cut.go.wait()
            return False
        if _header(answer, b"transfer-encoding") == "chunked":
            writer.write(answer)
            await _pass_chunks(server_reader, writer)
            return True
        answer += await server_reader.readexactly(int(_header(answer, b"content-length")))
        writer.write(answer if cut != "middle" else answer[:-10])
        await writer.drain()
        if cut is not None:
            writer.close()
            await writer.wait_closed()
        return cut is None


async def _pass_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        size = await reader.readuntil(b"\r\n")
        writer.write(size + await reader.readexactly(int(size, 16) + 2))
        await writer.drain()
        if int(size, 16) == 0:
            return


def _header(head: bytes, name: bytes) -> str:
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip().decode()
    return ""
