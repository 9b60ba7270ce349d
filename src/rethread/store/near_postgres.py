"""Vectors in PostgreSQL, by pgvector: those of a few files are all compared, exactly.

Where there are many, the HNSW index is followed, and goes on until it has found enough of these
files. It would look for long for a small part of all vectors, so such a part is compared.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from rethread.store.chunk_lists import NONE, Numbers
from rethread.store.chunk_vectors import table_for, written
from rethread.store.database import Database
from rethread.store.near import Near

COMPARED: Final = 10_000  # vectors at most, or
SMALL_SHARE: Final = 0.01  # of all that there are

SIZES: Final = """
SELECT (SELECT CAST(COALESCE(SUM(chunks), 0) AS BIGINT) FROM indexed_files
         WHERE file_number = ANY (CAST($1 AS BIGINT[]))),
       (SELECT CAST(reltuples AS BIGINT) FROM pg_class WHERE oid = to_regclass('chunks'))
"""
COMPARE: Final = """
SELECT near.number, near.cosine
  FROM unnest(CAST($1 AS BIGINT[])) AS files (number)
 CROSS JOIN LATERAL (
       SELECT vectors.number, -(vectors.vector <#> CAST($2 AS HALFVEC)) AS cosine
         FROM {table} AS vectors
        WHERE vectors.number BETWEEN files.number << 20 AND (files.number << 20) + 1048575
       OFFSET 0) AS near
 ORDER BY near.cosine DESC LIMIT $3
"""
FOLLOW: Final = "SELECT found, cosine FROM {table}_near($2, CAST($1 AS BIGINT[]), $3)"
COSINES: Final = """
SELECT number, -(vector <#> CAST($2 AS HALFVEC)) FROM {table}
 WHERE number = ANY (CAST($1 AS BIGINT[])) ORDER BY number
"""


class PostgresIndex:
    """It keeps nothing itself."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def nearest(
        self, files: Mapping[str, Numbers], queries: Sequence[bytes], *, limit: int
    ) -> list[Near]:
        """For each query's vector the nearest chunks of these files, by store; in any order."""
        wanted = np.concatenate([NONE, *files.values()]).tolist()
        asked, all_there_are = (await self._db.read(SIZES, wanted))[0]
        is_small = asked <= max(COMPARED, SMALL_SHARE * all_there_are)
        sql = COMPARE if is_small else FOLLOW
        return await self._ask(sql, queries, wanted, limit)

    async def cosines(self, numbers: Numbers, queries: Sequence[bytes]) -> list[Near]:
        """For each query's vector how near these chunks are; without those that have no vector."""
        return await self._ask(COSINES, queries, numbers.tolist())

    async def _ask(
        self, sql: str, queries: Sequence[bytes], numbers: Sequence[int], *arguments: int
    ) -> list[Near]:
        found = await asyncio.gather(
            *(
                self._db.read(
                    sql.format(table=table_for(len(query) // 4)),
                    numbers,
                    written(query),
                    *arguments,
                )
                for query in queries
            )
        )
        return [
            Near(
                np.array([number for number, _ in rows], dtype=np.int64),
                np.array([cosine for _, cosine in rows], dtype=np.float64),
            )
            for rows in found
        ]
