"""Claims work and gives it to who can do it: runs to drivers, and chores by the clock.

Runs are claimed first come, first served, a bounded number at once. A cancelled or overdue run
has nothing to wait for and is claimed past that bound. Nothing here depends on a wake-up: one
that is lost costs a second. Servers that share a database take over from one that has died.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from rethread.errors import NoSuchFile, RethreadError
from rethread.runs.commands import Driver, interrupt_topic
from rethread.runs.driver import drive
from rethread.runs.engine import Engine
from rethread.store import (
    answers,
    blobs,
    chunks,
    events,
    files,
    ingestions,
    leases,
    pages,
    purged_stores,
    runs,
    search,
    servers,
    threads,
    uploads,
    vector_store_files,
    vector_stores,
)
from rethread.store.code_sessions import NO_SERVER
from rethread.store.database import Database, Statement
from rethread.store.leases import Lease
from rethread.store.runs import StoredRun
from rethread.store.servers import Server, Taken
from rethread.tools.file_search.ingesting import Ingesting

logger = logging.getLogger("rethread.workers")

LOOK_EVERY_SECONDS: Final = 1.0
REST_AFTER_FAILURE_SECONDS: Final = 1.0
TOMBSTONES_KEPT_SECONDS: Final = 24 * 60 * 60
WATCH_EVERY_SECONDS: Final = 1.0


class Chore(NamedTuple):
    """Something that is done again and again; `what` says whether there is more to do at once."""

    name: str
    every_seconds: float
    what: Callable[["Workers"], Awaitable[bool]]


class Workers:
    """The drivers and chores of one process."""

    def __init__(
        self,
        engine: Engine,
        server: Server,
        ingesting: Ingesting,
        *,
        max_concurrent_runs: int,
        event_retention_seconds: float,
    ) -> None:
        self._engine = engine
        self._server = server
        self._ingesting = ingesting
        self._max_concurrent_runs = max_concurrent_runs
        self._event_retention_seconds = event_retention_seconds
        self._driving: set[asyncio.Task[None]] = set()
        self._reserved = 0  # drivers that are held for runs about to be written
        self._queueing = 0  # runs about to be written that nothing is held for
        self._queued = 0  # how many there were of those
        self._is_queue_empty = False
        self._is_leaving = False
        self._loops: list[asyncio.Task[None]] = []
        self._beating: list[asyncio.Task[None]] = []
        self._left_behind: set[str] = set()  # blobs that could not be taken away, and are told of

    @property
    def db(self) -> Database:
        """The store."""
        return self._engine.db

    def now(self) -> int:
        """The time, in Unix seconds."""
        return int(self._engine.clock())

    async def start(self) -> None:
        """Take up what an earlier process left, then work until stopped."""
        if self._is_alone:
            taken = Taken(await leases.release_all(self.db), await ingestions.release_all(self.db))
            await blobs.abandon_all(self.db)
        else:
            taken = await servers.join(self.db, self._server)
            self._beating = [asyncio.create_task(self._keep_alive())]
        _log_taken(logging.INFO, "taken up again", taken)
        self._loops = [asyncio.create_task(self._claim_for_ever())]
        self._loops += [asyncio.create_task(self._ingesting.run())]
        self._loops += [asyncio.create_task(self._repeat(chore)) for chore in CHORES]

    def begin_to_leave(self) -> None:
        """Leave what waits in the queue to other servers, where there are some that stay."""
        self._is_leaving = True
        self._ingesting.begin_to_leave()
        if not self._is_alone:
            self._server = self._server.leaving
            self._beating.append(asyncio.create_task(self._say_goodbye()))

    async def stop(self, *, grace_seconds: float) -> None:
        """Claim nothing more, let the runs under way finish for a while, hand back the rest."""
        self._max_concurrent_runs = 0
        await _cancel(self._loops)
        if self._driving:
            await asyncio.wait(self._driving, timeout=grace_seconds)
        await _cancel(list(self._driving))
        await self._ingesting.stop()
        await _cancel(self._beating)  # not before: others would take over what is under way
        if not self._is_alone:
            with suppress(RethreadError):  # a database that is away learns it by our silence
                await servers.leave(self.db, self._server)
                self.db.notify(leases.TOPIC)
                self.db.notify(ingestions.TOPIC)

    @property
    def _is_alone(self) -> bool:
        """Whether no other server can share the database."""
        return self.db.look_again_seconds is None

    @property
    def driving(self) -> int:
        """How many runs are under way."""
        return len(self._driving)

    def hurry(self) -> None:
        """Hand back the runs under way now, whatever grace is left."""
        self._max_concurrent_runs = 0
        for task in self._driving:
            task.cancel()

    async def _claim_for_ever(self) -> None:
        with self.db.listen(leases.TOPIC) as wakeup:
            while True:
                try:
                    await self._claim_all()
                except Exception as problem:
                    _log_failure("claim failed", problem)
                    await asyncio.sleep(REST_AFTER_FAILURE_SECONDS)
                await wakeup.wait(timeout_seconds=LOOK_EVERY_SECONDS)

    async def _keep_alive(self) -> None:
        """Renew this server's claims, and take over from servers that do not renew theirs.

        After a time when the database was away, everybody has been silent: then the others get
        as long to be heard again as they are given otherwise.
        """
        beaten = in_touch_since = time.monotonic()
        while True:
            try:
                if time.monotonic() - beaten >= servers.BEAT_SECONDS:
                    await servers.beat(self.db, self._server)
                    if time.monotonic() - beaten > 2 * servers.BEAT_SECONDS:
                        in_touch_since = time.monotonic()
                    beaten = time.monotonic()
                for run_id in await servers.urgent_runs(self.db, self._server):
                    self.db.notify(interrupt_topic(run_id))
                if time.monotonic() - in_touch_since > servers.SILENCE_SECONDS:
                    await self._take_over()
            except Exception as problem:
                _log_failure("keeping alive failed", problem)
            await asyncio.sleep(WATCH_EVERY_SECONDS)

    async def _say_goodbye(self) -> None:
        with suppress(RethreadError):  # the next beat may be heard
            await servers.begin_to_leave(self.db, self._server)
            self.db.notify(leases.TOPIC)

    async def _take_over(self) -> None:
        taken = await servers.take_back(self.db)
        if any(taken):
            _log_taken(logging.WARNING, "taken over", taken)
            self.db.notify(leases.TOPIC)
            self.db.notify(ingestions.TOPIC)

    @contextmanager
    def dispatch(self, holder: str) -> Iterator[Driver | None]:
        """Hold a driver for a run that is about to be queued; None if others wait, or all work.

        None also where another server is the holder of its thread's session.
        """
        if holder not in (NO_SERVER, self._server.id):
            yield None
            return
        is_held = self._is_queue_empty and self._is_driver_free()
        self._is_queue_empty = is_held  # a run that is not held for waits in the queue
        self._reserved += is_held
        self._queueing += not is_held
        self._queued += not is_held
        try:
            yield Driver(self._server.id, self._begin) if is_held else None
        finally:
            self._reserved -= is_held
            self._queueing -= not is_held

    def _is_driver_free(self) -> bool:
        return len(self._driving) + self._reserved < self._max_concurrent_runs

    async def _claim_all(self) -> None:
        while not (self._is_leaving and await self._are_others_staying()):
            any_run = self._is_driver_free()
            queued, was_calm = self._queued, self._queueing == 0
            self._reserved += any_run  # for what the claim may bring
            try:
                lease = await leases.claim(self.db, server=self._server.id, urgent_only=not any_run)
            finally:
                self._reserved -= any_run
            if lease is None:
                # A run that is written meanwhile may be one that the claim has not seen.
                self._is_queue_empty = any_run and was_calm and self._queued == queued
                return
            self._begin(lease)

    async def _are_others_staying(self) -> bool:
        return not self._is_alone and await servers.are_others_staying(self.db, self._server)

    def _begin(self, lease: Lease, stored: StoredRun | None = None) -> None:
        task = asyncio.create_task(self._drive(lease, stored))
        self._driving.add(task)
        task.add_done_callback(self._has_driven)

    def _has_driven(self, task: asyncio.Task[None]) -> None:
        self._driving.discard(task)
        self.db.notify(leases.TOPIC)

    async def _drive(self, lease: Lease, stored: StoredRun | None) -> None:
        """Drive a run; if that breaks off for whatever reason, the run goes back to the queue."""
        try:
            await drive(self._engine, lease, stored)
        except asyncio.CancelledError:
            await leases.release(self.db, lease)
            raise
        except Exception as problem:
            # Nothing that may have gone wrong with one run shall end the others.
            _log_failure("driver failed", problem, run_id=lease.run_id)
            await self._give_back(lease)

    async def _give_back(self, lease: Lease) -> None:
        """Put a run back into the queue, however long the store takes to be writable again."""
        while True:
            await asyncio.sleep(REST_AFTER_FAILURE_SECONDS)
            with suppress(Exception):
                await leases.release(self.db, lease, after_crash=True)
                return

    async def _repeat(self, chore: Chore) -> None:
        while True:
            try:
                has_more = True
                while has_more:
                    has_more = await chore.what(self)
            except Exception as problem:
                _log_failure("chore failed", problem, chore=chore.name)
            await asyncio.sleep(chore.every_seconds)

    async def end_overdue(self) -> bool:
        """Have a driver end the runs that wait past their time."""
        overdue = await runs.overdue(self.db, now=self.now())
        if overdue:
            await self.db.write(
                *(leases.enqueuing(thread_id, run_id, urgent=True) for thread_id, run_id in overdue)
            )
            self.db.notify(leases.TOPIC)
        return False

    async def purge_deleted_threads(self) -> bool:
        """Clean away what hung on deleted threads."""
        return await threads.purge_some(self.db)

    async def index_messages(self) -> bool:
        """Bring the search index up to date with a few messages."""
        has_more, failed = await search.index_some(self.db)
        for message_id, problem in failed.items():
            _log_failure("message not indexed", problem, message=message_id)
        return has_more

    async def forget_events(self) -> bool:
        """Drop the logs of runs that ended long ago."""
        before = int(self.now() - self._event_retention_seconds)
        return await events.forget(self.db, rested_before=before)

    async def expire_files(self) -> bool:
        """Delete the files whose time is over."""
        overdue = await files.expired(self.db)
        for project, file_id in overdue:
            with suppress(NoSuchFile):  # somebody was quicker
                await vector_store_files.delete_file(self.db, project, file_id, now=self.now())
        return bool(overdue)

    async def expire_uploads(self) -> bool:
        """End the uploads whose time is over, and forget old ones."""
        return await uploads.expire(self.db)

    async def take_blobs_away(self) -> bool:
        """Free the space of what no file refers to any more."""
        names = set(await blobs.due(self.db))
        failed = dict[str, str]()
        for name in names:
            try:
                await self._engine.blobs.delete(name)
            except RethreadError as problem:  # of this one: the others may well go
                failed[name] = problem.message
        await blobs.taken_away(self.db, names - failed.keys())
        await blobs.postpone(self.db, failed)
        self._tell_of_left_behind(failed)
        self._left_behind = (self._left_behind - names) | failed.keys()
        return bool(names)

    def _tell_of_left_behind(self, failed: Mapping[str, str]) -> None:
        """Say once of each blob that it could not be taken away; of all of them in one line."""
        new = failed.keys() - self._left_behind
        if new:
            fields = {"count": len(new), "problem": failed[min(new)]}
            logger.warning("blobs not taken away yet", extra={"fields": fields})

    async def empty_expired_stores(self) -> bool:
        """Begin to clean away what was read for vector stores whose time is over."""
        return await vector_stores.empty_expired(self.db)

    async def purge_stores(self) -> bool:
        """Clean away what was in vector stores that are gone."""
        return await purged_stores.purge_some(self.db)

    async def purge_chunks(self) -> bool:
        """Clean away what was read of files that are in their store no more."""
        return await chunks.forget_some(self.db)

    async def forget_answers(self) -> bool:
        """Drop the answers of old idempotency keys, and old tombstones."""
        await answers.forget(self.db, now=self.now())
        before = self.now() - TOMBSTONES_KEPT_SECONDS
        await self.db.write(Statement(pages.FORGET, before))
        return False


CHORES: Final = (
    Chore("end overdue runs", 1, Workers.end_overdue),
    Chore("purge deleted threads", 2, Workers.purge_deleted_threads),
    Chore("index messages", 0.5, Workers.index_messages),
    Chore("expire files", 1, Workers.expire_files),
    Chore("expire uploads", 30, Workers.expire_uploads),
    Chore("take blobs away", 1, Workers.take_blobs_away),
    Chore("empty expired vector stores", 30, Workers.empty_expired_stores),
    Chore("purge vector stores", 2, Workers.purge_stores),
    Chore("purge chunks", 2, Workers.purge_chunks),
    Chore("forget events", 600, Workers.forget_events),
    Chore("forget answers and tombstones", 600, Workers.forget_answers),
)


def _log_taken(level: int, how: str, taken: Taken) -> None:
    for what, count in taken._asdict().items():
        if count:
            logger.log(level, f"{what} {how}", extra={"fields": {"count": count}})


def _log_failure(event: str, problem: Exception, **fields: str) -> None:
    """Whatever it was: without its loop the server would take requests and work on none."""
    if isinstance(problem, RethreadError):
        logger.error(event, extra={"fields": {**fields, "problem": problem.message}})
    else:
        logger.error(event, exc_info=problem, extra={"fields": fields})


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
