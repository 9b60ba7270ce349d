"""A run is handed to a free driver past the queue only where no other run waits in it."""

import asyncio
import time
from typing import Any

import pytest

from rethread.errors import Unavailable
from rethread.providers.demo import Demo
from rethread.runs.engine import Engine
from rethread.store import leases
from rethread.store.code_sessions import NO_SERVER
from rethread.store.database import Database, Statement
from rethread.store.events import EventLog
from rethread.store.leases import Lease
from rethread.store.servers import Server
from rethread.tools.file_search.ingesting import Ingesting
from rethread.tools.file_search.search import Search
from rethread.workers import Workers


def new_workers(db: Database, *, max_concurrent_runs: int, blobs: Any = None) -> Workers:
    """Workers that have not begun to work."""
    engine = Engine(
        db=db,
        blobs=blobs,
        log=EventLog(db),
        provider=Demo(),
        resolve_model=str,
        context_window=lambda _: 1000,
        count_tokens=len,
        clock=time.time,
        search=Search(db, None),
    )
    library: Any = None
    return Workers(
        engine,
        Server("server_a", "here"),
        Ingesting(library, server="server_a", most=1),
        max_concurrent_runs=max_concurrent_runs,
        event_retention_seconds=3600,
    )


def is_held(workers: Workers, holder: str = NO_SERVER) -> bool:
    """Whether a run that is queued now gets a driver at once."""
    with workers.dispatch(holder) as drive:
        return drive is not None


async def test_a_claim_under_way_holds_a_driver_and_may_have_missed_a_run(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, go_on = asyncio.Event(), asyncio.Event()

    async def claim(db: Database, **options: Any) -> Lease | None:
        looking.set()
        await go_on.wait()
        return None

    workers = new_workers(db, max_concurrent_runs=1)
    await workers._claim_all()
    assert is_held(workers)
    with monkeypatch.context() as patched:
        patched.setattr(leases, "claim", claim)
        claiming = asyncio.create_task(workers._claim_all())
        await looking.wait()
        assert not is_held(workers)  # the one driver may be needed for what the claim brings
        go_on.set()
        await claiming
    assert not is_held(workers)  # the run above waits in the queue, and comes first
    await workers._claim_all()
    assert is_held(workers)


async def test_a_run_is_not_held_for_where_another_server_has_its_session(db: Database) -> None:
    workers = new_workers(db, max_concurrent_runs=1)
    await workers._claim_all()
    assert not is_held(workers, "server_b")
    assert is_held(workers, "server_a")  # and no other run waits in the queue for this server


class Stubborn:
    """A store of blobs that keeps some of them for ever."""

    def __init__(self, kept: set[str]) -> None:
        self.left = kept | {"gone"}
        self._kept = kept
        self.asked: list[str] = []

    async def delete(self, name: str) -> None:
        """Have nothing under the name, or say why not."""
        self.asked.append(name)
        if name in self._kept:
            raise Unavailable("Permission denied.")
        self.left.discard(name)


async def test_blobs_that_cannot_be_taken_away_hold_up_no_others_and_are_told_of_once(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    kept = {f"kept{n:03}" for n in range(150)}  # more than are looked at together
    throw = "INSERT INTO blob_trash (id, due_at) VALUES ($1, 0)"
    await db.write(*(Statement(throw, name) for name in sorted(kept)))
    await db.write(Statement(throw, "zone"), Statement(throw, "gone"))
    blobs = Stubborn(kept)
    workers = new_workers(db, max_concurrent_runs=1, blobs=blobs)
    while await workers.take_blobs_away():
        pass
    assert blobs.left == kept
    assert len(blobs.asked) == len(kept) + 2
    assert len(await db.read("SELECT id FROM blob_trash")) == len(kept)
    told = sum(getattr(record, "fields", {}).get("count", 0) for record in caplog.records)
    assert told == len(kept)
    await db.write(Statement("UPDATE blob_trash SET due_at = -1"))  # their time has come again
    caplog.clear()
    while await workers.take_blobs_away():
        pass
    assert len(blobs.asked) == 2 * len(kept) + 2
    assert caplog.records == []
