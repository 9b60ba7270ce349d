"""Where the chunks' vectors are, and how they come and go: not how they are searched.

A vector is normalised, of 32-bit numbers, little-endian. SQLite keeps it as it is. PostgreSQL has
a table for each number of dimensions, with pgvector's type of half precision, as an HNSW index of
that takes up to 4,000 dimensions; `prepare` makes it when an embedder is known.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from rethread.errors import Misconfigured, RethreadError
from rethread.store.database import Database
from rethread.store.statements import Statement

MAX_DIMENSIONS: Final = 4000
OLDEST: Final = (0, 8)  # of pgvector: it goes on looking where a filter has left too little

ADD_TO_FILE: Final = """
INSERT INTO chunk_vectors (number, vector) VALUES ($1, $2)
ON CONFLICT (number) DO UPDATE SET vector = excluded.vector
"""
ADD_TO_TABLE: Final = """
INSERT INTO {table} (number, vector)
SELECT CAST(pair ->> 0 AS BIGINT), CAST(pair ->> 1 AS HALFVEC)
  FROM json_array_elements(CAST($1 AS JSON)) AS pairs (pair)
ON CONFLICT (number) DO UPDATE SET vector = excluded.vector
"""
FORGET: Final = "DELETE FROM {table} WHERE number BETWEEN $1 AND $2"
TABLES: Final = """
SELECT CAST(relname AS TEXT) FROM pg_class
 WHERE relnamespace = CAST(current_schema() AS REGNAMESPACE) AND relkind = 'r'
   AND relname LIKE 'chunk\\_vectors\\_%'
 ORDER BY relname
"""
VERSION: Final = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
EXTEND: Final = "CREATE EXTENSION IF NOT EXISTS vector"
HAS_TABLE: Final = "SELECT to_regproc($1) IS NOT NULL"
# The vectors are normalised, so the inner product is the cosine; pgvector has it negated. Only
# the HNSW index gives them in that order, and the session is told to use it: those who ask have
# found out before that there is too much to compare with all.
PREPARE: Final = (
    """
CREATE TABLE IF NOT EXISTS {table} (
    number BIGINT PRIMARY KEY, vector HALFVEC({dimensions}) NOT NULL
)
""",
    "CREATE INDEX IF NOT EXISTS {table}_nearest ON {table} USING hnsw (vector halfvec_ip_ops)",
    """
CREATE OR REPLACE FUNCTION {table}_near(query TEXT, files BIGINT[], most BIGINT)
RETURNS TABLE (found BIGINT, cosine DOUBLE PRECISION) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET jit = off
SET hnsw.ef_search = 100 SET hnsw.iterative_scan = relaxed_order SET hnsw.max_scan_tuples = 40000
AS $function$
BEGIN
    RETURN QUERY EXECUTE
        'SELECT number, -(vector <#> $1) FROM {table} WHERE number >> 20 = ANY ($2)'
        ' ORDER BY vector <#> $1 LIMIT $3'
        USING CAST(query AS HALFVEC), files, most;
END
$function$
""",
)


async def prepare(db: Database, dimensions: int) -> None:
    """Have a place for vectors of so many dimensions; Misconfigured where there can be none."""
    if db.dialect == "sqlite":
        return
    if dimensions > MAX_DIMENSIONS:
        raise Misconfigured(
            f"the embedding model gives {dimensions} dimensions, and pgvector's index takes up to "
            f"{MAX_DIMENSIONS}; ask for fewer with --embedding-dimensions"
        )
    table = table_for(dimensions)
    if (await db.read(HAS_TABLE, f"{table}_near"))[0][0]:
        return
    async with db.migrating():
        await db.write(
            *(Statement(sql.format(table=table, dimensions=dimensions)) for sql in PREPARE)
        )


async def check(db: Database) -> None:
    """Misconfigured where the database can keep no vectors."""
    if db.dialect == "sqlite":
        return
    try:
        async with db.migrating():
            await db.write(Statement(EXTEND))
        version = (await db.read(VERSION))[0][0]
    except RethreadError:
        raise
    except Exception as problem:
        raise Misconfigured(
            f"embeddings need the extension pgvector, and the database {db.place} does not have "
            f"it, or does not let this user make it (CREATE EXTENSION vector): {problem}"
        ) from problem
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise Misconfigured(
            f"the extension pgvector of the database {db.place} is version {version}; rethread "
            f"needs {'.'.join(map(str, OLDEST))} or newer (ALTER EXTENSION vector UPDATE)"
        )


def adding(db: Database, vectors: Sequence[tuple[int, bytes]]) -> list[Statement]:
    """Statements that keep vectors of chunks; number and vector of each."""
    if not vectors:
        return []
    if db.dialect == "sqlite":
        return [Statement(ADD_TO_FILE, number, vector) for number, vector in vectors]
    sql = ADD_TO_TABLE.format(table=table_for(len(vectors[0][1]) // 4))
    pairs = [(number, written(vector)) for number, vector in vectors]
    return [Statement(sql, msgspec.json.encode(pairs).decode())]


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


def written(vector: bytes) -> str:
    """A vector as pgvector reads it."""
    numbers = memoryview(vector).cast("f").tolist()
    return msgspec.json.encode(numbers).decode()
