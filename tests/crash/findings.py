"""What a round has left behind, held against what clients were told."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from tests.crash.application import Conversation, Notes
from tests.crash.model import pieces_about

ENDED_WITHIN_SECONDS: Final = 30.0
REQUIRES_ACTION: Final = b"\nevent: thread.run.requires_action\n"
DONE: Final = re.compile(rb"id: \d+\nevent: done\ndata: \[DONE\]\n\n")


@dataclass
class Findings:
    """Counts; those that must be 0 are in `wrong`, and `said` tells of each in words."""

    writes: int = 0
    runs: int = 0
    under_way: int = 0  # runs, at the crash
    calls: int = 0
    resumed: int = 0
    lost: int = 0
    not_ended: int = 0
    not_completed: int = 0
    twice: int = 0
    called_twice: int = 0
    torn: int = 0
    given_up: Counter[str] = field(default_factory=Counter)
    end_seconds: list[float] = field(default_factory=list)  # from the crash to a run's end
    said: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """How much there is that must not be."""
        counts = (self.lost, self.not_ended, self.not_completed, self.twice, self.called_twice)
        return sum(counts) + self.torn

    def note(self, what: str, where: str, *, is_wrong: bool = True) -> int:
        """1 if something is wrong, which is written down."""
        if is_wrong:
            self.said.append(f"{where}: {what}")
        return int(is_wrong)


class Reader:
    """Reads what the servers have now."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def get(self, path: str, **parameters: Any) -> httpx2.Response:
        """The answer to a GET."""
        return await self._http.get(path, params=parameters)

    async def all_of(self, path: str) -> list[Any]:
        """Every object of a list, oldest first."""
        found: list[Any] = []
        has_more = True
        while has_more:
            after = {"after": found[-1]["id"]} if found else {}
            page = (await self.get(path, limit=100, order="asc", **after)).raise_for_status().json()
            found += page["data"]
            has_more = page["has_more"]
        return found


async def check_notes(findings: Findings, reader: Reader, notes: Notes) -> list[Any]:
    """Whether all that was acknowledged of a thread stands there, once; its messages."""
    findings.writes += notes.count
    if not notes.thread_id:
        return []
    answer = await reader.get(f"/threads/{notes.thread_id}")
    if answer.status_code != 200:
        findings.lost += findings.note(f"thread is gone: {answer.status_code}", notes.thread_id)
        return []
    number = int(answer.json()["metadata"].get("number", -1))
    findings.lost += findings.note(
        f"metadata are {number}, not {notes.metadata}",
        notes.thread_id,
        is_wrong=number < notes.metadata,
    )
    messages = await reader.all_of(f"/threads/{notes.thread_id}/messages")
    texts = {message["id"]: text_of(message) for message in messages}
    for message_id, text in notes.messages.items():
        is_there, is_right = message_id in texts, texts.get(message_id) == text
        if message_id in notes.deleted:
            is_lost = is_there
        else:
            is_lost = not is_right and (is_there or message_id not in notes.unsure)
        findings.lost += findings.note(
            f"{message_id} is {texts.get(message_id)!r}", notes.thread_id, is_wrong=is_lost
        )
    for text, count in repeated(text_of(m) for m in messages if m["role"] == "user"):
        findings.twice += findings.note(f"{text!r} stands {count} times", notes.thread_id)
    return messages


async def check_conversation(
    findings: Findings, reader: Reader, conversation: Conversation, *, crashed_at: float
) -> None:
    """Whether a run has ended in time and well, and was heard without a gap."""
    notes, heard = conversation.notes, conversation.heard
    where = f"{notes.thread_id} {heard.run_id}"
    messages = await check_notes(findings, reader, notes)
    findings.resumed += conversation.breaks
    findings.torn += sum(findings.note(fault, where) for fault in heard.faults)
    if heard.ended_at is None or heard.ended_at > crashed_at + ENDED_WITHIN_SECONDS:
        findings.not_ended += findings.note(f"ended at {heard.ended_at}", where)
    findings.runs += bool(heard.run_id)
    if heard.ended_at is None:  # a replay would go on as long as the run
        return
    if heard.ended_at > crashed_at:
        findings.end_seconds.append(heard.ended_at - crashed_at)
    path = f"/threads/{notes.thread_id}/runs"
    replay = DONE.sub(b"", (await reader.get(f"{path}/{heard.run_id}/events")).content)
    findings.torn += findings.note(
        f"heard {len(heard.raw)} bytes until {heard.last}, replayed {len(replay)}",
        where,
        is_wrong=replay != heard.raw,
    )
    runs = await reader.all_of(path)
    findings.twice += findings.note(f"{len(runs)} runs", where, is_wrong=len(runs) != 1)
    status = {run["id"]: run["status"] for run in runs}.get(heard.run_id)
    findings.not_completed += findings.note(f"is {status}", where, is_wrong=status != "completed")
    _check_answer(findings, conversation, messages, where)
    await _check_steps(findings, reader, conversation, replay, where)


def _check_answer(
    findings: Findings, conversation: Conversation, messages: list[Any], where: str
) -> None:
    """One whole answer, and of each that was broken off a beginning."""
    said = [m for m in messages if m["role"] == "assistant"]
    answers = [text_of(m) for m in said if m["status"] == "completed"]
    expected = "".join(pieces_about(conversation.newest_name))
    beginnings = [answer[:40] for answer in answers]
    findings.lost += findings.note(
        f"answers: {beginnings}",
        where,
        is_wrong=expected not in answers,
    )
    findings.twice += findings.note(f"answers: {beginnings}", where, is_wrong=len(answers) > 1)
    for message in said:
        is_whole = message["status"] in ("completed", "incomplete")
        findings.lost += findings.note(
            f"{message['id']} is {message['status']} with {text_of(message)[-40:]!r}",
            where,
            is_wrong=not is_whole or not expected.startswith(text_of(message)),
        )


async def _check_steps(
    findings: Findings, reader: Reader, conversation: Conversation, replay: bytes, where: str
) -> None:
    """One completed step of each kind; the function was asked for once, and has its output."""
    thread_id, run_id = conversation.notes.thread_id, conversation.heard.run_id
    steps = await reader.all_of(f"/threads/{thread_id}/runs/{run_id}/steps")
    completed = [step for step in steps if step["status"] == "completed"]
    for kind, count in repeated(step["type"] for step in completed):
        findings.twice += findings.note(f"{count} steps of {kind}", where)
    asked = replay.count(REQUIRES_ACTION)
    findings.calls += asked
    findings.called_twice += findings.note(
        f"asked for a function {asked} times", where, is_wrong=asked > conversation.has_function
    )
    outputs = {
        call["id"]: call["function"]["output"]
        for step in completed
        if step["type"] == "tool_calls"
        for call in step["step_details"]["tool_calls"]
    }
    for call_id, output in conversation.notes.outputs.items():
        findings.lost += findings.note(
            f"{call_id} has {outputs.get(call_id)!r}",
            where,
            is_wrong=outputs.get(call_id) != output,
        )


def repeated(things: Iterable[str]) -> list[tuple[str, int]]:
    """Those that are there more than once, and how often."""
    return [(thing, count) for thing, count in Counter(things).items() if count > 1]


def text_of(message: Any) -> str:
    """A message's text."""
    return "".join(part["text"]["value"] for part in message["content"])
