"""A turn that searches or cites: what the stock SDK makes of its events is what is stored."""

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rethread.contract.events import Event
from rethread.contract.messages import Message, TextPart
from rethread.contract.steps import (
    FileSearchCall,
    FunctionCall,
    SearchRanking,
    Step,
    calls_of,
    shown,
)
from rethread.runs.calls import Offer
from rethread.runs.merging import merged
from rethread.runs.turn import Ending, Turn
from rethread.runs.writing import Known
from tests.fakes import replies
from tests.fakes.replies import Call, Reply
from tests.heard import PARIS, USAGE, Heard, feed, names
from tests.objects import NOW, a_run

RANKING: Final = SearchRanking(ranker="auto", score_threshold=0.5)
OFFER: Final = Offer(frozenset({"weather"}), "file_search", RANKING, searches_before=3)
SWALLOWS: Final = Call("call_s", "file_search", '{"queries": ["swallows", "when?"]}')
MARKS: Final = {"【3:0†birds.md】": "file-birds", "【3:1†🐦 list.md】": "file-list"}


def a_turn(**fields: Any) -> Turn:
    return Turn(a_run(status="in_progress", **fields), offer=OFFER, known=Known(MARKS))


def played(*answers: Reply) -> tuple[list[Event], Ending]:
    """All events of a turn that has these answers, one after the other, and its ending."""
    turn = a_turn()
    events = feed(turn, *answers)
    ending = turn.end(usage=turn.usage or USAGE, now=NOW)
    return [*events, *ending.events], ending


def searches_of(ending: Ending) -> list[FileSearchCall]:
    """The searches that are to be made."""
    return [call for call in ending.ours if isinstance(call, FileSearchCall)]


def message_of(events: Sequence[Event]) -> Message:
    """The message at its end."""
    [message] = [event.payload for event in events if event.name == "thread.message.completed"]
    assert isinstance(message, Message)
    return message


def test_a_search_is_announced_once_and_its_words_are_not_streamed() -> None:
    events, ending = played(replies.tool_calls(SWALLOWS))
    assert names(events) == ["run.step.created", "run.step.in_progress", "run.step.delta"]
    (delta,) = json.loads(msgspec.json.encode(events[-1].payload))["delta"]["step_details"][
        "tool_calls"
    ]
    (search,) = searches_of(ending)
    assert delta == {
        "type": "file_search",
        "index": 0,
        "id": search.id,
        "file_search": {
            "ranking_options": {"ranker": "auto", "score_threshold": 0.5},
            "results": [],
        },
    }
    assert search.id != SWALLOWS.id
    assert search.file_search.queries == ["swallows", "when?"]
    assert (search.file_search.turn, ending.functions, ending.kind) == (3, [], "called_tools")
    assert Heard(events).calls[0].type == "file_search"


def test_searches_and_functions_of_one_answer_are_told_apart_in_their_order() -> None:
    again = Call("call_t", "file_search", '{"queries": "one text"}')
    events, ending = played(replies.tool_calls(PARIS, SWALLOWS, again))
    assert [call.file_search.turn for call in searches_of(ending)] == [3, 4]
    assert searches_of(ending)[1].file_search.queries == ["one text"]
    assert [call.id for call in ending.functions] == [PARIS.id]
    heard = Heard(events).calls
    assert [call.type for call in heard] == ["function", "file_search", "file_search"]
    assert heard[0].function.arguments == PARIS.arguments
    assert ending.step is not None
    assert [call.id for call in heard] == [call.id for call in calls_of(ending.step)]


def test_a_search_without_words_is_made_and_says_so_instead_of_failing_the_run() -> None:
    for arguments in ("", "{", "[]", '{"queries": 5}', '{"queries": ["", 1, null]}', "{}"):
        _, ending = played(replies.tool_calls(Call("c", "file_search", arguments)))
        assert searches_of(ending)[0].file_search.queries == []


def test_what_a_search_has_found_is_kept_by_a_turn_that_is_abandoned() -> None:
    turn = a_turn()
    feed(turn, replies.tool_calls(SWALLOWS, PARIS))
    (search,) = searches_of(turn.end(usage=USAGE, now=NOW))
    found = msgspec.structs.replace(
        search, file_search=msgspec.structs.replace(search.file_search, has_files=False)
    )
    turn.keep(found)
    (closing,) = turn.abandon("cancelled", None, now=NOW)
    assert isinstance(closing.payload, Step)
    assert calls_of(closing.payload)[0] == found
    assert isinstance(calls_of(closing.payload)[1], FunctionCall)
    assert (closing.payload.status, closing.payload.usage) == ("cancelled", USAGE)


def test_what_is_stored_of_a_search_is_not_shown() -> None:
    _, ending = played(replies.tool_calls(SWALLOWS))
    assert ending.step is not None
    stored = json.loads(msgspec.json.encode(ending.step))["step_details"]["tool_calls"][0]
    seen = json.loads(msgspec.json.encode(shown(ending.step)))["step_details"]["tool_calls"][0]
    assert set(stored["file_search"]) - set(seen["file_search"]) == {"queries", "turn"}


def test_a_mark_becomes_a_citation_at_its_place_in_characters() -> None:
    events, _ = played(
        replies.text("🎉 They come ", "back【3:1†🐦 li", "st.md】, so【9:9†no.md】【3:")
    )
    (part,) = message_of(events).content
    assert isinstance(part, TextPart)
    text = "🎉 They come back【3:1†🐦 list.md】, so【9:9†no.md】【3:"
    assert part.text.value == text
    (cited,) = json.loads(msgspec.json.encode(part.text.annotations))
    mark = "【3:1†🐦 list.md】"
    assert cited == {
        "type": "file_citation",
        "text": mark,
        "start_index": text.index(mark),
        "end_index": text.index(mark) + len(mark),
        "file_citation": {"file_id": "file-list"},
    }
    deltas = [json.loads(msgspec.json.encode(event.payload)) for event in events]
    texts = [delta["delta"]["content"][0]["text"] for delta in deltas if "delta" in delta]
    (streamed,) = [text for text in texts if text.get("annotations")]
    assert streamed["value"] == mark
    quoted = {"file_id": "file-list", "quote": ""}
    assert streamed["annotations"] == [{**cited, "index": 0, "file_citation": quoted}]


SAID = st.lists(
    st.sampled_from([*MARKS, "【", "3:0†", "】", "【3:7†birds.md】", "ab ", "🎉"]),
    min_size=1,
    max_size=10,
).map("".join)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(said=SAID, data=st.data())
def test_however_an_answer_is_cut_the_message_is_the_same(said: str, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(1, max(1, len(said) - 1)), max_size=8).map(sorted))
    ends = zip([0, *places], [*places, len(said)], strict=True)
    pieces = [said[start:end] for start, end in ends if start < end]
    whole = message_of(played(replies.text(said))[0]).content
    events, _ = played(replies.text(*pieces))
    assert message_of(events).content == whole
    for each in (events, merged(events)):
        heard = Heard(each)
        assert heard.said == said
        (final,) = heard.get_final_messages()
        assert final.to_dict()["content"] == json.loads(msgspec.json.encode(whole))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(said=SAID)
def test_merged_deltas_keep_their_annotations(said: str) -> None:
    events, _ = played(replies.text(*said))
    joined: dict[str, Any] = {"value": "", "annotations": []}
    for event in merged(events):
        if event.name == "thread.message.delta":
            text = json.loads(msgspec.json.encode(event.payload))["delta"]["content"][0]["text"]
            joined["value"] += text["value"]
            joined["annotations"] += text.get("annotations", [])
    value, cited = joined["value"], joined["annotations"]
    assert value == said
    assert [each["index"] for each in cited] == list(range(len(cited)))
    assert [value[each["start_index"] : each["end_index"]] for each in cited] == [
        each["text"] for each in cited
    ]
