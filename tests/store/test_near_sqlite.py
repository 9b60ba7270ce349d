"""Vectors that SQLite's index keeps in memory are those of the database, each once."""

import asyncio
from typing import Any

import numpy as np
import pytest

from rethread.store import near_sqlite
from rethread.store.database import Row
from rethread.store.near_sqlite import SqliteIndex
from rethread.store.sqlite import Sqlite
from tests.tools.file_search.stores import WordEmbedder, new_file, new_store

WORDS = WordEmbedder()


async def test_a_search_that_is_broken_off_while_vectors_are_read_leaves_none_twice(
    sqlite: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_sqlite, "FILES_AT_ONCE", 1)
    await new_store(sqlite, "vs_a", embedder=WORDS)
    files = [await new_file(sqlite, "vs_a", f"file-{n}", "zebra", embedder=WORDS) for n in range(3)]
    index = SqliteIndex(sqlite, most_bytes=10**6)
    asked = {"vs_a": np.array(files)}, [WORDS.vector("zebra")]
    read, reads_left = sqlite.read, 2

    async def broken_off(sql: str, *arguments: Any) -> list[Row]:
        nonlocal reads_left
        reads_left -= sql == near_sqlite.READ
        if sql == near_sqlite.READ and reads_left == 0:
            raise asyncio.CancelledError
        return await read(sql, *arguments)

    monkeypatch.setattr(sqlite, "read", broken_off)
    with pytest.raises(asyncio.CancelledError):
        await index.nearest(*asked, limit=10)
    [near] = await index.nearest(*asked, limit=10)
    assert sorted(number >> 20 for number in near.numbers.tolist()) == files
