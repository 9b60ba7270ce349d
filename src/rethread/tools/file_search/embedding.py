"""The embedder as files and searches use it: before it gives vectors back, they have a place."""

from collections.abc import Sequence

from rethread.errors import Misconfigured, ModelError
from rethread.providers.embeddings import Embedder
from rethread.store import chunk_vectors
from rethread.store.database import Database


class Placed:
    """An embedder whose vectors the database can keep."""

    def __init__(self, embedder: Embedder, db: Database) -> None:
        self._embedder = embedder
        self._db = db
        self._placed: set[int] = set()

    @property
    def name(self) -> str:
        """The model, and its dimensions where those were chosen; it is kept with each store."""
        return self._embedder.name

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector for each text; ModelError also where the database cannot keep such vectors."""
        vectors = await self._embedder.embed(texts)
        for dimensions in {len(vector) // 4 for vector in vectors} - self._placed:
            try:
                await chunk_vectors.prepare(self._db, dimensions)
            except Misconfigured as problem:
                raise ModelError(problem.message, reason="too many dimensions") from problem
            self._placed.add(dimensions)
        return vectors

    async def aclose(self) -> None:
        """Give back what it holds."""
        await self._embedder.aclose()
