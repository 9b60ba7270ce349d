"""A real PostgreSQL for tests: the one that RETHREAD_TEST_DATABASE_URL names, or one of their own.

Each test gets a database of its own, with the schema and nothing in it. Making one takes
PostgreSQL half a second, so one that a test has left as it was, but for its rows, is emptied for
another test.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from rethread.store.database import open_database
from tests.own_postgres import own_postgres

VARIABLE: Final = "RETHREAD_TEST_DATABASE_URL"
# A test's database need not outlive the machine; those that crash one start their own.
FASTER: Final = ("fsync=off", "full_page_writes=off", "max_connections=300")
# Servers that were killed have left them, or tests that have not closed theirs.
END_CONNECTIONS: Final = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
# All that could tell a database from a new one, beside rows: tables and their columns, versions,
# functions and settings; what the planner has been told, and files that have grown.
SHAPE: Final = """
WITH own AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$')
SELECT array_agg(part ORDER BY part) FROM (
  SELECT concat_ws(' ', attrelid::regclass, attname, atttypid::regtype, attnotnull) AS part
    FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
   WHERE relnamespace IN (SELECT oid FROM own)
  UNION ALL
  SELECT concat_ws(' ', number, name) FROM schema_versions
  UNION ALL
  SELECT concat_ws(' ', nspname, 'is there') FROM pg_namespace JOIN own USING (oid)
  UNION ALL
  SELECT concat_ws(' ', proname, prosrc) FROM pg_proc WHERE pronamespace IN (SELECT oid FROM own)
  UNION ALL
  SELECT concat_ws(' ', datname, setconfig)
    FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid
   WHERE datname = current_database()
  UNION ALL
  SELECT DISTINCT concat_ws(' ', starelid::regclass, 'has statistics') FROM pg_statistic
    JOIN pg_class ON starelid = pg_class.oid WHERE relnamespace IN (SELECT oid FROM own)
  UNION ALL
  SELECT concat_ws(' ', oid::regclass, 'is large') FROM pg_class
   WHERE relnamespace IN (SELECT oid FROM own) AND pg_relation_size(oid) > 1000000
) AS parts
"""
TABLES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
NUMBERS_FROM_ONE: Final = """
SELECT setval(format('%I.%I', schemaname, sequencename), start_value, false) FROM pg_sequences
"""


class Postgres:
    """A server, and databases on it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._names = (f"rethread_test_{os.getpid()}_{number}" for number in count())
        self._template: str | None = None
        self._shape: Any = None
        self._emptied: list[str] = []

    def new_database(self) -> str:
        """The URL of a database that has the schema and no rows."""
        if self._emptied:
            return self._emptied.pop()
        if self._template is None:
            template = next(self._names)
            self.ask(f"CREATE DATABASE {template}")
            asyncio.run(_migrate(self.url_of(template)))
            self._shape = self.ask(SHAPE, url=self.url_of(template))
            self._template = template
        name = next(self._names)
        self.ask(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return self.url_of(name)

    def empty_database(self) -> str:
        """The URL of a database with nothing in it, not even the schema."""
        name = next(self._names)
        self.ask(f"CREATE DATABASE {name}")
        return self.url_of(name)

    def give_back(self, url: str) -> None:
        """Leave a new database to another test, if it can be as new again."""
        if asyncio.run(_empty(url, self._shape)):
            self._emptied.append(url)
        else:
            self.drop(url)

    def drop(self, url: str) -> None:
        """Be rid of a database, whoever is connected."""
        self.ask(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")

    def drop_all(self) -> None:
        """Be rid of the template too, and of what would be given to another test."""
        for url in self._emptied:
            self.drop(url)
        if self._template is not None:
            self.drop(self.url_of(self._template))

    def url_of(self, name: str) -> str:
        """The URL of one of the server's databases."""
        return urlsplit(self._url)._replace(path=f"/{name}").geturl()

    def ask(self, sql: str, *arguments: Any, url: str | None = None) -> list[Any]:
        """The rows that a question gives."""
        return asyncio.run(_ask(url or self._url, sql, *arguments))


@contextmanager
def running_postgres(url: str | None) -> Iterator[Postgres]:
    """The server that was named, or a new one that is gone afterwards."""
    if url is not None:
        server = Postgres(url)
        yield server
        server.drop_all()
        return
    with own_postgres(*FASTER) as own:
        yield Postgres(own.socket_url)


async def _migrate(url: str) -> None:
    await (await open_database(Path(), url)).close()


async def _ask(url: str, sql: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


async def _empty(url: str, shape: Any) -> bool:
    """Whether the database has this shape, and nobody and nothing in it any more."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(END_CONNECTIONS)
        try:
            if await connection.fetch(SHAPE) != shape:
                return False
        except asyncpg.UndefinedTableError:
            return False
        tables = {row[0] for row in await connection.fetch(TABLES)} - {"schema_versions"}
        deletes = [f"DELETE FROM {table}" for table in tables]
        await connection.execute("; ".join([*deletes, NUMBERS_FROM_ONE]))
        return True
    finally:
        await connection.close()
