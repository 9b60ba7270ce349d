"""Which rows a move takes where: found out from the schemas of both sides, not listed.

A table that a later version adds is so moved without a change here. What is listed are the
tables that say something of an installation rather than of its data, and the search index.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from rethread.errors import Damaged
from rethread.store.database import Database, Row

# A column's table, its name, whether it holds something of any length, and its place in the key.
# A virtual table and those that it keeps its own things in are not of type `table`.
# PostgreSQL counts a key's columns from 0; without a key, the column that counts is one.
# differs: each has its schema in tables of its own.
COLUMNS: Final = {
    "sqlite": """
SELECT tables.name, columns.name,
       columns.type NOT IN ('BIGINT', 'INTEGER', 'DOUBLE PRECISION'), columns.pk
  FROM pragma_table_list AS tables
  JOIN pragma_table_info(tables.name) AS columns
 WHERE tables.schema = 'main' AND tables.type = 'table' AND substr(tables.name, 1, 7) <> 'sqlite_'
 ORDER BY tables.name, columns.cid
""",
    "postgresql": """
SELECT tables.relname, columns.attname,
       columns.atttypid NOT IN (CAST('BIGINT' AS REGTYPE), CAST('DOUBLE PRECISION' AS REGTYPE)),
       COALESCE(array_position(CAST(keys.indkey AS SMALLINT[]), columns.attnum) + 1,
                CASE WHEN keys.indkey IS NULL AND columns.attidentity <> '' THEN 1 END,
                0)
  FROM pg_class AS tables
  JOIN pg_attribute AS columns ON columns.attrelid = tables.oid
  LEFT JOIN pg_index AS keys ON keys.indrelid = tables.oid AND keys.indisprimary
 WHERE tables.relnamespace = CAST(current_schema() AS REGNAMESPACE) AND tables.relkind IN ('r', 'p')
   AND columns.attnum > 0 AND NOT columns.attisdropped AND columns.attgenerated = ''
 ORDER BY tables.relname, columns.attnum
""",
}
# The highest number that each column which counts has given, also to rows that have gone: a
# number that came again would lead an old cursor astray.
COUNTERS: Final = {
    "sqlite": "SELECT name, seq FROM sqlite_sequence ORDER BY name",
    "postgresql": """
SELECT tables.relname,
       pg_sequence_last_value(pg_get_serial_sequence(quote_ident(tables.relname), columns.attname))
  FROM pg_class AS tables
  JOIN pg_attribute AS columns ON columns.attrelid = tables.oid AND columns.attidentity <> ''
 WHERE tables.relnamespace = CAST(current_schema() AS REGNAMESPACE)
 ORDER BY tables.relname
""",
}

STATE: Final = "moves"
OF_THE_INSTALLATION: Final = frozenset(
    {"schema_versions", "servers", "writers", "reindexing", STATE}
)
# Each kind of database has its own for chunks, too: the words are indexed anew at the end of a
# move, and `rethread reindex` makes the vectors anew.
OF_THE_INDEX: Final = ("chunk_words", "chunk_vectors")
WORK: Final = frozenset({"work", "ingestions"})
QUEUE: Final = "unindexed_messages"
# The index of each kind of database is made of its own: what one has found goes back into the
# queue of the other, with its number, which is the order of the results.
QUEUED_AGAIN: Final = {"message_texts": QUEUE, QUEUE: QUEUE}
QUEUED_COLUMNS: Final = ("number", "thread_id", "message_id")


class Columns(NamedTuple):
    """What a table has: its columns, which of them may be long, and its key."""

    names: tuple[str, ...]
    long: frozenset[str]
    key: tuple[str, ...]


class Table(NamedTuple):
    """Rows that go from one table to another. The source's key gives them their order."""

    name: str
    into: str
    columns: tuple[str, ...]
    long: frozenset[str]
    key: tuple[str, ...]
    key_there: tuple[str, ...]

    def key_of(self, row: Row) -> Row:
        """By which the target knows the row."""
        return tuple(row[self.columns.index(column)] for column in self.key_there)


async def tables_to_move(source: Database, target: Database) -> list[Table]:
    """What there is to copy; the work comes last, so that nobody takes it up before."""
    here, there = await columns_of(source), await columns_of(target)
    names = (here.keys() & there.keys()) - OF_THE_INSTALLATION
    found = [_table(name, here, there) for name in names if not name.startswith(OF_THE_INDEX)]
    return sorted(found, key=lambda table: (table.name in WORK, table.name))


async def columns_of(db: Database) -> dict[str, Columns]:
    """The tables of a database."""
    rows: dict[str, list[tuple[str, bool, int]]] = {}
    for table, column, is_long, place in await db.read(COLUMNS[db.dialect]):
        rows.setdefault(table, []).append((column, bool(is_long), place))
    return {name: _columns(each) for name, each in rows.items()}


async def counters_of(db: Database) -> dict[str, int]:
    """The last number that was given, by table; none where none was."""
    rows = await db.read(COUNTERS[db.dialect])
    return {name: last for name, last in rows if last}


def listed(names: Iterable[str], *, of: str = "") -> str:
    """Columns as SQL has them; those of a table, where there are several."""
    return ", ".join(f'{of}."{name}"' if of else f'"{name}"' for name in names)


def _columns(rows: list[tuple[str, bool, int]]) -> Columns:
    keyed = sorted((place, column) for column, _, place in rows if place)
    return Columns(
        names=tuple(column for column, _, _ in rows),
        long=frozenset(column for column, is_long, _ in rows if is_long),
        key=tuple(column for _, column in keyed),
    )


def _table(name: str, here: Mapping[str, Columns], there: Mapping[str, Columns]) -> Table:
    into = QUEUED_AGAIN.get(name, name)
    source, target = here[name], there[into]
    columns = QUEUED_COLUMNS if name in QUEUED_AGAIN else source.names
    if not set(columns) <= set(target.names) or (into == name and _differ(source, target)):
        raise Damaged(f"the table {name} has other columns in the one database than in the other")
    return Table(
        name=name,
        into=into,
        columns=columns,
        long=source.long,
        key=source.key,
        key_there=("number",) if into == QUEUE else target.key,
    )


def _differ(source: Columns, target: Columns) -> bool:
    return set(source.names) != set(target.names)
