"""Files to chunks, in processes of their own: nothing that a file does can harm the server.

A process is started when first needed and stays warm. It is killed when a file takes too long,
and when nobody waits for the file any more; one that dies is replaced. The server decodes what
comes back, some chunks at a time, and does nothing else with a file's content.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

from rethread.tools.file_search.child import HEADER_BYTES, Answer, Asked
from rethread.tools.file_search.chunking import Chunk
from rethread.tools.file_search.documents import SUPPORTED, Unreadable
from rethread.tools.file_search.turns import Turns

__all__ = ["SUPPORTED", "Chunk", "Reader", "Unreadable"]

logger = logging.getLogger("rethread")

CHILD: Final = "rethread.tools.file_search.child"
START_SECONDS: Final = 60.0  # on a machine that is very busy
FILES_A_PROCESS: Final = 2000  # so that what a parser never gives back does not add up
PIPE_BYTES: Final = 1024 * 1024
# What a Python may need to find its parts. All else, the keys too, stays here.
PASSED_ON: Final = ("LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR")

_answers: Final = msgspec.msgpack.Decoder(Answer)


class Reader:
    """Reads so many files at a time; more wait. Its processes end with `aclose`."""

    def __init__(self, *, processes: int, timeout_seconds: float, memory_bytes: int) -> None:
        self._processes = processes
        self._turns = Turns(processes)
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._is_closed = False

    async def read(
        self,
        path: Path,
        filename: str,
        *,
        max_tokens: int,
        overlap_tokens: int,
        store_id: str = "",
        is_urgent: bool = False,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> list[Chunk]:
        """The chunks of the file at `path`, which clients know by `filename`; or Unreadable.

        For a store, their words are what its index has of them (`chunk_words.entry`). `before` is
        what is done when the file's turn has come.
        """
        asked = Asked(os.fsencode(path), filename, max_tokens, overlap_tokens, store_id)
        async with self._turns.one(is_urgent=is_urgent):
            if before is not None:
                await before()
            if self._idle:
                # If it dies, that may come from a file before: a new process tells.
                with contextlib.suppress(EOFError):
                    return await self._read(asked, self._idle.pop())
            try:
                return await self._read(asked, await self._started())
            except EOFError:
                raise self._deadly() from None

    async def aclose(self) -> None:
        """End the processes; a file that is being read is `server_error`."""
        self._is_closed = True
        for child in self._all:
            child.kill()
        for _ in range(self._processes):
            await self._turns.take(is_urgent=False)  # all reads are over
        for child in self._idle:
            await child.end()

    async def _read(self, asked: Asked, child: "_Child") -> list[Chunk]:
        is_well = False
        try:
            async with asyncio.timeout(self._timeout_seconds):
                chunks, refusal = await child.answer(asked)
            is_well = child.files < FILES_A_PROCESS
        except TimeoutError:
            raise Unreadable(
                "invalid_file",
                f"Reading the file took more than {self._timeout_seconds:g} seconds.",
            ) from None
        finally:
            if is_well:
                self._idle.append(child)
            else:
                self._all.discard(child)
                await child.end()
        if refusal is not None:
            raise refusal
        return chunks

    async def _started(self) -> "_Child":
        if self._is_closed:
            raise Unreadable("server_error", "The server is stopping.")
        child = await _Child.started(self._timeout_seconds, self._memory_bytes)
        self._all.add(child)
        return child

    def _deadly(self) -> Unreadable:
        if self._is_closed:
            return Unreadable("server_error", "The server is stopping.")
        most = f"{self._memory_bytes // 1024**2} MiB"
        return Unreadable(
            "invalid_file",
            f"The process that read the file died of it: it may need more than {most} of memory.",
        )


class _Child:
    """One process; it is asked one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._questions, self._answers = process.stdin, process.stdout
        self.files = 0

    @classmethod
    async def started(cls, timeout_seconds: float, memory_bytes: int) -> Self:
        """A process that is ready; Unreadable with `server_error` if none can be had."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", CHILD, str(timeout_seconds), str(memory_bytes)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=_environment(),
                limit=PIPE_BYTES,
                start_new_session=True,  # a Ctrl-C is the server's to answer
            )
        except OSError as error:
            raise Unreadable("server_error", "No process can be started to read files.") from error
        child, is_ready = cls(process), False
        try:
            async with asyncio.timeout(START_SECONDS):
                await child._heard()
            is_ready = True
        except (EOFError, TimeoutError) as error:
            raise Unreadable("server_error", "No process to read files comes up.") from error
        finally:
            if not is_ready:
                await child.end()
        return child

    async def answer(self, asked: Asked) -> tuple[list[Chunk], Unreadable | None]:
        """What is in a file, or why nothing is; EOFError if the process died of it."""
        self.files += 1
        frame = msgspec.msgpack.encode(asked)
        with contextlib.suppress(ConnectionError):  # it is dead: the answer will say so
            self._questions.write(len(frame).to_bytes(HEADER_BYTES) + frame)
            await self._questions.drain()
        chunks: list[Chunk] = []
        while True:
            answer = await self._heard()
            chunks += answer.chunks
            if answer.code is not None:
                fields = {"code": answer.code, "cause": answer.cause.strip()}
                is_fault = answer.code == "server_error" and answer.cause
                level = logging.ERROR if is_fault else logging.DEBUG
                logger.log(level, "file not read", extra={"fields": fields})
                return [], Unreadable(answer.code, answer.message)
            if answer.is_last:
                return chunks, None

    def kill(self) -> None:
        """Whatever it does; who waits for an answer gets EOFError."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Kill it, and see it gone."""
        self.kill()
        while await self._answers.read(PIPE_BYTES):
            pass  # it has not ended for the event loop while something is in its pipe
        await self._process.wait()

    async def _heard(self) -> Answer:
        length = int.from_bytes(await self._answers.readexactly(HEADER_BYTES))
        return _answers.decode(await self._answers.readexactly(length))


def _environment() -> Mapping[str, str]:
    """Where Python finds what this one finds, and nothing that is no one else's business."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**passed_on, "PYTHONPATH": path, "PYTHONUTF8": "1"}
