"""Writes, on any database: many share a commit, yet each stands or falls alone, as a whole."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rethread.errors import Unavailable
from rethread.store import messages
from rethread.store.database import Database, Statement, open_database
from rethread.store.sqlite import MOST_STATEMENTS_ON_LOOP
from tests.objects import stored_message, stored_thread

ADD = "INSERT INTO things (id) VALUES ($1)"
ADD_WITH_BODY = "INSERT INTO things (id, body) VALUES ($1, $2)"
ADD_OR_REFUSE = "INSERT INTO things (id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id"
CREATE = "CREATE TABLE things (id BIGINT PRIMARY KEY, name TEXT, body {bytes})"


@pytest.fixture
async def things(db: Database) -> Database:
    """A database with an empty table of things."""
    await db.write(Statement(CREATE))
    return db


@pytest.fixture
async def two(tmp_path: Path, database_url: str | None) -> AsyncIterator[tuple[Database, Database]]:
    """One database, as two servers have it open."""
    opened = [await open_database(tmp_path / "data", database_url) for _ in range(2)]
    yield opened[0], opened[1]
    for db in opened:
        await db.close()


async def ids(db: Database) -> list[int]:
    return [row[0] for row in await db.read("SELECT id FROM things ORDER BY id")]


async def test_of_writes_made_at_once_each_stands_or_falls_alone(things: Database) -> None:
    await things.write(Statement(ADD, 1))
    results = await asyncio.gather(
        things.write(Statement(ADD, 2)),
        things.write(Statement(ADD, 1)),  # breaks
        things.write(Statement(ADD, 3), Statement(ADD_OR_REFUSE, 1)),  # is refused
        things.write(Statement(ADD, 2**70)),  # a value that there is no room for
        things.write(Statement(ADD, 4), Statement("INSERT INTO nowhere VALUES (1)")),
        things.write(Statement("UPDATE things SET id = 5 WHERE id = $1 RETURNING id", 99)),
        things.write(Statement(ADD_OR_REFUSE, 6), Statement(ADD, 7)),
        things.write(Statement(ADD_WITH_BODY, 8, "no bytes \ud800")),
        things.write(Statement(ADD, 9), Statement(ADD)),  # an argument is missing
        things.write(Statement("UPDATE things SET id = 'x' WHERE id = 2 ELSE")),
        return_exceptions=True,
    )
    broken = [isinstance(result, Exception) for result in results]
    assert broken == [False, True, False, True, True, False, False, True, True, True]
    assert not any(isinstance(result, Unavailable) for result in results)
    assert [results[place] for place in (0, 2, 5, 6)] == [[], [], [], [(6,)]]
    assert await ids(things) == [1, 2, 6, 7]


async def test_a_write_that_breaks_breaks_none_of_those_that_follow(things: Database) -> None:
    for number in range(3):
        with pytest.raises(Exception, match="nowhere"):
            await things.write(Statement("INSERT INTO nowhere VALUES (1)"))
        await things.write(Statement(ADD, number))
    assert await ids(things) == [0, 1, 2]


async def test_a_write_of_several_statements_happens_as_a_whole_or_not_at_all(
    things: Database,
) -> None:
    refused = await things.write(
        Statement(ADD_OR_REFUSE, 1), Statement(ADD, 2), Statement(ADD_OR_REFUSE, 2)
    )
    assert refused == []
    with pytest.raises(Exception, match=r"(?i)unique"):
        await things.write(Statement(ADD, 3), Statement(ADD, 3))
    assert await ids(things) == []


async def test_a_write_gives_the_rows_of_its_first_check(things: Database) -> None:
    rows = await things.write(
        Statement(ADD, 1), Statement(ADD_OR_REFUSE, 2), Statement(ADD_OR_REFUSE, 3)
    )
    assert rows == [(2,)]
    moved = "UPDATE things SET id = id + 10 WHERE id < 3 RETURNING id, name, id - 10 AS old"
    assert sorted(await things.write(Statement(moved))) == [(11, None, 1), (12, None, 2)]


async def test_a_check_gives_back_what_it_was_given(things: Database) -> None:
    """On PostgreSQL a check's rows come as JSON, whatever characters and numbers are in them."""
    name = 'Grüße "quoted" \\ back\nslash \u2028 \U0001f600 %s $1 {bytes} \x01'
    largest = 2**63 - 1
    named = "INSERT INTO things (id, name) VALUES ($1, $2) RETURNING id, name"
    assert await things.write(Statement(named, largest, name)) == [(largest, name)]
    assert await things.write(Statement(named, -largest, "")) == [(-largest, "")]
    assert await things.write(Statement(named, 0, None)) == [(0, None)]


async def test_bytes_stay_what_they_were(things: Database) -> None:
    bodies = [b"", bytes(range(256)), b"x" * 3_000_000, None]
    await asyncio.gather(
        *(things.write(Statement(ADD_WITH_BODY, n, body)) for n, body in enumerate(bodies))
    )
    found = await things.read("SELECT body FROM things ORDER BY id")
    assert [row[0] for row in found] == bodies


async def test_a_write_survives_the_cancellation_of_its_waiter(things: Database) -> None:
    waiters = [asyncio.ensure_future(things.write(Statement(ADD, n))) for n in range(20)]
    await asyncio.sleep(0)
    for waiter in waiters[::2]:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    await things.write(Statement(ADD, 20))
    assert await ids(things) == list(range(21))


async def test_what_was_written_is_read_at_once(things: Database) -> None:
    for number in range(50):
        await things.write(Statement(ADD, number))
        assert await things.read("SELECT 1 FROM things WHERE id = $1", number) == [(1,)]


@pytest.mark.parametrize("count", [MOST_STATEMENTS_ON_LOOP, MOST_STATEMENTS_ON_LOOP + 1, 200])
async def test_a_long_write_is_whole_and_leaves_the_short_ones_alone(
    things: Database, count: int
) -> None:
    many = [Statement(ADD, number) for number in range(10, 10 + count)]
    results = await asyncio.gather(
        things.write(Statement(ADD, 1)),
        things.write(*many, Statement("DELETE FROM things WHERE id = -1 RETURNING id")),
        things.write(*many[:-1], Statement(ADD, 10)),  # breaks at its end
        things.write(*many[:-1], Statement(ADD, 2**70)),
        things.write(Statement(ADD_OR_REFUSE, 2), *many, Statement(ADD_OR_REFUSE, 3)),
        things.write(Statement(ADD, 4)),
        return_exceptions=True,
    )
    assert [results[place] for place in (0, 1, 4, 5)] == [[], [], [(2,)], []]
    assert isinstance(results[2], Exception)
    assert isinstance(results[3], Exception)
    assert await ids(things) == [1, 2, 3, 4, *range(10, 10 + count)]


async def test_writes_of_any_number_of_kinds_are_made(things: Database) -> None:
    """More than there are functions kept for, on PostgreSQL; the first come again at the end."""
    kinds = [f"INSERT INTO things (id) VALUES ($1 + {kind})" for kind in range(230)]
    for start in range(0, len(kinds), 50):
        await asyncio.gather(
            *(things.write(Statement(kind, 0)) for kind in kinds[start : start + 50])
        )
    await asyncio.gather(*(things.write(Statement(kind, 1000)) for kind in kinds))
    assert await ids(things) == [*range(230), *range(1000, 1230)]


async def test_closing_finishes_what_waits_and_takes_nothing_more(
    tmp_path: Path, things: Database, database_url: str | None
) -> None:
    db = await open_database(tmp_path / "data", database_url)
    writes = [asyncio.ensure_future(db.write(Statement(ADD, n))) for n in range(2000)]
    await asyncio.sleep(0)
    await db.close()
    assert await asyncio.gather(*writes) == [[]] * 2000
    with pytest.raises(Unavailable, match="closed"):
        await db.write(Statement(ADD, 2001))
    assert await ids(things) == list(range(2000))


async def test_two_servers_number_the_messages_of_one_thread_without_a_gap(
    two: tuple[Database, Database],
) -> None:
    thread_id = await stored_thread(two[0])

    async def add_some(place: int) -> list[str]:
        db = two[place % 2]
        return [(await stored_message(db, thread_id, f"{place}.{n}")).id for n in range(10)]

    added = await asyncio.gather(*(add_some(place) for place in range(16)))
    rows = await two[0].read(
        "SELECT number, id FROM messages WHERE thread_id = $1 ORDER BY number", thread_id
    )
    assert [row[0] for row in rows] == list(range(1, 161))
    order = [row[1] for row in rows]
    assert sorted(order) == sorted(id for some in added for id in some)
    for some in added:  # what one asked for one after the other stands so
        assert [id for id in order if id in set(some)] == some
    assert await messages.any_in(two[1], thread_id)


async def test_two_servers_that_lock_the_same_rows_in_opposite_order_both_get_on(
    two: tuple[Database, Database],
) -> None:
    await two[0].write(Statement(CREATE))
    await two[0].write(Statement(ADD, 1), Statement(ADD, 2))
    count_up = "UPDATE things SET name = COALESCE(name, '') || 'x' WHERE id = $1 RETURNING id"
    await asyncio.gather(
        *(
            two[turn % 2].write(
                Statement(count_up, 1 + turn % 2), Statement(count_up, 2 - turn % 2)
            )
            for turn in range(40)
        )
    )
    found = await two[0].read("SELECT name FROM things ORDER BY id")
    assert found == [("x" * 40,), ("x" * 40,)]
