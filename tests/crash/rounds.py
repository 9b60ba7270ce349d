"""One round: a load, a crash in the middle of it, a recovery, and the look at what is there."""

import asyncio
import random
from collections.abc import Sequence
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
EVERY_THIRD: Final = 3


class Plan(NamedTuple):
    """When what happens, in seconds from the start, and to whom."""

    crash_after: float
    down_for: float
    victim: int


def plans(scenario: Scenario, seed: int, rounds: int) -> list[Plan]:
    """The rounds of a seed: always the same.

    A dead server stays away past its takeover in every fourth round; else it is back earlier.
    """
    chance = random.Random(f"{scenario} {seed}")
    made = []
    for number in range(rounds):
        crash_after = chance.uniform(0.2, STARTS_WITHIN_SECONDS + ANSWER_SECONDS + 1)
        down_for = chance.uniform(0.2, 3)
        if scenario == "servers" and number % 4 == 3:
            down_for = 12.0
        made.append(Plan(crash_after, down_for, chance.randrange(3)))
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
    await asyncio.sleep(plan.crash_after)
    crashed_at = loop.time()
    await place.crashed(plan.victim)
    await asyncio.sleep(plan.down_for)
    await place.recovered(plan.victim)
    until = crashed_at + ENDED_WITHIN_SECONDS + PATIENCE_SECONDS
    await asyncio.wait(holding, timeout=until - loop.time())
    is_over.set()
    await asyncio.wait(writing, timeout=PATIENCE_SECONDS)
    findings = Findings()
    await _collect(findings, [*holding, *writing])
    findings.given_up, application.given_up = application.given_up, type(application.given_up)()
    await _check(findings, Reader(application.http), writers, conversations, crashed_at)
    return findings, [each.notes for each in (*writers, *conversations)]


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
