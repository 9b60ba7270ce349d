"""Where the chunks' vectors are, and how they come and go: not how they are searched.

A vector is normalised, of 32-bit numbers, little-endian. SQLite keeps it as it is. PostgreSQL has
a table for each number of dimensions, with pgvector's type of half precision, as an HNSW index of
that takes up to 4,000 dimensions; `prepare` makes it when an embedder is configured.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from rethread.store.database import Database
from rethread.store.statements import Statement

ADD_TO_FILE: Final = """
INSERT INTO chunk_vectors (number, vector) VALUES ($1, $2)
ON CONFLICT (number) DO UPDATE SET vector = excluded.vector
"""
ADD_TO_TABLE: Final = """
INSERT INTO {table} (number, store_id, vector)
SELECT CAST(pair ->> 0 AS BIGINT), CAST($1 AS TEXT), CAST(pair ->> 1 AS HALFVEC)
  FROM json_array_elements(CAST($2 AS JSON)) AS pairs (pair)
ON CONFLICT (number) DO UPDATE SET vector = excluded.vector
"""
FORGET: Final = "DELETE FROM {table} WHERE number BETWEEN $1 AND $2"
TABLES: Final = """
SELECT CAST(relname AS TEXT) FROM pg_class
 WHERE relnamespace = CAST(current_schema() AS REGNAMESPACE) AND relkind = 'r'
   AND relname LIKE 'chunk\\_vectors\\_%'
 ORDER BY relname
"""


def adding(db: Database, store_id: str, vectors: Sequence[tuple[int, bytes]]) -> list[Statement]:
    """Statements that keep the vectors of chunks of one store; number and vector of each."""
    if not vectors:
        return []
    if db.dialect == "sqlite":
        return [Statement(ADD_TO_FILE, number, vector) for number, vector in vectors]
    sql = ADD_TO_TABLE.format(table=table_for(len(vectors[0][1]) // 4))
    pairs = [(number, _written(vector)) for number, vector in vectors]
    return [Statement(sql, store_id, msgspec.json.encode(pairs).decode())]


async def forgetting(db: Database, first: int, last: int) -> list[Statement]:
    """Statements that delete the vectors of these chunks, whichever embedder made them."""
    return [Statement(FORGET.format(table=name), first, last) for name in await tables(db)]


async def tables(db: Database) -> list[str]:
    """The tables that hold vectors."""
    if db.dialect == "sqlite":
        return ["chunk_vectors"]
    return [name for (name,) in await db.read(TABLES)]


def table_for(dimensions: int) -> str:
    """PostgreSQL's table for vectors of so many dimensions."""
    return f"chunk_vectors_{dimensions:d}"


def _written(vector: bytes) -> str:
    """As pgvector reads it."""
    numbers = memoryview(vector).cast("f").tolist()
    return msgspec.json.encode(numbers).decode()
