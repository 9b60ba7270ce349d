"""Streams through the stock SDK: the order of events, the handlers' callbacks, the bytes."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, NamedTuple

import httpx2
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.fakes.replies import Call, text, tool_calls
from tests.sdk.clients import WEATHER, Scripted, async_client, in_short
from tests.sdk.handlers import AsyncHandler, Handler, Heard, call_callbacks, text_callbacks
from tests.server import ServerProcess

TEXT_TURN: Final = [
    *("run.step.created", "run.step.in_progress", "message.created", "message.in_progress"),
    *("message.delta", "message.completed", "run.step.completed", "run.completed"),
]
PLAIN: Final = ["run.created", "run.queued", "run.in_progress", *TEXT_TURN]
CALLING: Final = [
    *("run.created", "run.queued", "run.in_progress"),
    *("run.step.created", "run.step.in_progress", "run.step.delta", "run.requires_action"),
]
CONTINUED: Final = ["run.step.completed", "run.queued", "run.in_progress", *TEXT_TURN]

ASKS_FOR_WEATHER: Final = "Use get_weather for Paris."
HEADERS: Final = {"OpenAI-Beta": "assistants=v2"}


class Record(NamedTuple):
    """A server-sent event as it stood on the wire."""

    event: str
    id: str | None
    data: str


def _records(body: str) -> list[Record]:
    """The records of a stream, keep-alives left out."""
    found = []
    for block in body.removesuffix("\n\n").split("\n\n"):
        lines = (line for line in block.split("\n") if not line.startswith(":"))
        fields = dict(line.split(": ", 1) for line in lines)
        found.append(Record(fields["event"], fields.get("id"), fields["data"]))
    return found


def _ready(client: OpenAI, said: str = "Hello") -> dict[str, Any]:
    """A new assistant with a function, and a thread that says something."""
    assistant = client.beta.assistants.create(model="demo", tools=[WEATHER])
    thread = client.beta.threads.create(messages=[{"role": "user", "content": said}])
    return {"assistant_id": assistant.id, "thread_id": thread.id}


def _thread(said: str) -> Any:
    return {"messages": [{"role": "user", "content": said}]}


def _outputs(run: Any) -> Any:
    """An output for every call that a run waits for."""
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [{"tool_call_id": call.id, "output": f"Sunny {call.id}"} for call in calls]


@pytest.fixture
async def async_one(demo: ServerProcess) -> AsyncIterator[AsyncOpenAI]:
    """The async client."""
    async with async_client(demo) as client:
        yield client


@pytest.fixture
def raw(demo: ServerProcess) -> Iterator[httpx2.Client]:
    """No SDK at all."""
    with httpx2.Client(base_url=demo.url, headers=HEADERS, timeout=20) as client:
        yield client


def test_events_of_a_plain_answer_come_in_their_order(one_client: OpenAI) -> None:
    events: list[Any] = list(one_client.beta.threads.runs.create(**_ready(one_client), stream=True))
    assert in_short([event.event for event in events]) == PLAIN
    run_created, run_queued, _, step_created, step_begun, message_created, message_begun = events[
        :7
    ]
    assert run_created.data.status == "queued"
    assert run_created.data == run_queued.data
    assert step_created.data == step_begun.data
    assert message_created.data == message_begun.data
    assert message_created.data.content == []
    deltas = [event.data for event in events if event.event == "thread.message.delta"]
    parts = [part.to_dict() for delta in deltas for part in delta.delta.content]
    assert {part["index"] for part in parts} == {0}
    assert parts[0]["text"]["annotations"] == []
    assert all("annotations" not in part["text"] for part in parts[1:])
    stored = one_client.beta.threads.runs.retrieve(
        run_created.data.id, thread_id=run_created.data.thread_id
    )
    assert events[-1].data == stored


async def test_create_and_run_begins_with_its_thread(client: AsyncOpenAI) -> None:
    assistant = await client.beta.assistants.create(model="demo")
    stream = await client.beta.threads.create_and_run(
        assistant_id=assistant.id, thread=_thread("Hello"), stream=True
    )
    # The sync stream, where the client is the sync one.
    either: Any = stream
    events = [event async for event in either] if hasattr(either, "__aiter__") else list(either)
    assert in_short([event.event for event in events]) == ["created", *PLAIN]
    assert events[0].data.id == events[1].data.thread_id


def test_function_calls_end_the_stream_and_outputs_continue_it(one_client: OpenAI) -> None:
    runs = one_client.beta.threads.runs
    asking: list[Any] = list(runs.create(**_ready(one_client, ASKS_FOR_WEATHER), stream=True))
    assert in_short([event.event for event in asking]) == CALLING
    run = asking[-1].data
    deltas = [event.data for event in asking if event.event == "thread.run.step.delta"]
    calls: list[Any] = [delta.delta.step_details.to_dict()["tool_calls"] for delta in deltas]
    ((first,), *rest) = calls
    (asked,) = run.required_action.submit_tool_outputs.tool_calls
    assert first == {
        "index": 0,
        "id": asked.id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": "", "output": None},
    }
    for (piece,) in rest:
        assert set(piece) == {"index", "type", "function"}
        assert set(piece["function"]) == {"arguments"}
    joined = "".join(piece["function"]["arguments"] for (piece,) in rest)
    assert joined == asked.function.arguments
    step_created = next(event for event in asking if event.event == "thread.run.step.created")
    assert step_created.data.step_details.tool_calls == []

    answering: list[Any] = list(
        runs.submit_tool_outputs(
            run.id, thread_id=run.thread_id, tool_outputs=_outputs(run), stream=True
        )
    )
    assert in_short([event.event for event in answering]) == CONTINUED
    step = answering[0].data
    assert step.id == step_created.data.id
    assert step.step_details.tool_calls[0].function.output == f"Sunny {asked.id}"
    assert step.usage is not None
    assert answering[1].data.required_action is None


def test_a_handler_hears_every_callback_of_a_plain_answer(one_client: OpenAI) -> None:
    handler = Handler()
    runs = one_client.beta.threads.runs
    with runs.stream(**_ready(one_client), event_handler=handler) as stream:
        stream.until_done()
        final_run, messages = stream.get_final_run(), stream.get_final_messages()
    heard = handler.heard
    assert in_short(heard.events) == PLAIN
    assert heard.callbacks == [*text_callbacks(heard), "end"]
    thread_id = final_run.thread_id
    (message,) = messages
    stored = one_client.beta.threads.messages.retrieve(message.id, thread_id=thread_id)
    assert message == stored == heard.done["message_done"]
    (snapshot,) = heard.last_snapshots["message_delta"].content
    (part,) = stored.content
    assert part.type == "text"
    assert part.text == heard.done["text_done"] == snapshot.text
    assert part.text.value == heard.written
    assert final_run == runs.retrieve(final_run.id, thread_id=thread_id)
    (step,) = runs.steps.list(final_run.id, thread_id=thread_id)
    assert step == heard.done["run_step_done"]


async def test_an_async_handler_hears_calls_and_what_follows(async_one: AsyncOpenAI) -> None:
    threads = async_one.beta.threads
    assistant = await async_one.beta.assistants.create(model="demo", tools=[WEATHER])
    asking = AsyncHandler()
    async with threads.create_and_run_stream(
        assistant_id=assistant.id, thread=_thread(ASKS_FOR_WEATHER), event_handler=asking
    ) as stream:
        run = await stream.get_final_run()
    _check_calling(asking.heard, run)
    assert in_short(asking.heard.events) == ["created", *CALLING]

    answering = AsyncHandler()
    async with threads.runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=_outputs(run), event_handler=answering
    ) as stream:
        (message,) = await stream.get_final_messages()
    assert in_short(answering.heard.events) == CONTINUED
    heard = answering.heard
    assert heard.callbacks == ["run_step_done", *text_callbacks(heard), "end"]
    assert message == await threads.messages.retrieve(message.id, thread_id=run.thread_id)
    assert heard.done["message_done"] == message


def test_a_handler_hears_calls_and_what_follows(one_client: OpenAI) -> None:
    threads = one_client.beta.threads
    assistant = one_client.beta.assistants.create(model="demo", tools=[WEATHER])
    asking = Handler()
    with threads.create_and_run_stream(
        assistant_id=assistant.id, thread=_thread(ASKS_FOR_WEATHER), event_handler=asking
    ) as stream:
        run = stream.get_final_run()
        (step,) = stream.get_final_run_steps()
    _check_calling(asking.heard, run)
    details = asking.heard.last_snapshots["run_step_delta"].step_details
    (stored,) = threads.runs.steps.list(run.id, thread_id=run.thread_id)
    assert step.id == stored.id
    assert _arguments(details) == _arguments(stored.step_details)

    answering = Handler()
    with threads.runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=_outputs(run), event_handler=answering
    ) as stream:
        final = stream.get_final_run()
    assert in_short(answering.heard.events) == CONTINUED
    # The old step's end comes first.
    heard = answering.heard
    assert heard.callbacks == ["run_step_done", *text_callbacks(heard), "end"]
    assert final == threads.runs.retrieve(run.id, thread_id=run.thread_id)
    stored_steps = threads.runs.steps.list(run.id, thread_id=run.thread_id)
    assert heard.done["run_step_done"] == stored_steps.data[0]


def test_parallel_calls_are_told_one_after_the_other(scripted: Scripted) -> None:
    calls = [Call(f"call_{city}", "get_weather", f'{{"city":"{city}"}}') for city in ("A", "B")]
    scripted.model.replies.extend([tool_calls(*calls), text("Sunny in ", "both.")])
    handler = Handler()
    runs = scripted.client.beta.threads.runs
    ready: dict[str, Any] = {
        "assistant_id": scripted.assistant(tools=[WEATHER]),
        "thread_id": scripted.thread("?"),
    }
    with runs.stream(**ready, event_handler=handler) as stream:
        run = stream.get_final_run()
    heard = [name for name in handler.heard.callbacks if name.startswith("tool_call")]
    told = ["tool_call_created", "tool_call_delta", "tool_call_done"]
    # Deltas of a call may come joined.
    assert [name for place, name in enumerate(heard) if heard[place - 1 : place] != [name]] == (
        told * 2
    )
    with runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=_outputs(run)
    ) as stream:
        assert "".join(stream.text_deltas) == "Sunny in both."


def test_every_record_has_an_id_and_the_last_is_done(
    one_client: OpenAI, raw: httpx2.Client
) -> None:
    ready = _ready(one_client, ASKS_FOR_WEATHER)
    url = f"/threads/{ready['thread_id']}/runs"
    # The body alone decides what comes; `Accept` does not.
    headers = {"Accept": "application/json"}
    answer = raw.post(
        url, json={"assistant_id": ready["assistant_id"], "stream": True}, headers=headers
    )
    run_id = _check_wire(answer, CALLING)
    run: Any = one_client.beta.threads.runs.retrieve(run_id, thread_id=ready["thread_id"])
    outputs = {"tool_outputs": _outputs(run), "stream": True}
    _check_wire(raw.post(f"{url}/{run_id}/submit_tool_outputs", json=outputs), CONTINUED)


@pytest.mark.parametrize("stream", [{}, {"stream": False}, {"stream": None}])
def test_without_stream_in_the_body_the_answer_is_json(
    one_client: OpenAI, raw: httpx2.Client, stream: dict[str, Any]
) -> None:
    ready = _ready(one_client)
    answer = raw.post(
        f"/threads/{ready['thread_id']}/runs",
        json={"assistant_id": ready["assistant_id"], **stream},
        headers={"Accept": "text/event-stream"},
    )
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["object"] == "thread.run"


def test_a_refused_stream_is_an_ordinary_error(one_client: OpenAI, raw: httpx2.Client) -> None:
    thread = one_client.beta.threads.create()
    answer = raw.post(
        f"/threads/{thread.id}/runs", json={"assistant_id": "asst_none", "stream": True}
    )
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["error"]["message"] == "No assistant found with id 'asst_none'."


def test_a_stream_can_be_read_as_lines(one_client: OpenAI) -> None:
    with one_client.beta.threads.runs.with_streaming_response.create(
        **_ready(one_client), stream=True
    ) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-request-id"].startswith("req_")
        lines = [line for line in response.iter_lines() if line.startswith(("event", "data"))]
    assert lines[0] == "event: thread.run.created"
    assert lines[-2:] == ["event: done", "data: [DONE]"]


def _check_calling(heard: Heard, run: Any) -> None:
    """What a handler hears of one call, up to where outputs are wanted."""
    assert heard.callbacks == [*call_callbacks(heard), "end"]
    (asked,) = run.required_action.submit_tool_outputs.tool_calls
    assert heard.last_snapshots["tool_call_delta"].function.arguments == asked.function.arguments
    assert heard.done["tool_call_done"].id == asked.id
    assert json.loads(asked.function.arguments)


def _arguments(details: Any) -> list[str]:
    return [call.function.arguments for call in details.tool_calls]


def _check_wire(answer: httpx2.Response, names: list[str]) -> str:
    """The bytes of a stream with these events; the run's id."""
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.text.endswith("event: done\ndata: [DONE]\n\n")
    records = _records(answer.text)
    assert all(record.id for record in records)
    assert len({record.id for record in records[:-1]}) == len(records) - 1
    assert in_short([record.event for record in records]) == [*names, "done"]
    last: Any = json.loads(records[-2].data)
    return str(last["id"])
