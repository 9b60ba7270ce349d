"""Vectors in SQLite: all of a store's are compared with a query's, so nothing is missed.

They are kept in memory in blocks, read when their files are first searched. A file's vectors do
not change while it is in a store, and a file that has gone is not among those that are asked for:
so what is kept need not be told of anything. What is kept is bounded: the stores that were not
searched for longest go, and one that is larger alone is read again at each search.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from rethread.store.chunk_lists import Numbers
from rethread.store.chunks import FILE_BITS, range_of
from rethread.store.database import Database
from rethread.store.near import Near

Vectors = NDArray[np.float32]

BLOCK: Final = 4096  # vectors
FILES_AT_ONCE: Final = 500
DEAD_SHARE: Final = 0.3  # of a store's vectors in memory, from which on it is read anew

SIZES: Final = "SELECT file_number, chunks FROM indexed_files WHERE store_id = $1"
READ: Final = """
SELECT vectors.number, vectors.vector
  FROM json_each($1) AS wanted
 CROSS JOIN chunk_vectors AS vectors
 WHERE vectors.number BETWEEN json_extract(wanted.value, '$[0]')
                          AND json_extract(wanted.value, '$[1]')
"""
READ_SOME: Final = """
SELECT vectors.number, vectors.vector
  FROM json_each($1) AS wanted
 CROSS JOIN chunk_vectors AS vectors
 WHERE vectors.number = wanted.value
"""


class _Block:
    """Vectors, some of which may be of files that have gone."""

    def __init__(self, dimensions: int) -> None:
        self.numbers: Numbers = np.zeros(BLOCK, dtype=np.int64)
        self.vectors: Vectors = np.zeros((BLOCK, dimensions), dtype=np.float32)
        self.count = 0

    def take(self, numbers: Numbers, vectors: Vectors) -> int:
        """How many of them had room."""
        taken = min(len(numbers), BLOCK - self.count)
        place = slice(self.count, self.count + taken)
        self.numbers[place], self.vectors[place] = numbers[:taken], vectors[:taken]
        self.count += taken
        return taken


class _Store:
    """What is in memory of a store."""

    def __init__(self) -> None:
        self.files: set[int] = set()
        self.blocks: list[_Block] = []
        self.lock = asyncio.Lock()  # of two that need a store, one reads it

    @property
    def size_bytes(self) -> int:
        return sum(block.vectors.nbytes + block.numbers.nbytes for block in self.blocks)

    def add(self, numbers: Numbers, vectors: Vectors) -> None:
        while len(numbers):
            if not self.blocks or self.blocks[-1].count == BLOCK:
                self.blocks.append(_Block(vectors.shape[1]))
            taken = self.blocks[-1].take(numbers, vectors)
            numbers, vectors = numbers[taken:], vectors[taken:]

    def clear(self) -> None:
        self.files.clear()
        self.blocks = []


class SqliteIndex:
    """One for the process; `most_bytes` bounds what it keeps in memory between searches."""

    def __init__(self, db: Database, *, most_bytes: int) -> None:
        self._db = db
        self._most_bytes = most_bytes
        self._stores: OrderedDict[tuple[str, int], _Store] = OrderedDict()

    async def nearest(
        self, files: Mapping[str, Numbers], queries: Sequence[bytes], *, limit: int
    ) -> list[Near]:
        """For each query's vector the nearest chunks of these files, by store; in any order."""
        asked = _matrix(queries)
        found: list[list[Near]] = [[] for _ in queries]
        for store_id, wanted in files.items():
            if not len(wanted):
                continue
            store = await self._loaded(store_id, wanted, asked.shape[1])
            if store is not None:
                parts = await asyncio.to_thread(_nearest, tuple(store.blocks), wanted, asked, limit)
                _put_together(found, parts)
                continue
            async for block in self._read(wanted.tolist(), store_id, asked.shape[1]):
                _put_together(
                    found, await asyncio.to_thread(_nearest, [block], wanted, asked, limit)
                )
        return [_joined(each) for each in found]

    async def cosines(self, numbers: Numbers, queries: Sequence[bytes]) -> list[Near]:
        """For each query's vector how near these chunks are; without those that have no vector."""
        rows = await self._db.read(READ_SOME, msgspec.json.encode(numbers.tolist()).decode())
        asked = _matrix(queries)
        rows = [row for row in rows if len(row[1]) == asked.shape[1] * 4]
        if not rows:
            return [_joined([]) for _ in queries]
        found, vectors = _unpacked(rows)
        return [Near(found, (vectors @ query).astype(np.float64)) for query in asked]

    async def _loaded(self, store_id: str, wanted: Numbers, dimensions: int) -> _Store | None:
        """The store with these files in memory; None if that is more than may be kept."""
        key = (store_id, dimensions)
        store = self._stores.setdefault(key, _Store())
        self._stores.move_to_end(key)
        async with store.lock:
            sizes: dict[int, int] = dict(await self._db.read(SIZES, store_id))
            if sum(sizes.values()) * dimensions * 4 > self._most_bytes:
                self._stores.pop(key, None)
                return None
            _drop_if_dead(store, sizes)
            missing = [number for number in wanted.tolist() if number not in store.files]
            if missing:
                try:
                    async for block in self._read(missing, store_id, dimensions):
                        store.add(block.numbers[: block.count], block.vectors[: block.count])
                except BaseException:
                    store.clear()  # what was read by now would be read, and kept, a second time
                    raise
                store.files.update(missing)
        self._make_room(key)
        return store

    def _make_room(self, latest: tuple[str, int]) -> None:
        size = sum(store.size_bytes for store in self._stores.values())
        for key in list(self._stores):
            if size <= self._most_bytes or key == latest:
                break
            size -= self._stores.pop(key).size_bytes

    async def _read(
        self, files: Sequence[int], store_id: str, dimensions: int
    ) -> AsyncGenerator[_Block]:
        """The vectors of these files, block by block."""
        sizes: dict[int, int] = dict(await self._db.read(SIZES, store_id))
        for ranges in _ranges(files, sizes):
            rows = await self._db.read(READ, msgspec.json.encode(ranges).decode())
            rows = [row for row in rows if len(row[1]) == dimensions * 4]
            if rows:
                block = _Block(dimensions)
                await asyncio.to_thread(_fill, block, rows)
                yield block


def _ranges(files: Iterable[int], sizes: Mapping[int, int]) -> Iterable[list[tuple[int, int]]]:
    """Ranges of chunks' numbers, as many together as fill a block."""
    ranges: list[tuple[int, int]] = []
    room = BLOCK
    for file_number in files:
        first, _ = range_of(file_number)
        left = sizes.get(file_number, 0)
        while left:
            taken = min(left, room)
            ranges.append((first, first + taken - 1))
            first, left, room = first + taken, left - taken, room - taken
            if not room or len(ranges) == FILES_AT_ONCE:
                yield ranges
                ranges, room = [], BLOCK
    if ranges:
        yield ranges


def _fill(block: _Block, rows: Sequence[tuple[int, bytes]]) -> None:
    block.take(*_unpacked(rows))


def _unpacked(rows: Sequence[tuple[int, bytes]]) -> tuple[Numbers, Vectors]:
    numbers = np.array([number for number, _ in rows], dtype=np.int64)
    return numbers, _matrix([vector for _, vector in rows])


def _matrix(vectors: Sequence[bytes]) -> Vectors:
    return np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)


def _drop_if_dead(store: _Store, sizes: Mapping[int, int]) -> None:
    """Forget what is in memory of a store of whose files many have gone."""
    if len(store.files - sizes.keys()) > DEAD_SHARE * len(store.files):
        store.clear()


def _nearest(
    blocks: Sequence[_Block], files: Numbers, queries: Vectors, limit: int
) -> list[list[Near]]:
    """For each query the nearest of each block."""
    found: list[list[Near]] = [[] for _ in queries]
    for block in blocks:
        numbers = block.numbers[: block.count]
        is_wanted = np.isin(numbers >> FILE_BITS, files)
        if not is_wanted.any():
            continue
        # The multiplication of all is quicker than to pick out what is wanted.
        cosines = queries @ block.vectors[: block.count].T
        cosines[:, ~is_wanted] = -np.inf
        kept = min(limit, int(is_wanted.sum()))
        for query, row in enumerate(cosines):
            best = np.argpartition(-row, kept - 1)[:kept]
            found[query].append(Near(numbers[best], row[best].astype(np.float64)))
    return found


def _put_together(found: list[list[Near]], parts: Sequence[list[Near]]) -> None:
    for each, part in zip(found, parts, strict=True):
        each.extend(part)


def _joined(parts: Sequence[Near]) -> Near:
    if not parts:
        return Near(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64))
    return Near(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.cosines for part in parts]),
    )
