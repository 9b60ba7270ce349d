"""The content of files on its way into a backup and out again: rows of a table beside the rest.

Only what lies in a folder; a bucket has its own way of being safe. What is put in is held against
its SHA-256 in the database, and so is what comes out.
"""

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from rethread.blobs import PIECE_BYTES
from rethread.blobs.folder import part_of, place_of
from rethread.errors import Damaged, Unavailable
from rethread.maintenance.progress import Progress

# Every name that is referred to, and what must be there; the parts of an upload have no hash.
NAMES = """
SELECT id, hash, size FROM blobs UNION ALL SELECT blob_id, NULL, size FROM upload_parts ORDER BY 1
"""
HAS_FILES = "SELECT 1 FROM sqlite_schema WHERE name = 'blobs'"
IS_REFERRED_TO = """
SELECT 1 FROM blobs WHERE id = $1 UNION ALL SELECT 1 FROM upload_parts WHERE blob_id = $1
"""
# The content of a file that was deleted after the rest was copied is gone, so it goes here too.
FORGET: Final = (
    "DELETE FROM vector_store_files WHERE file_id IN (SELECT id FROM files WHERE blob_id = $1)",
    "DELETE FROM files WHERE blob_id = $1",
    "DELETE FROM upload_parts WHERE blob_id = $1",
    "DELETE FROM blobs WHERE id = $1",
)
CREATE = "CREATE TABLE backup_files (id TEXT NOT NULL, body BLOB NOT NULL)"
ADD = "INSERT INTO backup_files (id, body) VALUES ($1, $2)"
IS_BACKUP = "SELECT 1 FROM sqlite_schema WHERE name = 'backup_files'"
COUNT = "SELECT COUNT(*) FROM backup_files"
PIECES = "SELECT id, body FROM backup_files ORDER BY rowid"
DROP = "DROP TABLE backup_files"

NAME: Final = re.compile(r"[0-9a-f]{32}(\.part)?\Z")


class Kept(NamedTuple):
    """How many contents, and their bytes."""

    contents: int = 0
    size_bytes: int = 0

    def __str__(self) -> str:
        return f"with the content of {self.contents:,} files, {self.size_bytes / 2**20:,.1f} MiB"


def put_in(made: Path, folder: Path, source: Path, progress: Progress) -> Kept:
    """Put what the copied database refers to into the copy; Damaged where it is not what it was."""
    count, size = 0, 0
    with closing(sqlite3.connect(made)) as copy:
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        if not copy.execute(HAS_FILES).fetchone():
            return Kept()
        copy.execute(CREATE)
        names = copy.execute(NAMES).fetchall()
        progress.begin("Files", sum(_pieces(each[2]) for each in names), unit="pieces")
        for name, content_hash, expected in names:
            if _copy_in(copy, folder, name, content_hash, expected, progress):
                count, size = count + 1, size + expected
            elif _is_referred_to(source, name):
                raise Damaged(f"the content of a file is not in {folder}: {name}")
            else:
                for statement in FORGET:
                    copy.execute(statement, {"1": name})
        copy.commit()
    progress.end()
    return Kept(count, size)


def take_out(made: Path, folder: Path, new: list[Path], progress: Progress) -> Kept | None:
    """The contents into the folder, and out of the restored database; None if it had none.

    Notes what was not there before.
    """
    with closing(sqlite3.connect(made, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = OFF")
        if not copy.execute(IS_BACKUP).fetchone():
            return None
        kept = _copy_out(copy, folder, new, progress)
        copy.execute(DROP)
        copy.execute("VACUUM")
    return kept


def tidy(database: Path, folder: Path) -> None:
    """Take away the contents that the database does not refer to."""
    with closing(sqlite3.connect(database)) as connection:
        names = {row[0] for row in connection.execute(NAMES)}
    remove(path for path in _contents(folder) if path.name not in names)


def remove(paths: Iterable[Path]) -> None:
    """Have them gone."""
    for path in paths:
        path.unlink(missing_ok=True)


def _copy_in(
    copy: sqlite3.Connection,
    folder: Path,
    name: str,
    content_hash: bytes | None,
    size: int,
    progress: Progress,
) -> bool:
    """Whether it was there."""
    digest, found = hashlib.sha256(), 0
    try:
        with place_of(folder, name).open("rb") as opened:
            while piece := opened.read(PIECE_BYTES):
                copy.execute(ADD, {"1": name, "2": piece})
                digest.update(piece)
                found += len(piece)
                progress.add(1)
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise Unavailable(f"cannot read files from {folder}: {problem.strerror}") from problem
    if not size:
        copy.execute(ADD, {"1": name, "2": b""})
    if found != size or (content_hash is not None and digest.digest() != content_hash):
        raise Damaged(f"the content of a file in {folder} is not what it was: {name}")
    return True


def _copy_out(copy: sqlite3.Connection, folder: Path, new: list[Path], progress: Progress) -> Kept:
    expected = {name: (content_hash, size) for name, content_hash, size in copy.execute(NAMES)}
    progress.begin("Files", copy.execute(COUNT).fetchone()[0], unit="pieces")
    found: dict[str, tuple[bytes, int]] = {}
    rows: Iterator[tuple[str, bytes]] = iter(copy.execute(PIECES))
    row = next(rows, None)
    while row is not None:
        name = row[0]
        if name not in expected:
            raise Damaged("the backup has the content of a file that it does not know")
        path = place_of(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            new.append(path)
        digest, size = hashlib.sha256(), 0
        with open(part_of(path), "wb", opener=_for_owner) as opened:
            while row is not None and row[0] == name:
                digest.update(row[1])
                size += opened.write(row[1])
                progress.add(1)
                row = next(rows, None)
        part_of(path).replace(path)
        found[name] = digest.digest(), size
    progress.end()
    for name, (content_hash, size) in expected.items():
        if found.get(name, (b"", -1))[1] != size or content_hash not in (None, found[name][0]):
            raise Damaged(f"the content of a file in the backup is not what it was: {name}")
    os.sync()
    return Kept(len(found), sum(size for _, size in found.values()))


def _is_referred_to(source: Path, name: str) -> bool:
    with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(IS_REFERRED_TO, {"1": name}).fetchone() is not None


def _contents(folder: Path) -> list[Path]:
    """What looks as if it were a server's; whatever else lies there is left alone."""
    paths = folder.glob("??/*") if folder.is_dir() else []
    return [path for path in paths if NAME.match(path.name) and path.name[:2] == path.parent.name]


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _pieces(size: int) -> int:
    return -(-size // PIECE_BYTES)
