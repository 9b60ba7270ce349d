"""A stream that broke goes on where it broke, while its run is under way."""

import ast
import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import httpx2
from openai import AssistantEventHandler, AsyncOpenAI, AsyncStream, OpenAI
from openai.lib.streaming import AssistantStreamManager
from openai.types.beta import AssistantStreamEvent

from rethread.contract.events import KEEP_ALIVE
from tests.fakes.replies import Call, Gate, text, tool_calls
from tests.sdk.breaking_proxy import breaking_proxy
from tests.sdk.clients import TIMEOUT_SECONDS, WEATHER, Scripted
from tests.sdk.streams import ASKED, DONE, Place, names, numbers, records, started, stream_of
from tests.test_docs import ROOT, blocks

STREAMS: Final = ROOT / "docs" / "streams.md"


def test_what_comes_behind_a_rest_is_followed_to_the_next_one(scripted: Scripted) -> None:
    """The outputs are given without a stream; the second answer waits at a gate."""
    gate = Gate()
    paris, rome = (Call(f"call_{city}", "get_weather", f'{{"city":"{city}"}}') for city in "pr")
    scripted.model.replies += [tool_calls(paris), tool_calls(rome).then(gate, after=1), text("Ok")]
    place, asking = started(scripted.server, model="fake-model", thread={"messages": ASKED})
    place.submit("Sunny.", is_stream=False)
    gate.arrived.result(TIMEOUT_SECONDS)

    def go_on(heard: bytes) -> None:
        if b"call_r" in heard:
            gate.open()

    heard = place.listen(go_on)
    assert names(heard).count("thread.run.requires_action") == 2
    assert heard.replace(KEEP_ALIVE, b"") == place.events()
    answering = place.submit("Rain.", is_stream=True)
    assert names(answering)[-2:] == ["thread.run.completed", "done"]
    assert place.events() == b"".join(records(heard)[:-1]) + answering
    assert heard.startswith(b"".join(records(asking)[:-1]))


def test_a_stream_is_resumed_while_its_run_is_under_way(scripted: Scripted) -> None:
    gate = Gate()
    scripted.model.replies.append(text("One ", "two ", "three ", "four").then(gate, after=2))
    run = _started_quietly(scripted)
    place = Place(scripted.server, run.thread_id, run.id)
    gate.arrived.result(TIMEOUT_SECONDS)
    until_two = _read_until(place, b"two ")
    until = numbers(until_two)[-1]

    def go_on(heard: bytes) -> None:
        if heard.count(KEEP_ALIVE) >= 2:
            gate.open()

    rest = place.listen(go_on, last_event_id=until)
    assert rest.startswith(2 * KEEP_ALIVE)
    assert KEEP_ALIVE + b"\n" not in rest
    assert until_two + rest.replace(KEEP_ALIVE, b"") == place.events()
    assert names(rest)[-2:] == ["thread.run.completed", "done"]


async def test_a_number_that_the_run_has_not_reached_yet_is_waited_for(scripted: Scripted) -> None:
    gate = Gate()
    scripted.model.replies.append(text("One ", "two ").then(gate, after=1))
    run = _started_quietly(scripted)
    place = Place(scripted.server, run.thread_id, run.id)
    gate.arrived.result(TIMEOUT_SECONDS)
    so_far = numbers(_read_until(place, b"One "))[-1]

    def wait_for_it(ahead: int) -> bytes:
        return place.listen(lambda heard: silent[ahead].set(), last_event_id=ahead)

    silent = {so_far + 1: threading.Event(), so_far + 1000: threading.Event()}
    waiting = [asyncio.create_task(asyncio.to_thread(wait_for_it, ahead)) for ahead in silent]
    for event in silent.values():
        assert await asyncio.to_thread(event.wait, TIMEOUT_SECONDS)
    gate.open()
    next_one, far_off = [
        stream.replace(KEEP_ALIVE, b"") for stream in await asyncio.gather(*waiting)
    ]
    assert next_one == b"".join(records(place.events())[so_far + 1 :])
    assert far_off == b"id: %d\n" % (so_far + 1000) + DONE


class Handler(AssistantEventHandler):
    """Keeps what the SDK makes of the events."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.said = ""
        self.steps: list[Any] = []

    def on_event(self, event: AssistantStreamEvent) -> None:
        """Keep the event's name."""
        self.names.append(event.event)

    def on_run_step_done(self, run_step: Any) -> None:
        """Keep the step."""
        self.steps.append(run_step)

    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        """Keep the text."""
        self.said += delta.value


def test_the_sdk_s_handler_builds_the_same_message_of_a_replay(one_client: OpenAI) -> None:
    threads = one_client.beta.threads
    assistant = one_client.beta.assistants.create(model="demo", tools=[WEATHER])
    first, second = Handler(), Handler()
    with threads.create_and_run_stream(
        assistant_id=assistant.id, thread={"messages": ASKED[:1]}, event_handler=first
    ) as stream:
        waiting = stream.get_final_run()
    assert waiting.required_action is not None
    calls = waiting.required_action.submit_tool_outputs.tool_calls
    outputs: list[Any] = [{"tool_call_id": call.id, "output": "Sunny."} for call in calls]
    with threads.runs.submit_tool_outputs_stream(
        run_id=waiting.id,
        thread_id=waiting.thread_id,
        tool_outputs=outputs,
        event_handler=second,
    ) as stream:
        messages = stream.get_final_messages()
    handler = Handler()
    with AssistantStreamManager(
        lambda: stream_of(one_client, waiting.thread_id, waiting.id), event_handler=handler
    ) as stream:
        assert stream.get_final_messages() == messages
        run = stream.get_final_run()
    assert handler.names == first.names + second.names
    assert handler.said == second.said
    assert handler.steps == second.steps
    assert run == threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert handler.steps == [*threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")]
    assert messages == threads.messages.list(run.thread_id, limit=1).data


async def test_a_connection_that_breaks_again_and_again_loses_and_repeats_nothing(
    scripted: Scripted,
) -> None:
    """With the async client, which counts: the numbers of a run's events have no gaps."""
    words = [f"w{number} " for number in range(40)]
    scripted.model.replies.append(text(*words, seconds_between=0.005))
    run = _started_quietly(scripted)
    place = Place(scripted.server, run.thread_id, run.id)
    heard: list[AssistantStreamEvent] = []
    connections = 0
    async with AsyncOpenAI(base_url=scripted.server.url, api_key="any", max_retries=0) as client:
        while not heard or heard[-1].event != "thread.run.completed":
            connections += 1
            heard += [event async for event in _broken_after(3, client, place, len(heard))]
    assert connections > 3
    whole = place.events()
    assert [event.event for event in heard] == names(whole)[:-1]
    assert [json.loads(record.split(b"data: ")[1])["id"] for record in records(whole)[:-1]] == [
        getattr(event.data, "id", None) for event in heard
    ]
    assert _said(heard) == "".join(words)


async def test_the_helper_of_the_docs_goes_on_over_connections_that_break(
    scripted: Scripted,
) -> None:
    words = [f"w{number} " for number in range(40)]
    scripted.model.replies.append(text(*words, seconds_between=0.005))
    run = _started_quietly(scripted)
    page = ast.parse(next(block for block in blocks(STREAMS, "python") if "def follow" in block))
    page.body = [node for node in page.body if isinstance(node, ast.ImportFrom | ast.FunctionDef)]
    helper: dict[str, Any] = {}
    exec(compile(page, STREAMS.name, "exec"), helper)

    def listen(port: int) -> list[tuple[int, AssistantStreamEvent]]:
        with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any") as client:
            return list(helper["follow"](client, run.thread_id, run.id))

    async with breaking_proxy(scripted.server.port, after_bytes=4000) as proxy:
        heard = await asyncio.to_thread(listen, proxy.port)
        assert proxy.connections > 2
    whole = Place(scripted.server, run.thread_id, run.id).events()
    assert [number for number, _ in heard] == numbers(whole)[:-1]
    assert [event.event for _, event in heard] == names(whole)[:-1]
    assert _said([event for _, event in heard]) == "".join(words)


async def test_many_listen_to_one_run_from_different_events_on(scripted: Scripted) -> None:
    gate = Gate()
    scripted.model.replies.append(text(*[f"w{n} " for n in range(30)]).then(gate, after=10))
    run = _started_quietly(scripted)
    place = Place(scripted.server, run.thread_id, run.id)
    gate.arrived.result(TIMEOUT_SECONDS)
    listening = [asyncio.create_task(asyncio.to_thread(place.events, n)) for n in range(12)]
    gate.open()
    heard = await asyncio.gather(*listening)
    whole = place.events()
    for after, stream in enumerate(heard):
        assert stream.replace(KEEP_ALIVE, b"") == b"".join(records(whole)[after:])


def test_the_stream_of_a_cancelled_run_ends_as_it_ended(scripted: Scripted) -> None:
    gate = Gate()
    scripted.model.replies.append(text("One ", "two ").then(gate, after=1))
    run = _started_quietly(scripted)
    place = Place(scripted.server, run.thread_id, run.id)
    gate.arrived.result(TIMEOUT_SECONDS)

    def cancel(heard: bytes) -> None:
        if b"One " in heard and b"cancelling" not in heard:
            httpx2.post(f"{place.url}/cancel")

    heard = place.listen(cancel)
    gate.open()
    assert names(heard)[-2:] == ["thread.run.cancelled", "done"]
    assert heard.replace(KEEP_ALIVE, b"") == place.events()


def _started_quietly(scripted: Scripted) -> Any:
    """A run that nobody listens to."""
    return scripted.client.beta.threads.create_and_run(
        assistant_id=scripted.assistant(instructions="Count."), thread={"messages": []}
    )


def _read_until(place: Place, text: bytes) -> bytes:
    """The whole records of a stream from the start until one has come with that text."""
    heard = b""
    with httpx2.stream("GET", f"{place.url}/events", timeout=TIMEOUT_SECONDS) as stream:
        for piece in stream.iter_bytes():
            heard += piece.replace(KEEP_ALIVE, b"")
            if text in heard:
                break
    return heard[: heard.rindex(b"\n\n") + 2]


async def _broken_after(
    count: int, client: AsyncOpenAI, place: Place, after: int
) -> AsyncIterator[AssistantStreamEvent]:
    """A few events past a number; then the connection is closed."""
    stream = await client.get(
        f"{place.path}/events",
        cast_to=object,
        stream=True,
        stream_cls=AsyncStream[AssistantStreamEvent],
        options={"params": {"starting_after": after}},
    )
    async with stream:
        left = count
        async for event in stream:
            yield event
            left -= 1
            if not left:
                break


def _said(events: Sequence[AssistantStreamEvent]) -> str:
    return "".join(_deltas(events))


def _deltas(events: Sequence[AssistantStreamEvent]) -> Iterator[str]:
    for event in events:
        if event.event == "thread.message.delta":
            for part in event.data.delta.content or []:
                assert part.type == "text"
                assert part.text is not None
                yield part.text.value or ""
