"""Search in vector stores: by words, and by vectors where there is an embedder.

Stores are searched together, as if they were one; by words alone, where one of them has no vectors.
Who asks for a store that has expired, or whose vectors are of another embedder than this server's,
is refused before anything is searched.
"""

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from rethread.contract.filters import Filter
from rethread.errors import Conflict, ModelError, Unavailable
from rethread.providers.embeddings import Embedder
from rethread.store import chunks, vector_stores
from rethread.store.database import Database
from rethread.store.vector_stores import StoredStore

if TYPE_CHECKING:
    from rethread.store.near import Index
    from rethread.tools.file_search.finding import Weights
    from rethread.tools.file_search.ranking import Hits
    from rethread.tools.file_search.word_lists import WordLists

Ranker = Literal["auto", "none", "default-2024-11-15", "default_2024_08_21"]

CACHE_BYTES: Final = 512 * 2**20
SCORE_DIGITS: Final = 6  # behind the point; what follows is noise
# It needs numpy, which takes some 100 ms to load: nobody shall wait for it who does not search.
FINDING: Final = "rethread.tools.file_search.finding"


class Passage(NamedTuple):
    """A piece of a file that was found; `start` is its place in the file's text."""

    store_id: str
    file_id: str
    filename: str
    attributes: dict[str, Any]
    score: float
    text: str
    page: int | None
    start: int


class HybridSearch(NamedTuple):
    """How much vectors and words shall count, one against the other."""

    embedding_weight: float
    text_weight: float


class Search:
    """One for the process: it keeps vectors in memory, `cache_bytes` at most."""

    def __init__(
        self, db: Database, embedder: Embedder | None, *, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._db = db
        self._embedder = embedder
        self._cache_bytes = cache_bytes
        self._index: Index | None = None
        self._lists: WordLists | None = None

    async def search(
        self,
        project: str,
        store_ids: Sequence[str],
        queries: Sequence[str],
        *,
        limit: int,
        filters: Filter | None = None,
        score_threshold: float = 0.0,
        ranker: Ranker = "auto",
        hybrid: HybridSearch | None = None,
        now: int,
    ) -> list[Passage]:
        """The passages that fit any of the queries best, each once, the best first.

        NotFound for a store that the project does not have, Conflict for one that cannot be
        searched, Unavailable if the embedder does not answer. The stores count as used.
        """
        ids = list(dict.fromkeys(store_ids))
        stores = [await vector_stores.usable(self._db, project, id, now=now) for id in ids]
        for stored in stores:
            check_embedder(stored, self._embedder)
        asked = [query for query in dict.fromkeys(queries) if query.strip()]
        touching = [vector_stores.touching(id, now) for id in ids]
        if touching:
            await self._db.write(*touching)
        if not asked or not ids:
            return []
        await asyncio.to_thread(import_module, FINDING)
        # Beside a store without vectors, those of the others would lift all that they have.
        has_vectors = all(stored.embedder for stored in stores)
        weights = _weights(ranker, hybrid, has_vectors=has_vectors)
        hits = await self._find(ids, asked, limit, filters, weights)
        return await self._passages(hits, score_threshold)

    async def _find(
        self,
        store_ids: Sequence[str],
        queries: Sequence[str],
        limit: int,
        filters: Filter | None,
        weights: "Weights",
    ) -> "Hits":
        from rethread.store import chunk_lists  # noqa: PLC0415 - as above
        from rethread.tools.file_search import finding  # noqa: PLC0415

        found = await asyncio.gather(
            *(chunk_lists.files_of(self._db, store_id, filters) for store_id in store_ids)
        )
        files = dict(zip(store_ids, found, strict=True))
        vectors: list[bytes] = []
        if self._embedder is not None and weights.vectors > 0:
            vectors = await _embedded(self._embedder, queries)
        return await finding.find(
            self._words(), self._near(), files, queries, vectors, weights=weights, limit=limit
        )

    def _words(self) -> "WordLists":
        if self._lists is None:
            from rethread.tools.file_search.word_lists import WordLists  # noqa: PLC0415 - as above

            self._lists = WordLists(self._db)
        return self._lists

    def _near(self) -> "Index | None":
        """How vectors are searched here, if they are."""
        if self._index is None and self._embedder is not None:
            if self._db.dialect == "sqlite":
                from rethread.store.near_sqlite import SqliteIndex  # noqa: PLC0415

                self._index = SqliteIndex(self._db, most_bytes=self._cache_bytes)
            else:
                from rethread.store.near_postgres import PostgresIndex  # noqa: PLC0415

                self._index = PostgresIndex(self._db)
        return self._index

    async def _passages(self, hits: "Hits", score_threshold: float) -> list[Passage]:
        scores = {
            number: round(score, SCORE_DIGITS)
            for number, score in zip(hits.numbers.tolist(), hits.scores.tolist(), strict=True)
            if score >= score_threshold
        }
        passages = {
            each.number: Passage(
                store_id=each.store_id,
                file_id=each.file_id,
                filename=each.filename,
                attributes=msgspec.json.decode(each.attributes),
                score=scores[each.number],
                text=each.text,
                page=each.page,
                start=each.start,
            )
            for each in await chunks.found(self._db, list(scores))
        }
        # What has gone meanwhile is missing.
        return [passages[number] for number in scores if number in passages]


def check_embedder(stored: StoredStore, embedder: Embedder | None) -> None:
    """Conflict where a store has vectors, and of another embedder than this one."""
    name = embedder.name if embedder else ""
    if stored.embedder in ("", name):
        return
    has = f"'{name}'" if name else "none"
    raise Conflict(
        f"Vector store '{stored.id}' was made with the embedder '{stored.embedder}', and this "
        f"server has {has}. Start the server with the same one, or run `rethread reindex`, which "
        "makes the vectors anew."
    )


def _weights(ranker: Ranker, hybrid: HybridSearch | None, *, has_vectors: bool) -> "Weights":
    from rethread.tools.file_search.finding import (  # noqa: PLC0415 - loaded by now
        BALANCED,
        WORDS_ALONE,
        Weights,
    )

    if not has_vectors:
        return WORDS_ALONE
    if hybrid is not None and hybrid.embedding_weight + hybrid.text_weight > 0:
        return Weights(hybrid.embedding_weight, hybrid.text_weight)
    return Weights(1.0, 0.0) if ranker == "none" else BALANCED


async def _embedded(embedder: Embedder, queries: Sequence[str]) -> list[bytes]:
    try:
        return await embedder.embed(queries)
    except ModelError as problem:
        raise Unavailable(
            f"The files cannot be searched now: {problem.message}", reason=problem.reason
        ) from problem
