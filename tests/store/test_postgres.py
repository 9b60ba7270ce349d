"""PostgreSQL behind the seam: connections are lost at any moment, and each write happens once."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from rethread.errors import Misconfigured, Unavailable
from rethread.store.database import Statement, open_database
from rethread.store.postgres import Postgres, open_postgres
from rethread.store.urls import without_password
from tests.own_postgres import OwnPostgres, own_postgres
from tests.wire import CUTS, Cut, Wire

CREATE = "CREATE TABLE IF NOT EXISTS things (number {serial}, id BIGINT NOT NULL, name TEXT)"
ADD = "INSERT INTO things (id, name) VALUES ($1, $2) RETURNING number, id, name"
MARK = "the-mark"
KILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < $1
"""


@asynccontextmanager
async def opened(url: str, *, wait_seconds: float = 10.0) -> AsyncIterator[Postgres]:
    db = await open_postgres(url, wait_seconds=wait_seconds)
    try:
        await db.write(Statement(CREATE))
        yield db
    finally:
        await db.close()


@pytest.fixture
async def things(postgres_url: str) -> AsyncIterator[Postgres]:
    """A database with an empty table of things; they may be there twice, if somebody errs."""
    async with opened(postgres_url) as db:
        yield db


@pytest.fixture(scope="module")
def own() -> Iterator[OwnPostgres]:
    """A server on a port, which a test may take away if it brings it back."""
    with own_postgres("fsync=off", "max_connections=60") as server:
        yield server


@pytest.fixture
def own_url(own: OwnPostgres) -> str:
    """Its database, empty."""
    own.ask("DROP TABLE IF EXISTS things, jobs, writers")
    return own.url


async def batches(db: Postgres) -> int:
    """How many transactions the writers have made."""
    rows = await db.read("SELECT CAST(SUM(batch) AS BIGINT) FROM writers WHERE id <> ''")
    return int(rows[0][0])


async def added(db: Postgres, number: int, name: str = "") -> Any:
    """What a write gave, or the Unavailable that it raised."""
    try:
        return await db.write(Statement(ADD, number, name))
    except Unavailable as problem:
        return problem


async def standing(db: Postgres) -> dict[int, tuple[int, int, str]]:
    """The rows by their ids, each of which is there once."""
    rows = await db.read("SELECT number, id, name FROM things")
    assert [id for id, count in Counter(row[1] for row in rows).items() if count > 1] == []
    return {row[1]: (row[0], row[1], row[2]) for row in rows}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once it is so."""
    for _ in range(1000):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never was so")


async def ask(url: str, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """The rows that a question gives, on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql, *arguments)]
    finally:
        await connection.close()


async def is_idle(url: str) -> bool:
    """Whether no writer is at work."""
    sql = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"
    return not await ask(url, sql, "SELECT pg_temp.write%")


async def has_left(url: str, *, user: str = "%") -> bool:
    """Whether rethread has no connection to the database any more."""
    rows = await ask(
        url,
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'rethread' AND usename LIKE $1",
        user,
    )
    return not rows


async def test_waiting_writes_share_commits(things: Postgres) -> None:
    before = await batches(things)
    await asyncio.gather(*(added(things, number) for number in range(256)))
    assert await batches(things) - before <= 5
    assert len(await standing(things)) == 256


async def test_a_batch_that_is_too_large_goes_in_parts(things: Postgres) -> None:
    body = "x" * 4_000_000
    results = await asyncio.gather(*(added(things, number, body) for number in range(10)))
    assert [type(result) for result in results] == [list] * 10
    assert len(await standing(things)) == 10


async def test_a_value_that_postgresql_does_not_take_is_the_fault_of_one_write(
    things: Postgres,
) -> None:
    names = ["a", "nul \0", "b", "half \ud800", "c"]
    results = await asyncio.gather(
        *(added(things, number, name) for number, name in enumerate(names)),
        return_exceptions=True,
    )
    assert [isinstance(result, Exception) for result in results] == [0, 1, 0, 1, 0]
    assert not any(isinstance(result, Unavailable) for result in results)
    assert {row[2] for row in (await standing(things)).values()} == {"a", "b", "c"}


async def test_an_answer_stands_for_what_is_on_disk_however_the_database_is_set_up(
    postgres_url: str,
) -> None:
    [(name,)] = await ask(postgres_url, "SELECT current_database()")
    told = "INSERT INTO things (id, name) SELECT 1, current_setting('synchronous_commit')"
    for given, is_used in (("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")):
        await ask(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = {given}")
        async with opened(postgres_url) as db:
            assert await db.write(Statement(f"{told} RETURNING name")) == [(is_used,)]


# Exactly once


@pytest.mark.parametrize("cuts", [(cut,) for cut in CUTS] + [("unsent", "half_sent", "unanswered")])
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "first of its kind"])
async def test_a_connection_lost_at_any_moment_loses_and_repeats_nothing(
    own_url: str, cuts: tuple[Cut, ...], *, is_known: bool
) -> None:
    wait_seconds = 1.0 if cuts == ("dead",) else 10.0
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(Wire.to(own_url, mark=MARK.encode()))
        db = await stack.enter_async_context(opened(wire.url, wait_seconds=wait_seconds))
        if is_known:
            await asyncio.gather(*(added(db, -number) for number in range(1, 9)))
        wire.cuts.extend(cuts)
        results = await asyncio.gather(*(added(db, number, MARK) for number in range(30)))
        assert not wire.cuts
        found = await standing(db)
        assert results == [[found[number]] for number in range(30)]
        assert [await added(db, 100)] == [[(await standing(db))[100]]]


@pytest.mark.parametrize("cut", CUTS[:-1])
async def test_a_long_write_is_as_safe(own_url: str, cut: Cut) -> None:
    """It is several questions; the mark is in the last but two, or in the COMMIT."""
    for mark, count in ((MARK.encode(), 20), (b"COMMIT", 40)):
        async with Wire.to(own_url, mark=mark) as wire, opened(wire.url) as db:
            await db.write(Statement("DELETE FROM things"))
            wire.cuts.append(cut)
            first = Statement(ADD, 0, "")
            rows = await db.write(first, *(Statement(ADD, n, MARK) for n in range(1, count)))
            assert not wire.cuts
            found = await standing(db)
            assert rows == [found[0]]
            assert sorted(found) == list(range(count))


async def test_what_is_still_under_way_on_a_lost_connection_is_shut_out(own_url: str) -> None:
    """The first session works on in the server while the second one asks what became of it."""
    async with Wire.to(own_url, mark=MARK.encode()) as wire, opened(wire.url) as db:
        slow = f"{ADD[: ADD.index('VALUES')]} SELECT $1, $2 FROM pg_sleep(0.5) RETURNING id"
        wire.cuts.append("sent")
        assert await db.write(Statement(slow, 1, MARK)) == [(1,)]
        await until(lambda: is_idle(own_url))
        assert sorted(await standing(db)) == [1]


async def claim_and_add(db: Postgres, lane: int, stop: asyncio.Event) -> dict[str, list[int]]:
    """Adds and claims until told to stop: what was acknowledged, and what remains unknown."""
    done: dict[str, list[int]] = {"added": [], "claimed": [], "unknown": []}
    number = lane * 1_000_000
    claim = """
UPDATE jobs SET claims = claims + 1 WHERE id = (
    SELECT id FROM jobs WHERE claims = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id
"""
    while not stop.is_set():
        number += 1
        result = await added(db, number, f"lane {lane}")
        if isinstance(result, Unavailable):
            done["unknown"].append(number)
        else:
            assert [row[1:] for row in result] == [(number, f"lane {lane}")]
            done["added"].append(number)
        rows = await db.write(Statement("INSERT INTO jobs (claims) VALUES (0)"), Statement(claim))
        done["claimed"] += [row[0] for row in rows]
    return done


async def check_each_happened_once(db: Postgres, done: list[dict[str, list[int]]]) -> None:
    found = await standing(db)
    acknowledged = {number for lane in done for number in lane["added"]}
    unknown = {number for lane in done for number in lane["unknown"]}
    assert acknowledged <= set(found)
    assert set(found) <= acknowledged | unknown
    claimed = [job for lane in done for job in lane["claimed"]]
    assert len(claimed) == len(set(claimed))
    rows = await db.read("SELECT id, claims FROM jobs WHERE claims > 0")
    assert dict(rows) == dict.fromkeys(claimed, 1)


async def test_backends_that_are_terminated_at_random_lose_and_repeat_nothing(
    postgres_url: str,
) -> None:
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(opened(postgres_url))
        other = await stack.enter_async_context(opened(postgres_url))
        await db.write(Statement("CREATE TABLE jobs (id {serial}, claims BIGINT NOT NULL)"))
        stop = asyncio.Event()
        working = [
            asyncio.ensure_future(claim_and_add((db, other)[lane % 2], lane, stop))
            for lane in range(64)
        ]
        killer = await asyncpg.connect(postgres_url)
        for chance in (0.3, 0.3, 0.3, 0.6, 0.6, 1.0):
            await asyncio.sleep(random.uniform(0.05, 0.2))
            await killer.execute(KILL, chance)
        await killer.close()
        stop.set()
        done = await asyncio.gather(*working)
        assert [lane["unknown"] for lane in done if lane["unknown"]] == []
        await check_each_happened_once(db, done)


async def test_a_server_that_starts_again_has_all_that_was_acknowledged(
    own: OwnPostgres, own_url: str
) -> None:
    async with opened(own_url) as db:
        await db.write(Statement("CREATE TABLE jobs (id {serial}, claims BIGINT NOT NULL)"))
        stop = asyncio.Event()
        working = [asyncio.ensure_future(claim_and_add(db, lane, stop)) for lane in range(64)]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(own.restart, "immediate")
        reached = await added(db, 0)
        stop.set()
        done = await asyncio.gather(*working)
        assert isinstance(reached, list)
        done[0]["added"].append(0)
        await check_each_happened_once(db, done)


# Away


async def test_whoever_asks_while_nothing_answers_is_told_so_in_time(
    own: OwnPostgres, own_url: str
) -> None:
    async with opened(own_url, wait_seconds=1.0) as db:
        await added(db, 1)
        with own.frozen():
            asked = [added(db, number) for number in range(2, 300)]
            reads = (db.read("SELECT 1") for _ in range(20))
            results = await asyncio.gather(*asked, *reads, return_exceptions=True)
            assert {type(result) for result in results} == {Unavailable}
            with pytest.raises(Unavailable):
                await db.check_writable()
        assert [await added(db, 300)] == [[(await standing(db))[300]]]
        await db.check_writable()


async def test_a_lock_that_somebody_keeps_holds_up_the_writes_that_need_it_alone(
    things: Postgres, postgres_url: str
) -> None:
    await asyncio.gather(*(added(things, number) for number in range(3)))
    change = "UPDATE things SET name = $2 WHERE id = $1 RETURNING name"
    other = await asyncpg.connect(postgres_url)
    try:
        async with other.transaction():
            await other.execute("SELECT 1 FROM things WHERE id = 1 FOR UPDATE")
            held = [
                asyncio.ensure_future(things.write(Statement(change, 1, f"held {n}")))
                for n in range(5)
            ]
            held.append(
                asyncio.ensure_future(
                    things.write(*(Statement(change, n % 3, "long") for n in range(30)))
                )
            )
            for turn in range(3):
                free = [things.write(Statement(change, 2, f"turn {turn}")) for _ in range(3)]
                assert await asyncio.gather(*free) == [[(f"turn {turn}",)]] * 3
            assert not any(write.done() for write in held)
        assert await asyncio.gather(*held) == [*([(f"held {n}",)] for n in range(5)), [("long",)]]
    finally:
        await other.close()


async def test_a_lock_that_is_kept_for_too_long_is_unavailable(postgres_url: str) -> None:
    async with opened(postgres_url, wait_seconds=1.0) as db:
        await added(db, 1)
        other = await asyncpg.connect(postgres_url)
        async with other.transaction():
            await other.execute("LOCK TABLE things")
            results = await asyncio.gather(*(added(db, number) for number in range(2, 100)))
            assert {type(result) for result in results} == {Unavailable}
        await other.close()
        await added(db, 100)
        assert sorted(await standing(db)) == [1, 100]


async def test_a_database_without_a_connection_to_spare_is_waited_for(
    own: OwnPostgres, own_url: str
) -> None:
    """As a user with a limit, who is no superuser either."""
    own.ask("CREATE ROLE limited LOGIN")
    own.ask("GRANT CREATE ON SCHEMA public TO limited")
    url = own_url.replace("postgres@", "limited@")
    async with opened(url, wait_seconds=1.0) as db:
        own.ask("ALTER ROLE limited CONNECTION LIMIT 0")
        own.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'limited'")
        await until(lambda: has_left(own_url, user="limited"))
        assert isinstance(await added(db, 1), Unavailable)
        with pytest.raises(Unavailable, match="too many connections"):
            await db.read("SELECT 1")
        with pytest.raises(Misconfigured, match="too many connections"):
            await open_postgres(url, wait_seconds=0.2)
        own.ask("ALTER ROLE limited CONNECTION LIMIT 20")
        assert isinstance(await added(db, 2), list)
        assert sorted(await standing(db)) == [2]


async def test_a_change_of_the_schema_may_take_longer_than_a_request(postgres_url: str) -> None:
    async with opened(postgres_url, wait_seconds=1.0) as db:
        assert isinstance(await added(db, 1), list)
        await db.write(
            Statement("CREATE TABLE more (id BIGINT)"),
            Statement("INSERT INTO more SELECT id FROM things, pg_sleep(1.3)"),
        )
        assert await db.read("SELECT id FROM more") == [(1,)]


async def test_a_wake_up_comes_after_the_connection_that_brings_them_was_lost(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as here, opened(postgres_url) as there:
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE $1"
        with there.listen("topic") as wakeup:
            assert len(await ask(postgres_url, kill, "%clock_timestamp%")) >= 1
            assert await wakeup.wait(timeout_seconds=20)  # all look again after it
            while not await wakeup.wait(timeout_seconds=0.5):
                here.notify("topic")
        assert abs(there.now() - here.now()) < 5


async def test_a_reader_that_is_given_up_leaves_the_others_their_connections(
    things: Postgres,
) -> None:
    for _ in range(3):
        asked = [asyncio.ensure_future(things.read("SELECT pg_sleep(30)")) for _ in range(8)]
        await asyncio.sleep(0.1)
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    assert await things.read("SELECT 1") == [(1,)]


# Opening and closing


async def test_what_dead_servers_have_left_is_cleared_away(postgres_url: str) -> None:
    leave = "INSERT INTO writers (id, session, batch, outcome, changed_at) VALUES ($1, 1, 1, '', "
    await ask(postgres_url, f"{leave} 0)", "of a dead server")
    async with opened(postgres_url) as db:
        await added(db, 1)
        await ask(postgres_url, "UPDATE writers SET changed_at = 0")
        async with opened(postgres_url):
            rows = await db.read("SELECT id FROM writers WHERE changed_at = 0 AND id <> ''")
            assert rows == []
        assert isinstance(await added(db, 2), list)  # its row was taken for a dead one's
        assert sorted(await standing(db)) == [1, 2]


async def test_nothing_is_left_behind(postgres_url: str, tmp_path: Path) -> None:
    tasks = asyncio.all_tasks()
    db = await open_database(tmp_path, postgres_url)
    await asyncio.gather(*(db.read("SELECT pg_sleep(0.05)") for _ in range(8)))
    await db.check_writable()
    await db.close()
    assert asyncio.all_tasks() == tasks
    await until(lambda: has_left(postgres_url))
    assert await ask(postgres_url, "SELECT id FROM writers WHERE id <> ''") == []


async def test_an_opening_that_fails_half_way_leaves_no_connection(
    postgres_url: str,
) -> None:
    """Here it is the time that cannot be asked for, when the rest is open."""
    tasks = asyncio.all_tasks()
    await ask(postgres_url, "CREATE SCHEMA broken")
    await ask(
        postgres_url,
        "CREATE FUNCTION broken.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'no time'; END $$",
    )
    [(name,)] = await ask(postgres_url, "SELECT current_database()")
    await ask(postgres_url, f"ALTER DATABASE {name} SET search_path = broken, pg_catalog, public")
    with pytest.raises(Misconfigured, match="no time"):
        await open_postgres(postgres_url, wait_seconds=0.2)
    await until(lambda: has_left(postgres_url))
    assert asyncio.all_tasks() == tasks


def test_what_is_shown_still_says_how_to_connect() -> None:
    url = "postgresql:///name?host=/tmp&password=secret&sslmode=require"
    shown = without_password(url, keeps_options=True)
    assert shown == "postgresql:///name?host=%2Ftmp&sslmode=require"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://u:secret@host:1/name?sslmode=x", "postgresql://u@host:1/name"),
        ("postgresql://u:secret@one:1,two:2/name", "postgresql://u@one:1,two:2/name"),
        ("postgresql:///name?host=/tmp&password=secret", "postgresql:///name"),
        ("postgresql://u:sec/ret@host/name", "postgresql://…"),
        ("postgresql://u:sec#ret@host/name", "postgresql://…"),
        ("postgresql://u:sec?ret@host/name", "postgresql://…"),
        ("postgresql://u:[secret@host/name", "postgresql://…"),
        ("postgresql://u:sec@re:t@host/name", "postgresql://u@host/name"),
    ],
)
async def test_no_password_is_shown_however_it_is_written(url: str, place: str) -> None:
    assert without_password(url) == place
    assert "ret" not in without_password(url, keeps_options=True)
    with pytest.raises(Misconfigured) as refused:
        await open_postgres(url, wait_seconds=0.1)
    assert str(refused.value).startswith(f"cannot use the database {place}: ")
    assert not any(piece in str(refused.value) for piece in ("sec", "ret@", "re:t", "\n"))
