"""What Idempotency-Keys stand for: for a day, in their project, the first answer alone."""

import asyncio

from rethread.store import answers
from rethread.store.answers import KEPT_SECONDS, Answer
from rethread.store.database import Database, Statement
from tests.objects import NOW, PROJECT

FIRST = Answer(b"hash", "json", b'{"id":"asst_1"}')
SECOND = Answer(b"other", "stream", b'{"id":"asst_2"}')


async def test_a_key_stands_for_its_first_answer(db: Database) -> None:
    assert await db.write(answers.adding(PROJECT, "k", FIRST, now=NOW))
    assert not await db.write(answers.adding(PROJECT, "k", SECOND, now=NOW + 1))
    assert await answers.get(db, PROJECT, "k", now=NOW + 1) == FIRST


async def test_two_at_the_same_time_make_one_thing(db: Database) -> None:
    await db.write(Statement("CREATE TABLE things (id INTEGER)"))
    thing = Statement("INSERT INTO things VALUES (1)")
    results = await asyncio.gather(
        *(db.write(thing, answers.adding(PROJECT, "k", FIRST, now=NOW)) for _ in range(5))
    )
    assert sum(map(bool, results)) == 1
    assert await db.read("SELECT COUNT(*) FROM things") == [(1,)]


async def test_a_key_is_its_projects_own(db: Database) -> None:
    await db.write(answers.adding(PROJECT, "k", FIRST, now=NOW))
    assert await answers.get(db, "other", "k", now=NOW) is None
    assert await db.write(answers.adding("other", "k", SECOND, now=NOW))


async def test_after_a_day_a_key_is_free_again_cleaned_away_or_not(db: Database) -> None:
    await db.write(answers.adding(PROJECT, "k", FIRST, now=NOW))
    assert await answers.get(db, PROJECT, "k", now=NOW + KEPT_SECONDS - 1) == FIRST
    assert await answers.get(db, PROJECT, "k", now=NOW + KEPT_SECONDS) is None
    assert await db.write(answers.adding(PROJECT, "k", SECOND, now=NOW + KEPT_SECONDS))
    assert await answers.get(db, PROJECT, "k", now=NOW + KEPT_SECONDS) == SECOND


async def test_only_what_is_over_is_forgotten(db: Database) -> None:
    await db.write(answers.adding(PROJECT, "old", FIRST, now=NOW))
    await db.write(answers.adding(PROJECT, "new", FIRST, now=NOW + 1))
    await answers.forget(db, now=NOW + KEPT_SECONDS)
    assert await db.read("SELECT key FROM answers") == [("new",)]
