"""One round: a load, a crash in the middle of it, a recovery, and the look at what is there."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple

from tests.crash.application import Application, Conversation, Notes, Writer
from tests.crash.findings import (
    ENDED_WITHIN_SECONDS,
    Findings,
    Reader,
    check_conversation,
    check_notes,
)
from tests.crash.places import Place, Scenario

ANSWER_SECONDS: Final = 3.0  # how long the model takes
STARTS_WITHIN_SECONDS: Final = 1.0
WRITERS: Final = 4
CHECKED_AT_ONCE: Final = 16
PATIENCE_SECONDS: Final = 15.0  # beyond the time in which all must have ended
LONG_SECONDS: Final = 12.0
EVERY_THIRD: Final = 3


class Plan(NamedTuple):
    """When what happens, and to whom: the crash comes some seconds after that part of all runs
    has begun, however slow the machine is.
    """

    begun: float
    crash_after: float
    down_for: float
    victim: int = 0


def plans(scenario: Scenario, seed: int, rounds: int) -> list[Plan]:
    """The rounds of a seed: always the same.

    In every fourth round servers stay away until they are taken over, and the database for
    longer than requests wait for it.
    """
    chance = random.Random(f"{scenario} {seed}")
    made = []
    for number in range(rounds):
        plan = Plan(
            begun=chance.uniform(0.1, 1),
            crash_after=chance.uniform(0, ANSWER_SECONDS),
            down_for=chance.uniform(0.2, 3),
            victim=chance.randrange(3),
        )
        is_long = scenario != "sqlite" and number % 4 == 3
        made.append(plan._replace(down_for=LONG_SECONDS) if is_long else plan)
    return made


async def play(
    place: Place, application: Application, plan: Plan, *, name: str, runs: int
) -> tuple[Findings, list[Notes]]:
    """One round, and what clients were told in it."""
    loop = asyncio.get_running_loop()
    is_over = asyncio.Event()
    writers = [Writer(application, f"{name}w{number}") for number in range(WRITERS)]
    conversations = [
        Conversation(application, f"{name}c{number}", has_function=number % EVERY_THIRD == 0)
        for number in range(runs)
    ]
    writing = [asyncio.create_task(writer.write_until(is_over)) for writer in writers]
    holding = [
        asyncio.create_task(_hold(each, STARTS_WITHIN_SECONDS * number / runs))
        for number, each in enumerate(conversations)
    ]
    await _until_begun(conversations, plan.begun)
    await asyncio.sleep(plan.crash_after)
    crashed_at = loop.time()
    under_way = sum(each.is_under_way for each in conversations)
    await place.crashed(plan.victim)
    await asyncio.sleep(plan.down_for)
    await place.recovered(plan.victim)
    until = crashed_at + ENDED_WITHIN_SECONDS + PATIENCE_SECONDS
    await asyncio.wait(holding, timeout=until - loop.time())
    is_over.set()
    await asyncio.wait(writing, timeout=PATIENCE_SECONDS)
    findings = Findings(under_way=under_way)
    await _collect(findings, [*holding, *writing])
    findings.given_up, application.given_up = application.given_up, type(application.given_up)()
    await _check(findings, Reader(application.http), writers, conversations, crashed_at)
    return findings, [each.notes for each in (*writers, *conversations)]


async def _until_begun(conversations: Sequence[Conversation], part: float) -> None:
    """Wait for that part of the runs; not for ever, as a server may refuse them all."""
    count = round(part * len(conversations))
    waiting = [asyncio.create_task(each.heard.begun.wait()) for each in conversations]
    with suppress(TimeoutError):
        for begun in islice(asyncio.as_completed(waiting, timeout=PATIENCE_SECONDS), count):
            await begun
    for task in waiting:
        task.cancel()


async def _hold(conversation: Conversation, after_seconds: float) -> None:
    await asyncio.sleep(after_seconds)
    await conversation.hold()


async def _collect(findings: Findings, tasks: Sequence[asyncio.Task[None]]) -> None:
    """End what has not ended; what has broken is a finding of its own."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            findings.lost += findings.note(repr(result), "a client")


async def _check(
    findings: Findings,
    reader: Reader,
    writers: Sequence[Writer],
    conversations: Sequence[Conversation],
    crashed_at: float,
) -> None:
    gate = asyncio.Semaphore(CHECKED_AT_ONCE)

    async def check(thread: Writer | Conversation) -> None:
        async with gate:
            if isinstance(thread, Conversation):
                await check_conversation(findings, reader, thread, crashed_at=crashed_at)
            else:
                await check_notes(findings, reader, thread.notes)

    threads: list[Writer | Conversation] = [*writers, *conversations]
    await asyncio.gather(*(check(thread) for thread in threads))
