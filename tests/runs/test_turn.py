"""One model call, chunk by chunk: what the stock SDK makes of its events is what is stored.

Every shape that servers send goes through the SDK's own event handler, which crashes on what
it does not expect, and whose snapshots must equal the finished objects.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rethread.contract.chat import ChatUsage, Chunk
from rethread.contract.events import Event
from rethread.contract.messages import Message
from rethread.contract.runs import LastError, RunStatus, Usage
from rethread.contract.steps import FunctionCall, Step, calls_of
from rethread.errors import ModelError
from rethread.runs.calls import Offer
from rethread.runs.merging import merged
from rethread.runs.turn import Ending, Turn
from tests.fakes import replies
from tests.fakes.replies import Call, Reply
from tests.heard import PARIS, ROME, USAGE, Heard, feed, names
from tests.objects import NOW, a_run


def a_turn(**fields: Any) -> Turn:
    return Turn(a_run(status="in_progress", **fields), offer=Offer(frozenset({"weather"})))


def played(*answers: Reply) -> tuple[list[Event], Ending]:
    """All events of a turn that has these answers, one after the other, and its ending."""
    turn = a_turn()
    events = feed(turn, *answers)
    ending = turn.end(usage=turn.usage or USAGE, now=NOW)
    return [*events, *ending.events], ending


def messages_of(events: Sequence[Event]) -> list[Message]:
    """The messages at their end."""
    ended = ("thread.message.completed", "thread.message.incomplete")
    return [event.payload for event in events if event.name in ended]  # type: ignore[misc]


def text_of(message: Message) -> list[str]:
    return [getattr(part, "refusal", None) or part.text.value for part in message.content]  # type: ignore[union-attr]


def test_an_answer_in_words_has_the_events_of_the_wire() -> None:
    events, ending = played(replies.text("Hel", "lo"))
    assert names(events) == [
        "run.step.created",
        "run.step.in_progress",
        "message.created",
        "message.in_progress",
        "message.delta",
        "message.delta",
        "message.completed",
        "run.step.completed",
    ]
    assert ending.kind == "answered"
    heard = Heard(events)
    assert heard.said == "Hello"
    final = heard.get_final_messages()[0]
    assert final.to_dict() == json.loads(msgspec.json.encode(messages_of(events)[0]))
    assert heard.steps[0].usage.total_tokens == 12


def test_only_a_parts_first_delta_has_annotations() -> None:
    events, _ = played(replies.text("a", "b"))
    deltas = [json.loads(msgspec.json.encode(event.payload)) for event in events[4:6]]
    texts = [delta["delta"]["content"][0]["text"] for delta in deltas]
    assert texts == [{"value": "a", "annotations": []}, {"value": "b"}]


def test_an_empty_answer_is_an_empty_text() -> None:
    events, ending = played(replies.text())
    assert ending.kind == "answered"
    assert text_of(messages_of(events)[0]) == [""]
    assert Heard(events).said == ""


def test_blanks_around_calls_are_no_message() -> None:
    events, ending = played(replies.text("\n", "\n"), replies.tool_calls(PARIS), replies.text("\n"))
    assert messages_of(events) == []
    assert [call.id for call in ending.functions] == ["call_1"]


def test_blanks_in_front_of_words_stand_in_front_of_them() -> None:
    events, _ = played(replies.text("\n", " ", "Hello"))
    assert text_of(messages_of(events)[0]) == ["\n Hello"]


def test_an_answer_of_blanks_is_shown_as_it_is() -> None:
    events, _ = played(replies.text(" ", "\n"))
    assert text_of(messages_of(events)[0]) == [" \n"]


def test_a_refusal_is_refusal_content() -> None:
    events, _ = played(replies.refusal("I can", "not."))
    message = messages_of(events)[0]
    assert [part.__struct_config__.tag for part in message.content] == ["refusal"]
    assert Heard(events).get_final_messages()[0].content[0].refusal == "I cannot."  # type: ignore[union-attr]


def test_words_and_a_refusal_are_two_parts_in_the_order_in_which_they_began() -> None:
    events, _ = played(replies.refusal("No", " way"), replies.text(" but", " maybe"))
    message = messages_of(events)[0]
    assert text_of(message) == ["No way", " but maybe"]
    final = Heard(events).get_final_messages()[0]
    assert [part.type for part in final.content] == ["refusal", "text"]


@pytest.mark.parametrize("shape", ["standard", "no_index", "index_zero", "no_id", "whole"])
def test_calls_are_the_same_in_every_shape_that_servers_send(shape: replies.CallShape) -> None:
    events, ending = played(replies.tool_calls(PARIS, ROME, shape=shape))
    assert ending.kind == "called_tools"
    assert [call.function.arguments for call in ending.functions] == [
        PARIS.arguments,
        ROME.arguments,
    ]
    assert [call.function.name for call in ending.functions] == ["weather", "weather"]
    ids = [call.id for call in ending.functions]
    assert len(set(ids)) == 2
    if shape != "no_id":
        assert ids == ["call_1", "call_2"]
    heard = Heard(events)
    assert [(call.id, call.function.arguments) for call in heard.calls] == [
        (call.id, call.function.arguments) for call in ending.functions
    ]


def piece(**fields: Any) -> Chunk:
    """A chunk with one piece of a call."""
    choice = {"delta": {"tool_calls": [fields]}}
    return msgspec.convert({"choices": [choice]}, Chunk)


def called(*pieces: dict[str, Any]) -> tuple[list[Event], Ending]:
    """The turn that these pieces of calls make."""
    turn = a_turn()
    events = [event for fields in pieces for event in turn.feed(piece(**fields), now=NOW)]
    ending = turn.end(usage=USAGE, now=NOW)
    return [*events, *ending.events], ending


def test_an_id_and_a_name_are_sent_once_though_a_server_repeats_them() -> None:
    events, ending = called(
        {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": '{"a"'}},
        {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": ": 1}"}},
    )
    assert [(call.id, call.function.name) for call in ending.functions] == [("call_1", "weather")]
    assert Heard(events).calls[0].to_dict() == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"a": 1}', "output": None},
        "index": 0,
    }


def test_a_call_whose_id_changes_with_every_piece_is_one_call() -> None:
    _, ending = called(
        {"index": 0, "id": "a", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "id": "b", "function": {"arguments": '{"a"'}},
        {"index": 0, "id": "c", "function": {"arguments": ": 1}"}},
    )
    assert [(call.id, call.function.arguments) for call in ending.functions] == [("a", '{"a": 1}')]


def test_two_calls_with_the_same_id_get_ids_of_their_own() -> None:
    _, ending = called(
        {"index": 0, "id": "a", "function": {"name": "weather", "arguments": "{}"}},
        {"index": 1, "id": "a", "function": {"name": "weather", "arguments": "{}"}},
    )
    assert ending.functions[0].id == "a"
    assert ending.functions[1].id.startswith("call_")


def test_calls_whose_pieces_come_in_turns_are_told_apart() -> None:
    events, ending = called(
        {"index": 0, "id": "a", "function": {"name": "weather", "arguments": '{"n'}},
        {"index": 1, "id": "b", "function": {"name": "weather", "arguments": '{"m'}},
        {"index": 0, "function": {"arguments": '":0}'}},
        {"index": 1, "function": {"arguments": '":1}'}},
    )
    assert [call.function.arguments for call in ending.functions] == ['{"n":0}', '{"m":1}']
    assert [call.function.arguments for call in Heard(events).calls] == ['{"n":0}', '{"m":1}']


def test_a_call_whose_name_comes_late_is_announced_in_its_place() -> None:
    events, ending = called(
        {"index": 0, "id": "a", "function": {"arguments": "{"}},
        {"index": 1, "id": "b", "function": {"name": "weather", "arguments": "{}"}},
        {"index": 0, "function": {"name": "weather", "arguments": "}"}},
    )
    assert [call.id for call in ending.functions] == ["a", "b"]
    heard = [(call.id, call.function.arguments) for call in Heard(events).calls]
    assert heard == [("a", "{}"), ("b", "{}")]


def test_no_arguments_are_an_empty_object() -> None:
    events, ending = called({"index": 0, "id": "a", "function": {"name": "weather"}})
    assert ending.functions[0].function.arguments == "{}"
    assert Heard(events).calls[0].function.arguments == "{}"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("a", "delete_all", "{}"), "function 'delete_all', which this run does not offer"),
        (Call("a", "weather", '{"city": '), "with arguments that are not JSON"),
        (Call("a", "weather", "[" * 20_000), "with arguments that are not JSON"),
    ],
)
def test_a_call_that_cannot_be_handed_on_is_an_error_and_can_be_closed(
    call: Call, words: str
) -> None:
    turn = a_turn()
    events = feed(turn, replies.tool_calls(call))
    with pytest.raises(ModelError, match=words):
        turn.end(usage=USAGE, now=NOW)
    closing = turn.abandon("failed", LastError("server_error", "why"), now=NOW)
    assert names(closing) == ["run.step.failed"]
    heard = Heard([*events, *closing])
    assert heard.steps[0].last_error.message == "why"


def test_a_call_without_a_name_is_not_offered() -> None:
    with pytest.raises(ModelError, match="function ''"):
        called({"index": 0, "id": "a", "function": {"arguments": "{}"}})


def test_words_behind_a_call_that_cannot_be_made_end_with_the_run() -> None:
    turn = a_turn()
    events = feed(turn, replies.tool_calls(Call("call_a", "weather", "{")), replies.text("So?"))
    with pytest.raises(ModelError, match="not JSON"):
        turn.end(usage=USAGE, now=NOW)
    closing = turn.abandon("failed", LastError("server_error", "No."), now=NOW)
    assert names(closing) == ["message.incomplete", "run.step.failed", "run.step.failed"]
    Heard([*events, *closing])


def test_words_before_calls_are_a_message_of_their_own() -> None:
    events, ending = played(replies.text("Let me look."), replies.tool_calls(PARIS))
    completed = names(events).index("message.completed")
    assert names(events)[completed : completed + 4] == [
        "message.completed",
        "run.step.completed",
        "run.step.created",
        "run.step.in_progress",
    ]
    assert ending.step is not None
    assert ending.step.usage is not None
    heard = Heard(events)
    assert (heard.said, len(heard.calls)) == ("Let me look.", 1)
    assert heard.steps[0].usage is None  # the turn's usage is counted once, on its last step


def test_words_after_calls_are_a_message_and_the_calls_are_handed_on() -> None:
    events, ending = played(replies.tool_calls(PARIS), replies.text("Looking…"))
    assert ending.kind == "called_tools"
    assert len(ending.functions) == 1
    assert text_of(messages_of(events)[0]) == ["Looking…"]
    assert Heard(events).said == "Looking…"


def test_words_on_both_sides_of_calls_are_two_messages() -> None:
    events, _ = played(replies.text("a"), replies.tool_calls(PARIS), replies.text("b", "c"))
    assert [text_of(message) for message in messages_of(events)] == [["a"], ["bc"]]
    heard = Heard(events)
    assert [m.content[0].text.value for m in heard.get_final_messages()] == ["a", "bc"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("finish_reason", "kind", "reason"),
    [("length", "length", "max_tokens"), ("content_filter", "content_filter", "content_filter")],
)
def test_an_answer_that_was_cut_is_incomplete_and_its_step_completed(
    finish_reason: str, kind: str, reason: str
) -> None:
    for pieces in ((), ("half",)):
        events, ending = played(replies.text(*pieces, finish_reason=finish_reason))
        assert ending.kind == kind
        message = messages_of(events)[0]
        assert message.incomplete_details is not None
        assert (message.status, message.incomplete_details.reason) == ("incomplete", reason)
        assert names(events)[-2:] == ["message.incomplete", "run.step.completed"]
        assert Heard(events).said == "".join(pieces)


def test_a_call_that_was_cut_is_a_failed_step() -> None:
    events, ending = played(replies.text("Well"), replies.tool_calls(PARIS, finish_reason="length"))
    assert (ending.kind, ending.functions) == ("length", [])
    assert names(events)[-1] == "run.step.failed"
    assert len(Heard(events).steps) == 2


@pytest.mark.parametrize(
    ("status", "step", "reason"),
    [
        ("cancelled", "cancelled", "run_cancelled"),
        ("expired", "expired", "run_expired"),
        ("failed", "failed", "run_failed"),
    ],
)
def test_an_abandoned_turn_closes_what_is_open_as_the_run_ends(
    status: RunStatus, step: str, reason: str
) -> None:
    turn = a_turn()
    events = feed(turn, replies.tool_calls(PARIS), replies.text("hal"))
    closing = turn.abandon(status, None, now=NOW)
    assert names(closing) == ["message.incomplete", *[f"run.step.{step}"] * 2]
    message = messages_of(closing)[0]
    assert message.incomplete_details is not None
    assert (message.incomplete_details.reason, text_of(message)) == (reason, ["hal"])
    calls = closing[-1].payload
    assert isinstance(calls, Step)
    (call,) = calls_of(calls)
    assert isinstance(call, FunctionCall)
    assert call.function.arguments == PARIS.arguments
    Heard([*events, *closing])
    assert turn.abandon(status, None, now=NOW) == []


def test_a_turn_in_which_nothing_came_leaves_nothing_open() -> None:
    assert a_turn().abandon("cancelled", None, now=NOW) == []


def test_usage_is_what_the_server_says_wherever_it_says_it() -> None:
    turn = a_turn()
    turn.feed(Chunk(usage=ChatUsage(prompt_tokens=3, completion_tokens=None)), now=NOW)
    assert turn.usage == Usage(prompt_tokens=3, completion_tokens=0, total_tokens=3)
    feed(turn, replies.text("a", "b"))
    assert turn.usage == Usage(prompt_tokens=10, completion_tokens=2, total_tokens=12)


def test_everything_that_was_written_can_be_counted() -> None:
    turn = a_turn()
    feed(turn, replies.text("Well, "), replies.refusal("no"), replies.tool_calls(PARIS))
    assert turn.written == f"Well, noweather{PARIS.arguments}"


pieces = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.text(max_size=3)),
        st.tuples(st.just("refusal"), st.text(max_size=3)),
        st.tuples(st.just("call"), st.sampled_from([PARIS, ROME])),
    ),
    max_size=8,
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(said=pieces, finish_reason=st.sampled_from(["stop", "length", "tool_calls"]))
def test_whatever_a_model_says_in_whatever_order_the_sdk_ends_with_what_is_stored(
    said: list[tuple[str, Any]], finish_reason: str
) -> None:
    answers = [
        replies.tool_calls(value._replace(id=f"call_{place}"), finish_reason=finish_reason)
        if kind == "call"
        else getattr(replies, kind)(value)
        for place, (kind, value) in enumerate(said)
    ]
    events, _ = played(*answers, replies.text(finish_reason=finish_reason))
    stored = messages_of(events)
    for shown in (events, merged(events)):
        heard = Heard(shown)
        if stored:
            finals = [message.to_dict() for message in heard.get_final_messages()]
            assert finals == [json.loads(msgspec.json.encode(message)) for message in stored]
        calls = {call.id for call in heard.calls}
        assert len(calls) == sum(kind == "call" for kind, _ in said)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(texts=st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=20))
def test_merged_deltas_say_the_same(texts: list[str]) -> None:
    events, _ = played(replies.text(*texts))
    joined = merged(events)
    assert names(joined).count("message.delta") == 1
    assert Heard(joined).said == Heard(events).said == "".join(texts)
    first = json.loads(msgspec.json.encode(joined[4].payload))
    assert first["delta"]["content"][0]["text"]["annotations"] == []
