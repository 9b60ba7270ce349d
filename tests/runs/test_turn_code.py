"""A turn that runs code: what the stock SDK makes of its events is what is stored."""

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from rethread.contract.events import Event
from rethread.contract.messages import Message
from rethread.contract.steps import (
    CodeInterpreterCall,
    CodeOutputDelta,
    ImageOutputDelta,
    LogsOutputDelta,
    MadeFile,
    OutputImage,
    Step,
    calls_of,
    shown,
)
from rethread.runs.calls import Offer
from rethread.runs.lifecycle import end_step
from rethread.runs.merging import LONGEST_JOINED, merged
from rethread.runs.turn import Turn, step_event
from rethread.runs.writing import Known
from rethread.tools.code_interpreter.tool import TOO_MANY_CALLS
from rethread.tools.code_interpreter.written import NO_CODE
from tests.fakes import replies
from tests.fakes.replies import Call, Reply
from tests.heard import PARIS, USAGE, Heard, feed, names
from tests.objects import NOW, a_run

OFFER: Final = Offer(frozenset({"weather"}), "file_search", code="code_interpreter")
KNOWN: Final = Known({"【0:0†a.md】": "file-a"}, {"x.csv": "file-x", "my é.png": "file-e"})
LINK: Final = "sandbox:/mnt/data/x.csv"


class Watched(Heard):
    """The stock handler; what it called us with of calls and images."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.deltas: list[tuple[int, Any]] = []
        self.created: list[str] = []
        self.images: list[str] = []
        super().__init__(events)

    def on_tool_call_created(self, tool_call: Any) -> None:
        """Keep which calls begin."""
        self.created.append(tool_call.id)

    def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        """Keep what is told of code."""
        if delta.type == "code_interpreter" and delta.code_interpreter:
            self.deltas.append((delta.index, delta.code_interpreter))

    def on_image_file_done(self, image_file: Any) -> None:
        """Keep the images."""
        self.images.append(image_file.file_id)


def a_turn(*, left: int = 20, images: Sequence[str] = ()) -> Turn:
    offer = OFFER._replace(code_calls_left=left)
    return Turn(a_run(status="in_progress"), offer=offer, known=KNOWN, images=images)


def code(text: str, id: str = "call_c") -> Call:
    return Call(id, "code_interpreter", json.dumps({"code": text}))


def logs(index: int, text: str) -> LogsOutputDelta:
    return LogsOutputDelta(index, text)


def image(index: int, file_id: str) -> ImageOutputDelta:
    return ImageOutputDelta(index, OutputImage(file_id))


def ran(
    answer: Reply, *outputs: Sequence[CodeOutputDelta], left: int = 20
) -> tuple[list[Event], Step]:
    """The events of an answer and of its code that puts these out, and its step at the end."""
    turn = a_turn(left=left)
    events = feed(turn, answer)
    ending = turn.end(usage=USAGE, now=NOW)
    events += ending.events
    codes = [call for call in ending.ours if isinstance(call, CodeInterpreterCall)]
    for call, coming in zip(codes, outputs, strict=True):
        for output in coming:
            events += turn.put_out(call.id, output)
    assert turn.step is not None
    step = end_step(turn.step, "completed", now=NOW)
    return [*events, step_event(step)], step


def said(*pieces: str, images: Sequence[str] = ()) -> tuple[list[Event], Message]:
    """The events of an answer in words that begins with images, and its message."""
    turn = a_turn(images=images)
    events = feed(turn, replies.text(*pieces)) + turn.end(usage=USAGE, now=NOW).events
    [message] = [event.payload for event in events if event.name == "thread.message.completed"]
    assert isinstance(message, Message)
    return events, message


def as_json(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


def snapshots(heard: Heard) -> list[Any]:
    """The calls as the SDK has put them together, without the places that it adds."""

    def placeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: placeless(each) for key, each in value.items() if key != "index"}
        return [placeless(each) for each in value] if isinstance(value, list) else value

    return [placeless(call.to_dict()) for call in heard.calls]


def test_code_is_streamed_as_it_is_written_and_what_comes_out_as_it_comes() -> None:
    arguments = ['{"co', 'de": "pr', "int(1)", '\\n"}']
    reply = replies.tool_calls(Call("call_c", "code_interpreter", arguments[0]))
    turn = a_turn()
    events = feed(turn, reply)
    for piece in arguments[1:]:
        call = {"index": 0, "function": {"arguments": piece}}
        events += feed(turn, replies.raw(replies.chunk({"tool_calls": [call]})))
    assert names(events) == ["run.step.created", "run.step.in_progress", *["run.step.delta"] * 4]
    changes = [as_json(event.payload)["delta"]["step_details"] for event in events[2:]]
    [first, *more] = [change["tool_calls"][0] for change in changes]
    assert first.pop("id").startswith("call_")
    assert first == {
        "index": 0,
        "type": "code_interpreter",
        "code_interpreter": {"input": "", "outputs": []},
    }
    assert [each["code_interpreter"] for each in more] == [
        {"input": "pr"},
        {"input": "int(1)"},
        {"input": "\n"},
    ]
    assert not any("id" in each for each in more)
    [call_made] = turn.end(usage=USAGE, now=NOW).ours
    assert isinstance(call_made, CodeInterpreterCall)
    [put_out] = turn.put_out(call_made.id, logs(0, "1\n"))
    [delta] = as_json(put_out.payload)["delta"]["step_details"]["tool_calls"]
    assert delta == {
        "index": 0,
        "type": "code_interpreter",
        "code_interpreter": {"outputs": [{"index": 0, "type": "logs", "logs": "1\n"}]},
    }


OUTPUTS = st.lists(
    st.one_of(st.text(min_size=1, max_size=8), st.just(None)), max_size=8
)  # of one call: more text, or an image


def placed(outputs: Sequence[str | None]) -> list[CodeOutputDelta]:
    """The outputs at their places: text that follows text is more of it."""
    deltas: list[CodeOutputDelta] = []
    place, before = -1, None
    for count, text in enumerate(outputs):
        place += text is None or before is None
        deltas.append(image(place, f"file-{count}") if text is None else logs(place, text))
        before = text
    return deltas


@settings(derandomize=True, deadline=None, max_examples=30)
@given(calls=st.lists(st.tuples(st.text(min_size=1, max_size=20), OUTPUTS), min_size=1, max_size=3))
def test_what_was_streamed_is_what_is_finished(calls: list[tuple[str, list[str | None]]]) -> None:
    made = [code(f"x = 1{text}", f"call_{place}") for place, (text, _) in enumerate(calls)]
    reply = replies.tool_calls(made[0], PARIS, *made[1:])
    events, step = ran(reply, *(placed(outputs) for _, outputs in calls))
    finished = as_json(shown(step))["step_details"]["tool_calls"]
    for each in (events, merged(events)):
        assert snapshots(Watched(each)) == finished


def test_every_output_is_heard_also_of_the_first_of_several_calls() -> None:
    reply = replies.tool_calls(code("a"), PARIS, code("b", "call_d"))
    events, step = ran(reply, [logs(0, "A"), image(1, "file-1")], [logs(0, "B")])
    heard = Watched(events)
    put_out = [
        (index, output.logs if output.type == "logs" else output.image.file_id)
        for index, told in heard.deltas
        for output in told.outputs or []
    ]
    assert put_out == [(0, "A"), (0, "file-1"), (2, "B")]
    assert set(heard.created) == {call.id for call in calls_of(step)}


def test_many_small_prints_go_out_as_one_and_none_too_long() -> None:
    events, _ = ran(replies.tool_calls(code("a")), [logs(0, "12345678")] * 5000)
    sent = [as_json(event.payload) for event in merged(events) if event.name.endswith("step.delta")]
    told = [each["delta"]["step_details"]["tool_calls"][0]["code_interpreter"] for each in sent]
    lengths = [len(each["outputs"][0]["logs"]) for each in told if each.get("outputs")]
    assert (sum(lengths), max(lengths), len(lengths)) == (40_000, LONGEST_JOINED, 3)


def test_code_that_cannot_be_run_says_why_to_the_model_and_not_to_the_client() -> None:
    calls = [
        Call("call_1", "code_interpreter", '{"code": "print(1)'),
        Call("call_2", "code_interpreter", ""),
        code("print(3)", "call_3"),
        code("print(4)", "call_4"),
    ]
    events, step = ran(replies.tool_calls(*calls), [], [], [], [], left=3)
    made = [call.code_interpreter for call in calls_of(step) if hasattr(call, "code_interpreter")]
    assert [each.input for each in made] == ["print(1)", "", "print(3)", "print(4)"]
    assert made[0].note.startswith("The code was not run: the arguments of the call are not JSON")
    assert [each.note for each in made[1:]] == [NO_CODE, "", TOO_MANY_CALLS]
    assert snapshots(Watched(events)) == as_json(shown(step))["step_details"]["tool_calls"]


@pytest.mark.parametrize("status", ["cancelled", "expired", "failed"])
def test_what_was_printed_is_kept_by_a_turn_that_is_abandoned(status: Any) -> None:
    turn = a_turn()
    feed(turn, replies.tool_calls(code("a")))
    [call] = turn.end(usage=USAGE, now=NOW).ours
    turn.put_out(call.id, logs(0, "half"))
    [closing] = turn.abandon(status, None, now=NOW)
    assert isinstance(closing.payload, Step)
    assert closing.payload.status == status
    [kept] = as_json(closing.payload)["step_details"]["tool_calls"]
    assert kept["code_interpreter"] == {"input": "a", "outputs": [{"type": "logs", "logs": "half"}]}


def test_what_is_stored_of_code_is_not_all_shown() -> None:
    _, step = ran(replies.tool_calls(code("a")), [image(0, "file-1")])
    [call] = calls_of(step)
    assert isinstance(call, CodeInterpreterCall)
    stored = structs.replace(
        call.code_interpreter, made=[MadeFile("x", "file-x")], note="n", told_characters=5
    )
    details = structs.replace(
        step.step_details, tool_calls=[structs.replace(call, code_interpreter=stored)]
    )
    seen = as_json(shown(structs.replace(step, step_details=details)))
    assert seen == as_json(step)


def test_an_answer_begins_with_the_images_and_its_text_follows() -> None:
    events, message = said("Two ", "charts.", images=["file-1", "file-2"])
    assert as_json(message.content) == [
        {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}},
        {"type": "image_file", "image_file": {"file_id": "file-2", "detail": "auto"}},
        {"type": "text", "text": {"value": "Two charts.", "annotations": []}},
    ]
    for each in (events, merged(events)):
        heard = Watched(each)
        assert (heard.said, heard.images) == ("Two charts.", ["file-1", "file-2"])
        [final] = heard.get_final_messages()
        assert final.to_dict()["content"] == as_json(message.content)


@pytest.mark.parametrize("pieces", [[], ["\n"]])
def test_an_answer_of_nothing_but_images_has_no_text(pieces: list[str]) -> None:
    events, message = said(*pieces, images=["file-1"])
    assert [part.__struct_config__.tag for part in message.content] == ["image_file"]
    assert Watched(events).images == ["file-1"]


def test_the_first_message_shows_the_images_and_the_calls_behind_it_have_none() -> None:
    turn = a_turn(images=["file-1"])
    events = feed(turn, replies.text("See:"), replies.tool_calls(code("a")))
    assert turn.images == ()
    assert Watched(events).images == ["file-1"]
    silent = a_turn(images=["file-1"])
    feed(silent, replies.tool_calls(code("a")))
    assert silent.images == ["file-1"]


def test_an_image_of_a_message_that_is_cut_stays_in_it() -> None:
    turn = a_turn(images=["file-1"])
    events = feed(turn, replies.text("See sandbox:/mnt"))
    events += turn.abandon("failed", None, now=NOW)
    [final] = Watched(events).get_final_messages()
    assert [part.type for part in final.content] == ["image_file", "text"]
    assert final.status == "incomplete"


def test_a_link_to_a_file_is_annotated_at_its_place_in_characters() -> None:
    quoted = "sandbox:/mnt/data/my%20%C3%A9.png"
    text = f"🎉 [x]({LINK}), [é]({quoted})【0:0†a.md】 [no](sandbox:/mnt/data/no)"
    events, message = said(*text, images=["file-1"])
    [_, part] = as_json(message.content)
    assert part["text"]["value"] == text
    assert [
        (each["type"], each["text"], each.get("file_path", each.get("file_citation")))
        for each in part["text"]["annotations"]
    ] == [
        ("file_path", LINK, {"file_id": "file-x"}),
        ("file_path", quoted, {"file_id": "file-e"}),
        ("file_citation", "【0:0†a.md】", {"file_id": "file-a"}),
    ]
    for each in part["text"]["annotations"]:
        assert text[each["start_index"] : each["end_index"]] == each["text"]
    deltas = [as_json(event.payload)["delta"] for event in events if "message.delta" in event.name]
    streamed = [delta["content"][0] for delta in deltas if "text" in delta["content"][0]]
    [linked, *_] = [each for each in streamed if each["text"].get("annotations")]
    assert linked["text"] == {
        "value": LINK,
        "annotations": [{"index": 0, **part["text"]["annotations"][0]}],
    }
    [final] = Watched(merged(events)).get_final_messages()
    got = final.to_dict()["content"][1]["text"]["annotations"]  # type: ignore[index]
    assert [each["text"] for each in got] == [each["text"] for each in part["text"]["annotations"]]
