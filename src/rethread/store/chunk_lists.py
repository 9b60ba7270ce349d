"""What the keyword search reads: the chunks that have a word, and the files that may be found.

Lists of numbers come packed, not as rows: they are long, and go into numpy as they are. Nothing
is ranked here.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from rethread.contract.filters import Filter
from rethread.store.database import Database
from rethread.store.filters import condition

Numbers = NDArray[np.int64]

NONE: Final[Numbers] = np.empty(0, dtype=np.int64)

# differs: how a database packs numbers; SQLite has text alone.
PACKED: Final = {
    "sqlite": "SELECT json_group_array(number) FROM ({numbers}) AS numbers",
    "postgresql": "SELECT string_agg(int8send(number), '') FROM ({numbers}) AS numbers",
}
FILES: Final = """
SELECT files.number FROM vector_store_files AS files
 WHERE files.store_id = $1 AND files.status = 'completed' {condition}
"""
CHUNKS: Final = (
    "SELECT CAST(COALESCE(SUM(chunks), 0) AS BIGINT) FROM indexed_files WHERE store_id = $1"
)
# A list that is longer is not read, except its beginning where all are.
# differs: each has its own way to say that a word matches.
LISTS: Final = {
    "sqlite": """
SELECT CASE WHEN $3 OR $2 >= (
           SELECT COUNT(*) FROM (
               SELECT 1 FROM chunk_words WHERE chunk_words MATCH asked.value LIMIT $2 + 1) AS found)
       THEN (SELECT json_group_array(number) FROM (
                SELECT rowid AS number FROM chunk_words WHERE chunk_words MATCH asked.value
                 LIMIT $2) AS found) END
  FROM json_each($1) AS asked ORDER BY asked.key
""",
    "postgresql": """
SELECT chunks_with(asked.word, $2)
  FROM json_array_elements_text(CAST($1 AS JSON)) WITH ORDINALITY AS asked (word, place)
 ORDER BY asked.place
""",
}


async def files_of(db: Database, store_id: str, filter: Filter | None) -> Numbers:
    """The files of a store that may be found, in order: they are read, and pass the filter."""
    sql, arguments = FILES.format(condition=""), [store_id]
    if filter is not None:
        found = condition(db.dialect, filter)
        sql = FILES.format(condition=f"AND {found.sql}")
        arguments.append(found.values)
    packed = await db.read(PACKED[db.dialect].format(numbers=sql), *arguments)
    numbers = unpacked(packed[0][0])
    numbers.sort()
    return numbers


async def count(db: Database, store_id: str) -> int:
    """How many chunks the index has of a store, whether they may be found or not."""
    return int((await db.read(CHUNKS, store_id))[0][0])


async def lists(
    db: Database, names: Sequence[str], *, most: int, may_be_cut: bool = False
) -> list[Numbers | None]:
    """The chunks that have each of the words; None for a word that more than `most` have.

    Where they may be cut, the first `most` of those.
    """
    if db.dialect == "sqlite":
        asked = msgspec.json.encode([f'"{name}"' for name in names]).decode()
        rows = await db.read(LISTS[db.dialect], asked, most, int(may_be_cut))
        return [None if packed is None else unpacked(packed) for (packed,) in rows]
    asked = msgspec.json.encode([f"'{name}'" for name in names]).decode()
    limit = most if may_be_cut else most + 1
    found = [unpacked(packed) for (packed,) in await db.read(LISTS[db.dialect], asked, limit)]
    return [None if len(numbers) > most else numbers for numbers in found]


def unpacked(packed: Any) -> Numbers:
    """Numbers as the database has packed them."""
    match packed:
        case None | "" | "[]":
            return NONE.copy()
        case str():
            return np.fromstring(packed[1:-1], dtype=np.int64, sep=",")
        case _:
            return np.frombuffer(packed, dtype=">i8").astype(np.int64)
