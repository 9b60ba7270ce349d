"""Assistants at rest: each in its project, modified by one at a time, gone once deleted."""

import asyncio

import msgspec
import pytest

from rethread.errors import NotFound, Raced
from rethread.store import assistants
from rethread.store.database import Database, Statement
from rethread.store.pages import PageRequest
from tests.objects import NOW, PROJECT, an_assistant, stored_assistant


async def test_an_assistant_is_its_projects_own(db: Database) -> None:
    assistant = await stored_assistant(db)
    assert await assistants.get(db, PROJECT, assistant.id) == msgspec.json.encode(assistant)
    with pytest.raises(NotFound, match=f"No assistant found with id '{assistant.id}'"):
        await assistants.get(db, "other", assistant.id)
    with pytest.raises(NotFound):
        await assistants.delete(db, "other", assistant.id, now=NOW)
    assert (await assistants.page(db, "other", PageRequest())).rows == []
    assert len((await assistants.page(db, PROJECT, PageRequest())).rows) == 1


async def test_of_two_who_modify_at_once_one_is_told(db: Database) -> None:
    assistant = await stored_assistant(db)
    old = msgspec.json.encode(assistant)
    results = await asyncio.gather(
        *(
            assistants.replace(db, PROJECT, assistant.id, old=old, new=new)
            for new in (b'{"a":1}', b'{"b":2}')
        ),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result] == [Raced]
    assert await assistants.get(db, PROJECT, assistant.id) == b'{"a":1}'


async def test_an_assistant_is_kept_with_what_goes_along_or_not_at_all(db: Database) -> None:
    assistant = an_assistant()
    refusing = Statement("DELETE FROM threads WHERE id = 'nowhere' RETURNING id")
    with pytest.raises(Raced):
        await assistants.add(db, PROJECT, assistant.id, b"{}", now=NOW, also=[refusing])
    with pytest.raises(NotFound):
        await assistants.get(db, PROJECT, assistant.id)


async def test_of_many_who_delete_at_once_one_does(db: Database) -> None:
    assistant = await stored_assistant(db)
    results = await asyncio.gather(
        *(assistants.delete(db, PROJECT, assistant.id, now=NOW) for _ in range(4)),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result] == [NotFound] * 3
    assert (await assistants.page(db, PROJECT, PageRequest())).rows == []
