"""Search over many chunks: how long it takes, and how much of the nearest it finds.

`python -m benchmarks.bench_search [--chunks N] [--database-url URL] [--keep FOLDER]`: SQLite in a
folder, or an empty PostgreSQL with pgvector. The words are drawn as frequent and rare as in a
language, and the vectors lie in clusters, as those of texts do. A query has six words and a vector
that lies in one of the clusters; to make that vector from words is the embedder's time, not ours.
With --build the HNSW index is dropped before the chunks come, and made when they are there; for
1,000,000 give PostgreSQL a `maintenance_work_mem` of 2 GB, in which the index has room.
"""

import argparse
import asyncio
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `rethread serve` has it

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.filled_stores import PROJECT, add_file, new_store
from benchmarks.measure import percentile
from rethread.contract.filters import Eq
from rethread.store import chunk_lists, chunk_vectors
from rethread.store.chunks import FILE_BITS, IndexedChunk
from rethread.store.database import Database, Statement, open_database
from rethread.store.near import Index
from rethread.store.near_postgres import PostgresIndex
from rethread.store.near_sqlite import SqliteIndex
from rethread.tools.file_search.search import HybridSearch, Search

STORE: Final = "vs_large"
DIMENSIONS: Final = 384
CHUNKS_A_FILE: Final = 100
FILES_AT_ONCE: Final = 4
CLUSTERS: Final = 2000
SPREAD: Final = 0.7  # of a cluster, against the distance of its centre from nought
WORDS_A_CHUNK: Final = 400
VOCABULARY: Final = 60_000
WORDS_A_QUERY: Final = 6
QUERIES: Final = 200
NEAREST: Final = 10
PATIENCE_SECONDS: Final = (
    600.0  # a large index is put in order now and then, and writes wait for it
)
ADD_ATTRIBUTE: Final = """
INSERT INTO file_attributes (file_number, key, store_id, kind, number_value)
VALUES ($1, 'tenth', $2, 'number', $3)
"""
WAYS: Final = {
    "by both": (None, None),
    "by words": (HybridSearch(0, 1), None),
    "by vectors": (HybridSearch(1, 0), None),
    "by both, a tenth of the files": (None, Eq(key="tenth", value=3)),
}

Vectors = NDArray[np.float32]


class Texts:
    """Draws words and vectors; the same ones each time."""

    def __init__(self) -> None:
        self._draw = np.random.default_rng(7)
        weights = 1 / np.arange(1, VOCABULARY + 1)
        self._chances = weights / weights.sum()
        self._words = np.array([f"w{number:x}" for number in range(VOCABULARY)])
        self._centres = self._draw.standard_normal((CLUSTERS, DIMENSIONS)).astype(np.float32)

    def words(self, count: int) -> str:
        """So many words, frequent ones often."""
        return " ".join(self._draw.choice(self._words, size=count, p=self._chances))

    def vectors(self, count: int) -> Vectors:
        """So many vectors, normalised."""
        centres = self._centres[self._draw.integers(CLUSTERS, size=count)]
        noise = self._draw.standard_normal((count, DIMENSIONS)).astype(np.float32)
        found = centres + SPREAD * noise
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


class Known:
    """An embedder that knows the vectors of the queries."""

    name: Final = "known"

    def __init__(self, vectors: dict[str, bytes]) -> None:
        self._vectors = vectors

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Their vectors."""
        return [self._vectors[text] for text in texts]

    async def aclose(self) -> None:
        """Nothing to give back."""


async def fill(db: Database, texts: Texts, count: int, *, builds: bool) -> Vectors:
    """A store with so many chunks; their vectors, in the order of their numbers."""
    await chunk_vectors.check(db)
    await chunk_vectors.prepare(db, DIMENSIONS)
    table = chunk_vectors.table_for(DIMENSIONS)
    if builds:
        await db.write(Statement(f"DROP INDEX {table}_nearest"))
    await new_store(db, STORE, embedder=Known.name)
    began = time.monotonic()
    kept: dict[int, Vectors] = {}
    for number in range(0, count, CHUNKS_A_FILE * FILES_AT_ONCE):
        numbers = range(number, min(count, number + CHUNKS_A_FILE * FILES_AT_ONCE), CHUNKS_A_FILE)
        for added in await asyncio.gather(*(_add_file(db, texts, each) for each in numbers)):
            kept |= added
        print(f"\r{number:,}", end="", file=sys.stderr)
    seconds = time.monotonic() - began
    print(f"\r{count:,} chunks written in {seconds:.0f} s ({seconds / count * 1000:.2f} ms each)")
    if builds:
        await _build(db, table)
    if db.dialect == "postgresql":
        await db.write(Statement("ANALYZE"))
    return np.concatenate([vectors for _, vectors in sorted(kept.items())])


async def _add_file(db: Database, texts: Texts, place: int) -> dict[int, Vectors]:
    """The file's vectors, by its number."""
    vectors = texts.vectors(CHUNKS_A_FILE)
    pieces = [
        IndexedChunk(words, 0, None, words, vector.tobytes())
        for words, vector in zip(_pieces(texts), vectors, strict=True)
    ]
    file_number = await add_file(db, STORE, f"file{place}", pieces)
    tenth = (place // CHUNKS_A_FILE) % 10
    await db.write(Statement(ADD_ATTRIBUTE, file_number, STORE, float(tenth)))
    return {file_number: vectors}


def _pieces(texts: Texts) -> Iterator[str]:
    words = texts.words(WORDS_A_CHUNK * CHUNKS_A_FILE).split(" ")
    for start in range(0, len(words), WORDS_A_CHUNK):
        yield " ".join(words[start : start + WORDS_A_CHUNK])


async def _build(db: Database, table: str) -> None:
    began = time.monotonic()
    await db.write(Statement(chunk_vectors.PREPARE[1].format(table=table)))
    size = (await db.read(f"SELECT pg_relation_size('{table}_nearest')"))[0][0]
    print(f"HNSW built in {time.monotonic() - began:.0f} s, {size / 2**20:,.0f} MiB")


async def measure(db: Database, texts: Texts, vectors: Vectors) -> None:
    """Print how long searches take, and what part of the nearest is found."""
    asked = texts.vectors(QUERIES)
    queries = [texts.words(WORDS_A_QUERY) for _ in range(QUERIES)]
    known = {query: vector.tobytes() for query, vector in zip(queries, asked, strict=True)}
    search = Search(db, Known(known), cache_bytes=8 * 2**30)
    await _search(search, queries[:1], None, None)  # what is kept in memory is read now
    print("|  | p50 | p95 |")
    for name, (weights, wanted) in WAYS.items():
        await _search(search, queries[:20], weights, wanted)
        seconds = await _search(search, queries, weights, wanted)
        p50, p95 = (1000 * percentile(seconds, percent) for percent in (50, 95))
        print(f"| {name} | {p50:.1f} ms | {p95:.1f} ms |")
    print(f"recall@{NEAREST} of the vectors: {await _recall(db, vectors, asked):.3f}")
    print(f"memory of this process: {_memory_mib():,.0f} MiB")


async def _search(search: Search, queries: Sequence[str], *how: Any) -> list[float]:
    weights, wanted = how
    seconds = []
    for query in queries:
        began = time.monotonic()
        await search.search(
            PROJECT, [STORE], [query], limit=NEAREST, hybrid=weights, filters=wanted, now=0
        )
        seconds.append(time.monotonic() - began)
    return seconds


async def _recall(db: Database, vectors: Vectors, asked: Vectors) -> float:
    index: Index = PostgresIndex(db)
    if db.dialect == "sqlite":
        index = SqliteIndex(db, most_bytes=8 * 2**30)
    files = {STORE: await chunk_lists.files_of(db, STORE, None)}
    first = files[STORE][0]
    found = 0
    for query in asked:
        exact = np.argsort(-(vectors @ query))[:NEAREST]
        [near] = await index.nearest(files, [query.tobytes()], limit=NEAREST)
        best = near.numbers[np.argsort(-near.cosines)[:NEAREST]]
        places = ((best >> FILE_BITS) - first) * CHUNKS_A_FILE + best % (1 << FILE_BITS)
        found += len(set(exact.tolist()) & set(places.tolist()))
    return found / (len(asked) * NEAREST)


def _memory_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def main(asked: argparse.Namespace) -> None:
    """Fill and measure."""
    texts = Texts()
    with tempfile.TemporaryDirectory() as folder:
        db = await open_database(
            asked.keep or Path(folder), asked.database_url, timeout_seconds=PATIENCE_SECONDS
        )
        try:
            vectors = await fill(db, texts, asked.chunks, builds=asked.build)
            await measure(db, texts, vectors)
        finally:
            await db.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--database-url")
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--keep", type=Path)
    asyncio.run(main(parser.parse_args()))
