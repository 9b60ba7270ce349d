"""Stream events: their bytes, read back by the rules of server-sent events."""

import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rethread.contract.events import (
    KEEP_ALIVE,
    RESTING,
    Event,
    EventName,
    render,
    render_done,
    rendered_name,
    rendered_number,
)
from rethread.contract.messages import MessageChange, MessageDelta, TextDelta, TextPartDelta
from rethread.runs.lifecycle import AT_REST
from rethread.runs.recorder import RUN_EVENTS
from rethread.runs.turn import STEP_EVENTS
from tests.objects import a_run


def a_delta(text: str) -> Event:
    change = MessageChange([TextPartDelta(0, TextDelta(text))])
    return Event("thread.message.delta", MessageDelta(id="msg_a", delta=change))


def parsed(stream: bytes) -> list[dict[str, str]]:
    """The records of a stream, by the standard's rules: any of its three line ends counts."""
    lines = stream.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    records: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in lines:
        if not line and fields:
            records.append(fields)
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(":")
            assert name not in fields
            fields[name] = value.removeprefix(" ")
    assert not fields
    return records


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    text=st.text(alphabet=st.characters(exclude_categories=["Cs"])), number=st.integers(1, 2**40)
)
def test_whatever_was_said_an_event_is_one_record(text: str, number: int) -> None:
    record = render(a_delta(text), number)
    assert record.count(b"\n") == 4
    assert record.endswith(b"\n\n")
    (fields,) = parsed(record)
    assert (fields["id"], fields["event"]) == (str(number), "thread.message.delta")
    delta = json.loads(fields["data"])
    assert delta["delta"]["content"][0]["text"]["value"] == text
    assert (rendered_number(record), rendered_name(record)) == (number, "thread.message.delta")


@pytest.mark.parametrize("text", ["\n\nid: 9\nevent: x\ndata: y\n\n", "\r\n\r\n", "\u2028\x85\0"])
def test_a_text_cannot_break_out_of_its_record(text: str) -> None:
    assert len(parsed(render(a_delta(text), 1) + render(a_delta(text), 2))) == 2


def test_a_stream_ends_with_done_under_the_last_number() -> None:
    stream = render(a_delta("a"), 7) + render_done(7)
    assert parsed(stream)[1] == {"id": "7", "event": "done", "data": "[DONE]"}


def test_a_keep_alive_is_a_comment_that_ends_no_record() -> None:
    """With an empty line behind it, stock SDKs crash on the empty record."""
    assert KEEP_ALIVE.startswith(b":")
    assert KEEP_ALIVE.count(b"\n") == 1
    assert KEEP_ALIVE.endswith(b"\n")
    stream = KEEP_ALIVE + render(a_delta("a"), 1) + KEEP_ALIVE + KEEP_ALIVE + render_done(1)
    assert len(parsed(stream)) == 2


def test_the_events_after_which_nothing_comes_are_those_of_a_run_at_rest() -> None:
    assert {f"thread.run.{status}" for status in AT_REST} == RESTING
    assert set(get_args(EventName)) > RESTING


def test_every_status_has_its_event() -> None:
    names = {*RUN_EVENTS.values(), *STEP_EVENTS.values()}
    assert names < set(get_args(EventName))
    for status, name in RUN_EVENTS.items():
        assert name == f"thread.run.{status}"
        assert rendered_name(render(Event(name, a_run(status=status)), 1)) == name
    for step_status, name in STEP_EVENTS.items():
        assert name == f"thread.run.step.{step_status}"
