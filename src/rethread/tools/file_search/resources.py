"""The vector stores and files that threads and assistants bring along, as parts of a write.

A store that a request asks for on the way, and files that are attached to messages: what comes
out names ids alone, with the statements that make it so. Nothing is written here.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import structs

from rethread.contract.messages import Attachment, CreateMessage, ImageFilePart
from rethread.contract.resources import (
    FileSearchResources,
    NewVectorStore,
    Resources,
    ToolResources,
    stores_of,
)
from rethread.contract.threads import CreateThread, ModifyThread, Thread, decode_thread
from rethread.contract.tools import BareFileSearchTool, CodeInterpreterTool
from rethread.contract.vector_stores import CreateVectorStore, FileToAdd, StoreExpiresAfter
from rethread.errors import Conflict, Invalid, NoSuchFile, NotFound, shortened
from rethread.store import files, ingestions, threads, vector_store_files, vector_stores
from rethread.store.database import Database, Statement
from rethread.store.files import StoredFile
from rethread.tools.file_search.documents import SUPPORTED, extension_of
from rethread.tools.file_search.stores import adding_files, new_store

# What a thread brings along is gone so long after its last use; an assistant's stays.
THREADS_EXPIRY: Final = StoreExpiresAfter(anchor="last_active_at", days=7)
MOST_CODE_FILES: Final = 20


class Owner(NamedTuple):
    """Whose stores they are, and how they are made.

    `embedder` names what makes vectors. A thread's stores expire, and are read before others:
    a run waits for them.
    """

    db: Database
    project: str
    embedder: str
    now: int
    expires_after: StoreExpiresAfter | None = None

    def of_thread(self) -> "Owner":
        """The same, for what belongs to a thread."""
        return self._replace(expires_after=THREADS_EXPIRY)


class Prepared(NamedTuple):
    """What a request asks of resources, by ids alone, and the statements that make it so."""

    asked: ToolResources | None
    statements: list[Statement]


class NewThread(NamedTuple):
    """A thread with what its request brings along, and the statements that make it so."""

    thread: Thread
    statements: list[Statement]


async def prepared(owner: Owner, asked: ToolResources | None) -> Prepared:
    """Its stores made, if it asks for that; NotFound for one that it names and is not there, and
    NoSuchFile for a file.
    """
    if asked and asked.code_interpreter:
        await _check_there(owner, asked.code_interpreter.file_ids or [])
    if not asked or not asked.file_search:
        return Prepared(asked, [])
    for store_id in asked.file_search.vector_store_ids or []:
        await vector_stores.get(owner.db, owner.project, store_id)
    if not asked.file_search.vector_stores:
        return Prepared(asked, [])
    (wanted,) = asked.file_search.vector_stores
    store_id, statements = await _make(owner, wanted)
    made = FileSearchResources(vector_store_ids=[store_id])
    return Prepared(structs.replace(asked, file_search=made), statements)


async def new_thread(owner: Owner, asked: CreateThread, own: ToolResources | None) -> NewThread:
    """A thread with the stores that it asks for, and what is attached to its first messages.

    `own` are resources that the request names beside the thread's.
    """
    owner = owner.of_thread()
    statements: list[Statement] = []
    thread = Thread.new(structs.replace(asked, tool_resources=None), now=owner.now)
    is_made = False
    for wanted in (asked.tool_resources, own):
        made = await prepared(owner, wanted)
        thread = thread.modified(ModifyThread(tool_resources=made.asked))
        statements += made.statements
        if wanted and wanted.file_search:
            is_made = bool(made.statements)
    added = asked.messages or []
    await _check_there(owner, [image for message in added for image in _images_of(message)])
    resources, adding = await _attached(owner, thread.tool_resources, added, is_made=is_made)
    thread = structs.replace(thread, tool_resources=resources)
    return NewThread(thread, [*statements, *adding])


async def attaching(
    owner: Owner, thread_id: str, messages: Sequence[CreateMessage]
) -> list[Statement]:
    """The statements that give a thread what is attached to messages for it.

    NotFound without the thread, NoSuchFile without a file that a message attaches or shows, Invalid
    for one that cannot be read, Conflict where the store's time is over.
    """
    await _check_there(owner, [image for message in messages for image in _images_of(message)])
    if not any(message.attachments for message in messages):
        return []
    owner = owner.of_thread()
    old = await threads.get(owner.db, owner.project, thread_id)
    thread = decode_thread(old)
    resources, statements = await _attached(owner, thread.tool_resources, messages)
    if resources == thread.tool_resources:
        return statements
    new = msgspec.json.encode(structs.replace(thread, tool_resources=resources))
    replacing = threads.replacing(owner.project, thread_id, old=old, new=new)
    return [*statements, replacing]


def announce(db: Database, statements: Sequence[Statement]) -> None:
    """Have files read, once these statements are written."""
    if statements:
        db.notify(ingestions.TOPIC)


async def _attached(
    owner: Owner,
    resources: Resources,
    messages: Sequence[CreateMessage],
    *,
    is_made: bool = False,
) -> tuple[Resources, list[Statement]]:
    """The thread's resources with what is attached; `is_made` if its store is not written yet."""
    attachments = [each for message in messages for each in message.attachments or []]
    searched = _for_tool(attachments, BareFileSearchTool)
    read_by_code = _for_tool(attachments, CodeInterpreterTool)
    found = await _check_there(owner, [each.file_id for each in attachments])
    _check_readable(found[file_id].filename for file_id in searched)
    if read_by_code:
        kept = resources.get("code_interpreter", {}).get("file_ids", [])
        resources = {**resources, "code_interpreter": {"file_ids": _with_more(kept, read_by_code)}}
    if not searched:
        return resources, []
    store_ids = stores_of(resources)
    if store_ids and (is_made or await _is_there(owner, store_ids[0], adding=len(searched))):
        to_add = [FileToAdd(file_id=file_id) for file_id in searched]
        adding = await adding_files(
            owner.db, owner.project, store_ids[0], to_add, now=owner.now, is_urgent=True
        )
        return resources, adding
    store_id, making = await _make(owner, NewVectorStore(file_ids=searched))
    return {**resources, "file_search": {"vector_store_ids": [store_id]}}, making


async def _is_there(owner: Owner, store_id: str, *, adding: int) -> bool:
    """Whether the thread has its store still; Conflict where that takes no more files."""
    try:
        problem = await vector_store_files.refusal(
            owner.db, owner.project, store_id, adding=adding, now=owner.now
        )
    except NotFound:
        return False
    if isinstance(problem, Conflict):
        raise problem
    return True


async def _make(owner: Owner, wanted: NewVectorStore) -> tuple[str, list[Statement]]:
    asked = CreateVectorStore(
        file_ids=wanted.file_ids,
        chunking_strategy=wanted.chunking_strategy,
        metadata=wanted.metadata,
        expires_after=owner.expires_after,
    )
    made = await new_store(
        owner.db,
        owner.project,
        asked,
        embedder=owner.embedder,
        now=owner.now,
        is_urgent=owner.expires_after is not None,
    )
    return made.id, made.statements


async def _check_there(owner: Owner, file_ids: Sequence[str]) -> dict[str, StoredFile]:
    found = await files.many(owner.db, owner.project, file_ids) if file_ids else {}
    for file_id in file_ids:
        if file_id not in found:
            raise NoSuchFile(file_id)
    return found


def _check_readable(filenames: Iterable[str]) -> None:
    """Invalid, in OpenAI's words, where a file's name says already that it gives no text."""
    extensions = {extension_of(filename) for filename in filenames} - {""}
    if wrong := sorted(extensions - SUPPORTED):
        raise Invalid(
            f"Files with extensions [{shortened(', '.join(wrong))}] are not supported for "
            "retrieval.",
            param="file_ids",
            code="unsupported_file",
        )


def _images_of(message: CreateMessage) -> list[str]:
    """The ids of the image files that a message shows."""
    parts = [] if isinstance(message.content, str) else message.content
    return [part.image_file.file_id for part in parts if isinstance(part, ImageFilePart)]


def _for_tool(
    attachments: Sequence[Attachment], kind: type[BareFileSearchTool | CodeInterpreterTool]
) -> list[str]:
    """The ids of the files that are for that tool, each once."""
    wanted = [
        each.file_id for each in attachments if any(isinstance(tool, kind) for tool in each.tools)
    ]
    return list(dict.fromkeys(wanted))


def _with_more(kept: Sequence[str], more: Sequence[str]) -> list[str]:
    file_ids = list(dict.fromkeys([*kept, *more]))
    if len(file_ids) > MOST_CODE_FILES:
        raise Conflict(
            f"The thread would have {len(file_ids)} files for code_interpreter; {MOST_CODE_FILES} "
            "are the most."
        )
    return file_ids
