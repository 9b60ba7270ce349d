"""A wire to PostgreSQL that is cut at the moment a test names, or goes dead with both ends open.

A question is known by a mark in it: as soon as one comes by, the next of `cuts` happens to it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

# Where the connection ends: before the question left, in its middle, as soon as it was sent,
# when the answer is there but none of it was passed on, in the answer's middle. Or nothing more
# comes through, though nobody is told.
Cut = Literal["unsent", "half_sent", "sent", "unanswered", "half_answered", "dead"]
CUTS: Final[tuple[Cut, ...]] = get_args(Cut)


class Wire:
    """Listens on a port of its own and passes everything on, until it is to be cut."""

    def __init__(self, url: str, mark: bytes) -> None:
        self.cuts: deque[Cut] = deque()
        self.connections = 0
        self._mark = mark
        self._url = url
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        """The URL of the same database, by this wire."""
        parts = urlsplit(self._url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}127.0.0.1:{self._port}").geturl()

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str, *, mark: bytes) -> AsyncIterator["Wire"]:
        """A wire to the server of a URL, gone afterwards."""
        wire = cls(url, mark)
        listener = await asyncio.start_server(wire._serve, "127.0.0.1", 0)
        wire._port = int(listener.sockets[0].getsockname()[1])
        try:
            yield wire
        finally:
            listener.close()
            for task in wire._tasks:
                task.cancel()
            await asyncio.gather(*wire._tasks, return_exceptions=True)
            await listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        target = urlsplit(self._url)
        ends = [writer]
        try:
            there, back = await asyncio.open_connection(target.hostname, target.port)
            ends.append(back)
            await self._carry(reader, writer, there, back)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in ends:
                end.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        answers = asyncio.ensure_future(_copy(there, writer))
        try:
            while piece := await reader.read(1 << 20):
                if not self.cuts or self._mark not in piece:
                    back.write(piece)
                    continue
                cut = self.cuts.popleft()
                if cut == "unsent":
                    return
                back.write(piece[: len(piece) // 2] if cut == "half_sent" else piece)
                if cut in ("half_sent", "sent"):
                    await back.drain()
                    return
                answers.cancel()
                with suppress(asyncio.CancelledError):
                    await answers
                if cut == "dead":
                    await asyncio.Event().wait()
                answer = await there.read(1 << 20)
                if cut == "half_answered":
                    writer.write(answer[: len(answer) // 2])
                    await writer.drain()
                return
        finally:
            answers.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(1 << 20):
        writer.write(piece)
    writer.close()
