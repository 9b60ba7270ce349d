"""Backups of the SQLite file, and their way back. Not for PostgreSQL, which has its own tools.

What files hold goes into the same file (`files.py`), if it lies in a folder.

What is written is made whole under another name, checked, flushed and then renamed: at no moment
does half a file stand where a whole one is looked for.
"""

import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

from rethread.errors import Damaged, Misconfigured, Unavailable
from rethread.maintenance import files
from rethread.maintenance.progress import Progress
from rethread.store.database import FILE_NAME, latest_version
from rethread.store.folder import held

VERSION = "SELECT MAX(number) FROM schema_versions"
ANY_READ = "SELECT 1 FROM sqlite_schema LIMIT 1"

MAGIC: Final = b"SQLite format 3\0"
PAGES: Final = 1024  # a step of 4 MiB
SIDE_FILES: Final = ("-wal", "-shm", "-journal")


class Copied(NamedTuple):
    """What a backup holds, or what was restored."""

    size_bytes: int
    schema_version: int
    kept: files.Kept | None = None

    def __str__(self) -> str:
        told = f"{self.size_bytes / 2**20:,.1f} MiB, checked, schema version {self.schema_version}"
        return f"{told}, {self.kept}" if self.kept and self.kept.contents else told


def back_up(
    data_dir: Path, file: Path, *, files_folder: Path | None = None, may_replace: bool = False
) -> Copied:
    """Copy the folder's database into one file, as it stands at the start, while it is in use.

    Along with what the files in it hold, if they lie in a folder.
    """
    source = data_dir / FILE_NAME
    if not source.is_file():
        raise Misconfigured(f"there is no database in {data_dir}")
    if file.is_dir():
        raise Misconfigured(f"{file} is a folder; name the file to write")
    if file.exists():
        if file.samefile(source):
            raise Misconfigured(f"{file} is the database itself")
        if not may_replace:
            raise Misconfigured(f"{file} exists already; --force replaces it")
    with _replacing(file) as made:
        _copy(source, made, access="mode=rw", name="Backup")
        kept = files_folder and _put_in(made, files_folder, source)
        schema_version = _check(made, "quick_check", shown=source)
    return Copied(file.stat().st_size, schema_version, kept or None)


def restore(
    file: Path, data_dir: Path, *, files_folder: Path | None = None, may_replace: bool = False
) -> Copied:
    """Put a backup in the database's place; nothing has changed if it is not whole.

    What the files in it hold goes into their folder, and nothing else stays there.
    """
    _check_is_sqlite(file)
    with held(data_dir):
        target = data_dir / FILE_NAME
        if target.exists():
            if target.samefile(file):
                raise Misconfigured(f"{file} is the database itself")
            if not may_replace:
                raise Misconfigured(f"{data_dir} holds a database already; --force replaces it")
        new: list[Path] = []
        try:
            with _replacing(target) as made:
                _copy(file, made, access=_access_to_backup(file), name="Restore")
                schema_version = _check(made, "integrity_check", shown=file)
                kept = files_folder and _take_out(made, files_folder, new)
                _make_way(target)
        except BaseException:
            files.remove(new)
            raise
        if files_folder and kept is not None:
            files.tidy(target, files_folder)
        return Copied(target.stat().st_size, schema_version, kept or None)


def _put_in(made: Path, folder: Path, source: Path) -> files.Kept:
    with _shown() as progress:
        return files.put_in(made, folder, source, progress)


def _take_out(made: Path, folder: Path, new: list[Path]) -> files.Kept | None:
    with _shown() as progress:
        return files.take_out(made, folder, new, progress)


@contextmanager
def _shown() -> Iterator[Progress]:
    """How far it is; whatever breaks it off, the line is left as it should be."""
    progress = Progress()
    try:
        yield progress
    except BaseException as problem:
        progress.break_off()
        if isinstance(problem, OSError | sqlite3.OperationalError):
            raise Unavailable(f"cannot copy the content of files: {problem}") from problem
        raise


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """An empty file beside it, which takes its place in the end, or goes if that is not reached."""
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.", suffix=".part")
    except OSError as problem:
        raise Misconfigured(f"cannot write {file}: {problem.strerror}") from problem
    os.close(handle)
    made = Path(name)
    try:
        yield made
        _flush(made)
        made.replace(file)
        _flush(file.parent)
    except OSError as problem:
        raise Unavailable(f"cannot write {file}: {problem.strerror}") from problem
    finally:
        made.unlink(missing_ok=True)


def _copy(source: Path, target: Path, *, access: str, name: str) -> None:
    progress = Progress()
    try:
        with closing(_open(source, access)) as reader, closing(sqlite3.connect(target)) as writer:
            # All of it is read from one snapshot: else every write of a server that runs would
            # make the copy begin anew, and under load it would never end.
            reader.execute("BEGIN")
            reader.execute(ANY_READ).fetchone()
            # A copy that was broken off is thrown away, so nothing need be undone or waited for.
            writer.execute("PRAGMA journal_mode = OFF")
            writer.execute("PRAGMA synchronous = OFF")
            progress.begin(name, 1, unit="pages")
            reader.backup(
                writer,
                pages=PAGES,
                progress=lambda _, left, total: progress.reach(total - left, total),
            )
            # It comes with the source's write-ahead log switched on; a backup is one file.
            writer.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError as problem:
        progress.break_off()
        if isinstance(problem, sqlite3.OperationalError):
            raise Unavailable(f"cannot copy {source}: {problem}") from problem
        raise Damaged(f"{source} is damaged: {problem}") from problem
    except BaseException:
        progress.break_off()
        raise
    progress.end()


def _open(path: Path, access: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{access}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def _access_to_backup(file: Path) -> str:
    """A copy that was made in another way may have a log beside it, which belongs to it."""
    has_log = file.with_name(f"{file.name}-wal").exists()
    return "mode=rw" if has_log else "immutable=1"


def _check_is_sqlite(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            magic = opened.read(len(MAGIC))
    except OSError as problem:
        raise Misconfigured(f"cannot read {file}: {problem.strerror}") from problem
    if magic != MAGIC:
        raise Damaged(f"{file} is not a backup of rethread: it is no SQLite database")


def _check(made: Path, how: Literal["quick_check", "integrity_check"], *, shown: Path) -> int:
    """The schema's version; Damaged where the file is not whole, or not ours."""
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        try:
            found = connection.execute(f"PRAGMA {how}").fetchall()
        except sqlite3.DatabaseError as problem:
            raise Damaged(f"{shown} is damaged: {problem}") from problem
        if found != [("ok",)]:
            raise Damaged(f"{shown} is damaged: {' '.join(str(found[0][0]).split())}")
        try:
            version = connection.execute(VERSION).fetchone()[0]
        except sqlite3.DatabaseError as problem:
            raise Damaged(f"{shown} holds no database of rethread") from problem
    if not version:
        raise Damaged(f"{shown} holds no database of rethread")
    if version > latest_version():
        raise Misconfigured(
            f"{shown} was made by a newer rethread (its schema is version {version}, this program "
            f"knows {latest_version()}); install that version"
        )
    return int(version)


def _make_way(target: Path) -> None:
    """Leave nothing that SQLite would apply to the file that comes; a log of the old one would be.

    The old database is whole until it is replaced: what stands in its log goes into its file.
    """
    if target.exists():
        with closing(sqlite3.connect(target, isolation_level=None)) as old:
            try:
                old.execute("PRAGMA journal_mode = DELETE")
            except sqlite3.OperationalError as problem:
                raise Unavailable(f"{target} is in use by another program") from problem
            except sqlite3.DatabaseError:
                pass  # it is damaged: why it is being replaced
    for suffix in SIDE_FILES:
        target.with_name(f"{target.name}{suffix}").unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        # On macOS, fsync alone stops at the drive's cache.
        if full_fsync := getattr(fcntl, "F_FULLFSYNC", None):
            with suppress(OSError):
                fcntl.fcntl(handle, full_fsync)
    finally:
        os.close(handle)
