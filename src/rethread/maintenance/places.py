"""Where a database is, as a command line names it: a folder with SQLite, or a PostgreSQL's URL."""

import shlex
from pathlib import Path
from typing import NamedTuple

from rethread.errors import Misconfigured
from rethread.store.database import FILE_NAME
from rethread.store.urls import without_password

SCHEMES = ("postgresql", "postgres")


class Place(NamedTuple):
    """A database's folder; with a URL, that of a PostgreSQL, and the folder does not matter."""

    data_dir: Path
    url: str | None = None

    def __str__(self) -> str:
        if self.url is not None:
            return without_password(self.url, keeps_options=True)
        return f"sqlite:{self.data_dir}"


def place_of(text: str) -> Place:
    """What is meant by `sqlite:PATH`, a path or a URL; Misconfigured if nothing is."""
    scheme, colon, rest = text.strip().partition(":")
    if colon and scheme in SCHEMES:
        return Place(Path(), text.strip())
    if colon and "://" in text and scheme != "sqlite":
        raise Misconfigured(f"'{scheme}:' is neither sqlite: nor postgresql:")
    path = Path(_path(rest) if colon and scheme == "sqlite" else text.strip()).expanduser()
    if path.is_file() or path.suffix in (".sqlite3", ".sqlite", ".db"):
        if path.name != FILE_NAME:
            raise Misconfigured(
                f"{path} is no data folder, nor the {FILE_NAME} in one; a backup has to be "
                "restored first: rethread restore"
            )
        path = path.parent
    return Place(path.absolute())


def tools_for(url: str, file: str) -> str:
    """How a PostgreSQL is backed up and restored, in a line."""
    place, quoted = shlex.quote(without_password(url, keeps_options=True)), shlex.quote(file)
    return (
        "this is for SQLite; PostgreSQL has its own tools. Back up: "
        f"pg_dump --format=custom --file={quoted} {place} (it asks for the password), "
        "pg_basebackup, or your provider's snapshots. Restore into an empty database: "
        f"pg_restore --exit-on-error --no-owner --dbname={place} {quoted}"
    )


def _path(rest: str) -> str:
    """`sqlite:///srv/data` as URLs have it, or plainly `sqlite:/srv/data`, `sqlite:data`."""
    return f"/{rest.lstrip('/')}" if rest.startswith("//") else rest
