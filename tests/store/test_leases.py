"""Who drives which run: first come, first served; the urgent first; an old fence writes nothing.

A run that may run code is left for a moment to the server that has its thread's session.
"""

import asyncio

from rethread.store import leases, servers
from rethread.store.database import Database, Statement
from rethread.store.events import EventLog, Record
from rethread.store.servers import Server
from rethread.store.sqlite import Sqlite
from tests.objects import claimed, stored_run, waiting


async def enqueue(db: Database, run_id: str, *, urgent: bool = False) -> None:
    await db.write(leases.enqueuing("thread_a", run_id, urgent=urgent))


def record(number: int) -> Record:
    return Record(number, number, b"id: %d\nevent: x\ndata: {}\n\n" % number)


async def test_runs_are_claimed_in_the_order_in_which_they_were_queued(db: Database) -> None:
    for name in ("run_b", "run_a", "run_c"):
        await enqueue(db, name)
    assert [(await claimed(db)).run_id for _ in range(3)] == ["run_b", "run_a", "run_c"]
    assert await leases.claim(db) is None


async def test_each_run_is_claimed_once_however_many_ask(db: Database) -> None:
    for number in range(20):
        await enqueue(db, f"run_{number}")
    claims = await asyncio.gather(*(leases.claim(db) for _ in range(30)))
    runs = [lease.run_id for lease in claims if lease]
    assert sorted(runs) == sorted(f"run_{number}" for number in range(20))


async def test_an_urgent_run_goes_first_and_is_all_that_a_full_house_takes(db: Database) -> None:
    for name in ("run_a", "run_b"):
        await enqueue(db, name)
    assert await leases.claim(db, urgent_only=True) is None
    await enqueue(db, "run_b", urgent=True)  # queued already: it stays one run
    await enqueue(db, "run_c", urgent=True)
    urgent = [await leases.claim(db, urgent_only=True) for _ in range(3)]
    assert [lease and lease.run_id for lease in urgent] == ["run_b", "run_c", None]
    assert (await claimed(db)).run_id == "run_a"
    assert await waiting(db) == 0


async def test_an_urgent_run_goes_first_where_there_is_room_for_all(db: Database) -> None:
    for name in ("run_a", "run_b"):
        await enqueue(db, name)
    await enqueue(db, "run_b", urgent=True)
    assert [(await claimed(db)).run_id for _ in range(2)] == ["run_b", "run_a"]


async def test_a_run_that_is_being_driven_is_not_claimed_again_when_it_becomes_urgent(
    db: Database,
) -> None:
    await enqueue(db, "run_a")
    await claimed(db)
    await enqueue(db, "run_a", urgent=True)
    assert await leases.claim(db) is None


async def test_every_claim_has_a_higher_fence(db: Database) -> None:
    await enqueue(db, "run_a")
    fences = []
    for _ in range(3):
        lease = await claimed(db)
        fences.append(lease.fence)
        await leases.release(db, lease)
    assert fences == [1, 2, 3]


async def test_a_run_that_is_given_back_in_order_has_not_crashed(db: Database) -> None:
    await enqueue(db, "run_a")
    crashes = []
    for after_crash in (False, True, False):
        lease = await claimed(db)
        crashes.append(lease.crashes)
        await leases.release(db, lease, after_crash=after_crash)
    assert [*crashes, (await claimed(db)).crashes] == [0, 0, 1, 1]


async def test_after_a_start_every_claim_is_taken_back(db: Database) -> None:
    for name in ("run_a", "run_b"):
        await enqueue(db, name)
        await claimed(db)
    assert await waiting(db) == 0
    await leases.release_all(db)
    assert [(await claimed(db))[1:] for _ in range(2)] == [("run_a", 2, 1), ("run_b", 2, 1)]


async def test_an_old_fence_cannot_append_nor_finish_nor_release(db: Database) -> None:
    log = EventLog(db)
    started = await stored_run(db, log)
    thread_id, run_id = started.run.thread_id, started.run.id
    old = await claimed(db)
    await leases.release_all(db)
    new = await claimed(db)
    along = leases.enqueuing("thread_x", "run_x")
    assert not await log.append(thread_id, run_id, record(3), along, fence=old.fence)
    await db.write(leases.finishing(old))
    await leases.release(db, old)
    assert await leases.claim(db) is None  # the new one still has it, and run_x was not queued
    assert await log.append(thread_id, run_id, record(3), fence=new.fence)
    await db.write(leases.finishing(new))
    assert await waiting(db) == 0
    assert not await log.append(thread_id, run_id, record(4), fence=new.fence)


async def keep(db: Database, run_id: str, *, server: str) -> None:
    """Queue a run for that server first."""
    await db.write(leases.enqueuing_kept("thread_a", run_id, server=server))


async def claims(db: Database, *servers: str) -> list[str | None]:
    """Which run each of the servers gets, one after the other."""
    claimed = [await leases.claim(db, server=server) for server in servers]
    return [lease and lease.run_id for lease in claimed]


async def test_a_run_that_is_kept_for_a_server_holds_up_no_other_run(db: Database) -> None:
    await keep(db, "run_a", server="server_a")
    await enqueue(db, "run_b")
    assert await claims(db, "server_b", "server_b", "server_a") == ["run_b", None, "run_a"]


async def test_a_run_is_kept_for_a_server_for_a_moment_only(db: Database) -> None:
    await keep(db, "run_a", server="server_a")
    await enqueue(db, "run_b")
    [(left,)] = await db.read("SELECT kept_until - {now} FROM work WHERE run_id = 'run_a'")
    assert 0 < left <= leases.KEPT_SECONDS * 1000
    await db.write(Statement("UPDATE work SET kept_until = kept_until - $1", left))
    assert await claims(db, "server_b", "server_b") == ["run_a", "run_b"]


async def test_a_run_that_is_cancelled_or_given_back_is_kept_no_longer(db: Database) -> None:
    await keep(db, "run_a", server="server_a")
    await enqueue(db, "run_a", urgent=True)
    await keep(db, "run_b", server="server_a")
    assert await claims(db, "server_b", "server_b") == ["run_a", None]
    lease = await leases.claim(db, server="server_a")
    assert lease is not None
    await leases.release(db, lease)
    assert await claims(db, "server_b") == ["run_b"]


async def test_nothing_is_kept_for_a_server_that_begins_to_stop(db: Database) -> None:
    server = Server("server_a", "home_a")
    await servers.join(db, server)
    await keep(db, "run_a", server="server_a")
    await servers.begin_to_leave(db, server)
    assert await claims(db, "server_b") == ["run_a"]


async def test_a_claim_costs_the_same_with_many_waiting(sqlite: Sqlite) -> None:
    plan = await sqlite.read(
        "EXPLAIN QUERY PLAN SELECT number FROM work WHERE claimed = 0 AND urgent >= 0 "
        "AND (kept_until IS NULL OR server = '' OR kept_until <= {now}) "
        "ORDER BY urgent DESC, number LIMIT 1"
    )
    details = " ".join(row[3] for row in plan)
    assert "work_waiting" in details
    assert "TEMP B-TREE" not in details
