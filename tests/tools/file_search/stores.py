"""Vector stores with files in them, as ingestion leaves them; and an embedder without a model."""

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence

from rethread.contract.vector_stores import StoreBody, attribute_rows
from rethread.providers.embeddings import Embedder
from rethread.store import chunk_vectors, chunks, vector_stores
from rethread.store.chunks import IndexedChunk
from rethread.store.database import Database, Statement
from rethread.store.words import words_of

PROJECT = "default"
NOW = 1_700_000_000

ADD_FILE = """
INSERT INTO vector_store_files (store_id, file_id, status, created_at, filename,
                                max_chunk_tokens, overlap_tokens, attributes)
VALUES ($1, $2, $3, 0, $4, 800, 400, $5) RETURNING number
"""
ADD_ATTRIBUTE = """
INSERT INTO file_attributes (file_number, key, store_id, kind, text_value, number_value)
VALUES ($1, $2, $3, $4, $5, $6)
"""


class WordEmbedder:
    """Vectors by what words mean: those of one `meaning` point the same way."""

    def __init__(
        self, meanings: Mapping[str, str] | None = None, *, name: str = "words/16"
    ) -> None:
        self.name = name
        self.dimensions = int(name.partition("/")[2])
        self._meanings = meanings or {}

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        return [self.vector(text) for text in texts]

    async def aclose(self) -> None:
        pass

    def vector(self, text: str) -> bytes:
        numbers = [0.001] * self.dimensions
        for word in words_of(text):
            meaning = self._meanings.get(word, word)
            numbers[zlib.crc32(meaning.encode()) % self.dimensions] += 1.0
        length = math.sqrt(sum(number * number for number in numbers))
        return struct.pack(f"<{self.dimensions}f", *(number / length for number in numbers))


async def new_store(
    db: Database, store_id: str, *, embedder: Embedder | None = None, days: int | None = None
) -> None:
    if embedder is not None:
        await chunk_vectors.check(db)
        [vector] = await embedder.embed(["its size"])
        await chunk_vectors.prepare(db, len(vector) // 4)
    name = embedder.name if embedder else ""
    body = StoreBody(name=store_id)
    new = vector_stores.new(PROJECT, store_id, body, days=days, embedder=name, now=NOW)
    await db.write(vector_stores.adding(new))


async def new_file(
    db: Database,
    store_id: str,
    file_id: str,
    *texts: str,
    attributes: dict[str, str | int | float | bool] | None = None,
    embedder: Embedder | None = None,
    status: str = "completed",
) -> int:
    """The file's number in the store."""
    attributes = attributes or {}
    shown = json.dumps(attributes).encode()
    row = await db.write(Statement(ADD_FILE, store_id, file_id, status, f"{file_id}.txt", shown))
    number: int = row[0][0]
    for each in attribute_rows(attributes):
        await db.write(
            Statement(ADD_ATTRIBUTE, number, each.key, store_id, each.kind, each.text, each.number)
        )
    vectors = await embedder.embed(texts) if embedder else [None] * len(texts)
    pieces = [
        IndexedChunk(text, 100 * place, None, " ".join(words_of(text)), vector)
        for place, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]
    await db.write(*chunks.adding(db, store_id, number, 0, pieces))
    return number
