"""Between a session's folder and the files of the client: what goes in, and what is kept of it.

Originals are put in once each, and again where another file has come to have their name. What the
code makes or changes becomes files, which the next session of the thread gets back.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from rethread.blobs import Blobs
from rethread.contract.steps import MadeFile
from rethread.errors import Missing, Unavailable
from rethread.store import code_files, code_sessions, files
from rethread.store.database import Database
from rethread.store.files import StoredFile
from rethread.tools.code_interpreter.files import Look, NotThere, changed, is_fit, placed
from rethread.tools.code_interpreter.keeping import keep, pieces_of
from rethread.tools.code_interpreter.session import Session

MOST_MADE: Final = 20  # files of a call that are kept
MOST_MADE_BYTES: Final = 512 * 1024 * 1024  # all of them together
NAMED: Final = 5  # in a note; more are counted


class _Created(msgspec.Struct):
    created_at: int


_created: Final = msgspec.json.Decoder(_Created).decode


class Shelf(NamedTuple):
    """The files of a thread's project."""

    db: Database
    blobs: Blobs
    project: str
    thread_id: str

    async def put_in(
        self, session: Session, originals: Sequence[StoredFile], *, most_bytes: int
    ) -> list[str]:
        """Put in what the session has not got yet; notes on what could not be had."""
        by_id = {file.id: file for file in originals}
        left = most_bytes - sum(look.size for look in session.known.values())
        gone, too_large = list[str](), list[str]()
        for file_id, name in placed(originals):
            if session.originals.get(name) == file_id:
                continue
            file = by_id[file_id]
            if file.bytes > left:
                too_large.append(name)
                continue
            try:
                async with self.blobs.local(file.blob) as source:
                    look = await asyncio.to_thread(session.folder.put_original, name, source)
            except (Missing, Unavailable, OSError):
                gone.append(name)
                continue
            session.originals[name], session.known[name] = file_id, look
            left -= look.size
        return [
            *_note("could not be had, so they are not there", gone),
            *_note("are too large for the disk of the session", too_large),
        ]

    async def put_back(
        self, session: Session, originals: Sequence[StoredFile], *, most_bytes: int
    ) -> list[str]:
        """Put in what earlier sessions have made, unless an original of that name is newer."""
        made = await code_files.of_thread(self.db, self.thread_id)
        stored = await files.many(self.db, self.project, list(made.values()))
        by_id = {file.id: file for file in originals}
        newest = {name: age(by_id[file_id]) for name, file_id in session.originals.items()}
        left = most_bytes - sum(look.size for look in session.known.values())
        gone = list[str]()
        for path, file_id in made.items():
            file = stored.get(file_id)
            if file is None or file.bytes > left or newest.get(path, 0) > age(file):
                continue
            try:
                async with self.blobs.local(file.blob) as source:
                    look = await asyncio.to_thread(session.folder.put_back, path, source)
            except (Missing, Unavailable, OSError):
                gone.append(path)
                continue
            session.known[path] = look
            left -= look.size
        return _note("were made before and could not be had", gone)

    async def keep_made(self, session: Session) -> tuple[list[MadeFile], list[str]]:
        """Keep what is new in the session's folder, so much of it; notes on what is not kept."""
        seen = await asyncio.to_thread(session.folder.look)
        made, left_out = list[MadeFile](), list[str]()
        left = MOST_MADE_BYTES
        for path in changed(seen.files, session.known):
            look = seen.files[path]
            if not is_fit(path) or look.size > left or len(made) == MOST_MADE:
                left_out.append(path)
                session.known[path] = look
            elif file_id := await self._kept(session, path):
                session.known[path] = look
                made.append(MadeFile(path, file_id))
                left -= look.size
        if seen.is_all:
            await self._forget(session, seen.files)
        notes = _note("were not kept: too many, too large, or of a name that no link has", left_out)
        if not seen.is_all:
            notes.append("There are too many files: some were not looked at.")
        return made, notes

    async def _kept(self, session: Session, path: str) -> str | None:
        """The id of the file that has the content now; None where the path has none any more."""
        try:
            with session.folder.reading(path) as reading:
                return await keep(
                    self.db,
                    self.blobs,
                    self.project,
                    path.rpartition("/")[2],
                    pieces_of(reading),
                    also=lambda file_id: [
                        *code_files.keeping(self.thread_id, path, file_id),
                        code_sessions.holding(self.thread_id, session.id),
                    ],
                )
        except NotThere:
            return None

    async def _forget(self, session: Session, there: Mapping[str, Look]) -> None:
        """What the code has deleted is not put back."""
        gone = [path for path in session.known if path not in there]
        if kept := [path for path in gone if is_fit(path)]:  # others are in no database
            holding = code_sessions.holding(self.thread_id, session.id)
            await code_files.forget(self.db, self.thread_id, kept, also=[holding])
        for path in gone:
            del session.known[path]


def age(file: StoredFile) -> int:
    """When the file was made: of two at one path the newer one is what the code finds."""
    return _created(file.body).created_at


def _note(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(repr(name) for name in names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"These files {what}: {shown}{more}."]
