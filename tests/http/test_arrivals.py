"""A file that cannot be kept: what reads it from the wire ends with it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from rethread.errors import TooLarge, Unavailable
from rethread.http.arrivals import storing
from rethread.store.sqlite import Sqlite


async def wire(passed: list[int]) -> AsyncGenerator[bytes]:
    """Bytes that do not end; how many of them were asked for is noted."""
    while True:
        passed.append(len(passed))
        yield b"a" * 1000


class FullStore:
    """No room behind the first piece."""

    async def write(self, _name: str, pieces: AsyncIterator[bytes]) -> None:
        async for _ in pieces:
            await asyncio.sleep(0.01)  # so that more has been read meanwhile than there is room for
            raise Unavailable("The disk is full.")


class GreedyStore:
    """Takes what comes."""

    async def write(self, _name: str, pieces: AsyncIterator[bytes]) -> None:
        async for _ in pieces:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("store", "problem"), [(FullStore(), Unavailable), (GreedyStore(), TooLarge)]
)
async def test_nobody_reads_on_what_cannot_be_kept(
    sqlite: Sqlite, store: Any, problem: type[Exception]
) -> None:
    request: Any = SimpleNamespace(db=sqlite, services=SimpleNamespace(blobs=store))
    passed: list[int] = []
    before = asyncio.all_tasks()
    with pytest.raises(problem):
        async with storing(request, wire(passed), most_bytes=2500):
            pass
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert await sqlite.read("SELECT due_at FROM blob_trash") == [(0,)]
