"""Crash tests for anyone: `make crash ARGS="--scenario sqlite --rounds 3 --seed 7"`.

A table of what was acknowledged and what became of it; the exit code is 1 if anything is wrong.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final, NamedTuple

from tests.crash.application import Application, Notes
from tests.crash.findings import Findings
from tests.crash.model import answering
from tests.crash.places import SCENARIOS, Place, Scenario, place_of
from tests.crash.rounds import ANSWER_SECONDS, plans, play
from tests.fakes.model_server import ModelServer

MOST_SAID: Final = 20
TITLES: Final = {
    "servers": "kill -9 of one of three servers",
    "database": "the database stops at once",
    "sqlite": "kill -9 of an only server, SQLite",
}


class Outcome(NamedTuple):
    """A scenario's rounds, added up."""

    scenario: Scenario
    rounds: list[Findings]
    lost_later: int  # was there at the end of its round, and is not at the end of all
    seconds: float

    def total(self, of: Callable[[Findings], int]) -> int:
        """The sum over the rounds."""
        return sum(of(findings) for findings in self.rounds)


def main() -> int:
    """Play the scenarios; 1 if anything is wrong."""
    asked = _arguments()
    print(f"seed {asked.seed}, {asked.rounds} rounds of {asked.runs} runs", flush=True)
    with ModelServer.start_in_thread() as model:
        model.answer = answering(seconds=ANSWER_SECONDS)
        outcomes = [_play(scenario, model, asked) for scenario in asked.scenario or SCENARIOS]
    print(f"\nseed {asked.seed}")
    for title, cells in _table(outcomes):
        print(f"{title:<48}" + "".join(f"{cell:>10}" for cell in cells))
    is_right = not any(
        outcome.total(lambda each: each.wrong) + outcome.lost_later for outcome in outcomes
    )
    print("all as promised" if is_right else "NOT as promised")
    return 0 if is_right else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make crash ARGS=…", description=__doc__)
    a_seed = random.randrange(10**6)
    parser.add_argument("--rounds", type=int, default=20, help="of each scenario (default: 20)")
    parser.add_argument("--runs", type=int, default=100, help="at once (default: 100)")
    parser.add_argument("--seed", type=int, default=a_seed, help="of an earlier play")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="one, or several")
    return parser.parse_args()


def _play(scenario: Scenario, model: ModelServer, asked: argparse.Namespace) -> Outcome:
    print(f"\n{TITLES[scenario]}", flush=True)
    started = time.monotonic()
    with place_of(scenario, model) as place:
        rounds, lost_later = asyncio.run(_rounds(scenario, place, asked))
        for traceback in sorted(place.tracebacks)[:MOST_SAID]:
            print(traceback)
    return Outcome(scenario, rounds, lost_later, time.monotonic() - started)


async def _rounds(
    scenario: Scenario, place: Place, asked: argparse.Namespace
) -> tuple[list[Findings], int]:
    application = Application(place.ports)
    await application.prepare()
    played: list[Findings] = []
    told: list[Notes] = []
    for number, plan in enumerate(plans(scenario, asked.seed, asked.rounds), 1):
        started = time.monotonic()
        findings, notes = await play(
            place, application, plan, name=f"r{number}", runs=asked.runs
        )  # fmt: skip
        played.append(findings)
        place.look_at_logs()
        told += notes
        print(
            f"  {number:>2}: {findings.under_way} runs under way, down for {plan.down_for:.1f} s, "
            f"{findings.writes} writes, {findings.resumed} streams broken, "
            f"{findings.wrong} wrong, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        for line in findings.said[:MOST_SAID]:
            print(f"      {line}", flush=True)
    for refusal in application.refusals[:MOST_SAID]:
        print(f"  refused: {refusal}", flush=True)
    await application.close()
    return played, await asyncio.to_thread(_lost_later, place, told)


def _lost_later(place: Place, told: Sequence[Notes]) -> int:
    """How much of what was told in all rounds the database has no more."""
    server = place.servers[0]
    threads = {row[0] for row in server.ask("SELECT id FROM threads")}
    messages = {row[0] for row in server.ask("SELECT id FROM messages")}
    lost = sum(bool(each.thread_id) and each.thread_id not in threads for each in told)
    return lost + sum(len(each.messages.keys() - each.unsure - messages) for each in told)


def _table(outcomes: Sequence[Outcome]) -> list[tuple[str, list[str]]]:
    def row(title: str, of: Callable[[Findings], int]) -> tuple[str, list[str]]:
        return title, [str(outcome.total(of)) for outcome in outcomes]

    def ends(outcome: Outcome) -> list[float]:
        return [s for findings in outcome.rounds for s in findings.end_seconds] or [0.0]

    given_up = [
        sum((findings.given_up for findings in outcome.rounds), Counter[str]())
        for outcome in outcomes
    ]
    kinds = sorted({kind for counter in given_up for kind in counter})
    return [
        ("", [outcome.scenario for outcome in outcomes]),
        ("rounds", [str(len(outcome.rounds)) for outcome in outcomes]),
        row("acknowledged writes", lambda each: each.writes),
        row("  lost (0)", lambda each: each.lost),
        ("  lost in a later round (0)", [str(outcome.lost_later) for outcome in outcomes]),
        row("runs", lambda each: each.runs),
        row("  under way at the crash", lambda each: each.under_way),
        row("  not ended 30 s after the crash (0)", lambda each: each.not_ended),
        row("  that ended, but not as completed (0)", lambda each: each.not_completed),
        row("messages, steps or runs that stand twice (0)", lambda each: each.twice),
        row("function calls asked for", lambda each: each.calls),
        row("  asked for twice (0)", lambda each: each.called_twice),
        row("streams broken and resumed", lambda each: each.resumed),
        row("  with a gap or a repeat (0)", lambda each: each.torn),
        *(
            (f"requests that the SDK gave up: {kind}", [str(each[kind]) for each in given_up])
            for kind in kinds
        ),
        ("from crash to a run's end, median s", [f"{median(ends(o)):.1f}" for o in outcomes]),
        ("  longest", [f"{max(ends(o)):.1f}" for o in outcomes]),
        ("minutes", [f"{outcome.seconds / 60:.1f}" for outcome in outcomes]),
    ]


if __name__ == "__main__":
    sys.exit(main())
