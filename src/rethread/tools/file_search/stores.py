"""What goes into a vector store: new stores, and files that are added, as parts of a write.

Nothing is written here: whoever makes a thread with a store in it writes both, or neither.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from rethread.contract import new_id
from rethread.contract.vector_stores import (
    CreateVectorStore,
    FileToAdd,
    StoreBody,
    VectorStore,
    counts_of,
    sizes_of,
)
from rethread.errors import NoSuchFile
from rethread.store import files, vector_store_files, vector_stores
from rethread.store.database import Database, Statement
from rethread.store.vector_store_files import Group
from rethread.store.vector_stores import Content


class NewStore(NamedTuple):
    """A store that is to be written; `ingestions.TOPIC` is to be notified afterwards."""

    id: str
    statements: list[Statement]
    shown: VectorStore


async def new_store(
    db: Database,
    project: str,
    asked: CreateVectorStore,
    *,
    embedder: str,
    now: int,
    is_urgent: bool = False,
) -> NewStore:
    """A store with its files in it; NoSuchFile if the project does not have one of them.

    `embedder` names what makes its vectors. An urgent store is filled before others.
    """
    store_id = new_id("vs")
    body = StoreBody(
        name=asked.name or "", description=asked.description, metadata=asked.metadata or {}
    )
    days = asked.expires_after.days if asked.expires_after else None
    to_add = [
        FileToAdd(file_id=file_id, chunking_strategy=asked.chunking_strategy)
        for file_id in asked.file_ids or []
    ]
    stored = vector_stores.new(project, store_id, body, days=days, embedder=embedder, now=now)
    statements = [vector_stores.adding(stored)]
    for group in await _groups(db, project, to_add):
        statements += vector_store_files.adding(
            store_id, group, now=now, is_new=True, is_urgent=is_urgent
        )
    counts = counts_of("in_progress" for _ in set(asked.file_ids or []))
    return NewStore(store_id, statements, vector_stores.show(stored, Content(counts), now=now))


async def adding_files(
    db: Database,
    project: str,
    store_id: str,
    to_add: Sequence[FileToAdd],
    *,
    now: int,
    is_urgent: bool = False,
) -> list[Statement]:
    """The statements that put files into a store, NoSuchFile where there is none.

    The first of them check that the store is usable and has room; where its write is refused,
    `vector_store_files.refusal` says why.
    """
    groups = await _groups(db, project, to_add)
    statements = vector_store_files.taking_in(store_id, groups, now=now)
    for group in groups:
        statements += vector_store_files.adding(store_id, group, now=now, is_urgent=is_urgent)
    return statements


def text_of(chunks: Iterable[tuple[int, str]]) -> str:
    """The text that chunks were cut from: where each begins, and its text, in order."""
    pieces: list[str] = []
    end = 0
    for start, text in chunks:
        if start > end and pieces:
            pieces.append("\n")  # what nobody would look for: white space between two parts
        pieces.append(text[max(0, end - start) :])
        end = max(end, start + len(text))
    return "".join(pieces)


async def _groups(db: Database, project: str, to_add: Sequence[FileToAdd]) -> list[Group]:
    """The files, each once, those together that are divided in the same way."""
    found = await files.many(db, project, [each.file_id for each in to_add])
    wanted: dict[str, FileToAdd] = {}
    for each in to_add:
        if each.file_id not in found:
            raise NoSuchFile(each.file_id)
        wanted.setdefault(each.file_id, each)
    alike: dict[bytes, list[FileToAdd]] = {}
    for each in wanted.values():
        way = msgspec.json.encode(sizes_of(each.chunking_strategy))
        alike.setdefault(way, []).append(each)
    return [
        Group(
            [found[each.file_id] for each in some],
            sizes_of(some[0].chunking_strategy),
            {each.file_id: each.attributes for each in some if each.attributes},
        )
        for some in alike.values()
    ]
