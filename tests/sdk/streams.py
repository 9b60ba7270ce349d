"""Event streams read over plain HTTP, byte for byte; and the stock SDK's way to resume one."""

import json
from collections.abc import Callable
from typing import Any, Final

import httpx2
from openai import OpenAI, Stream
from openai.types.beta import AssistantStreamEvent

from rethread.contract.events import KEEP_ALIVE
from tests.sdk.clients import TIMEOUT_SECONDS, WEATHER
from tests.server import ServerProcess

ASKED: Final[list[Any]] = [{"role": "user", "content": "Please get_weather in Paris"}]
DONE: Final = b"event: done\ndata: [DONE]\n\n"


class Place:
    """A run whose streams are asked for over plain HTTP."""

    def __init__(self, server: ServerProcess, thread_id: str, run_id: str) -> None:
        self.path = f"/threads/{thread_id}/runs/{run_id}"
        self.url = server.url + self.path

    def events(self, after: Any = None, last_event_id: Any = None) -> bytes:
        """All that the stream of events gives, past a number."""
        response = self.ask(after, last_event_id)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        return response.content

    def ask(self, after: Any = None, last_event_id: Any = None) -> httpx2.Response:
        """The answer of the route, whole."""
        query = {} if after is None else {"starting_after": str(after)}
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        return httpx2.get(
            f"{self.url}/events", params=query, headers=headers, timeout=TIMEOUT_SECONDS
        )

    def listen(self, heard: Callable[[bytes], None], *, last_event_id: int = 0) -> bytes:
        """All that the stream gives behind an event; `heard` is called with each piece."""
        pieces = []
        with httpx2.stream(
            *("GET", f"{self.url}/events"),
            headers={"Last-Event-ID": str(last_event_id)},
            timeout=TIMEOUT_SECONDS,
        ) as stream:
            for piece in stream.iter_bytes():
                pieces.append(piece)
                heard(b"".join(pieces))
        return b"".join(pieces)

    def submit(self, output: str, *, is_stream: bool) -> bytes:
        """The answer to the outputs of all the calls that wait."""
        run = httpx2.get(self.url).json()
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = [{"tool_call_id": call["id"], "output": output} for call in calls]
        body = {"tool_outputs": outputs, "stream": is_stream}
        return posted(f"{self.url}/submit_tool_outputs", body)

    def rest(self) -> None:
        """Return when the run is at rest."""
        while status(self.url) in ("queued", "in_progress", "cancelling"):
            pass


def posted(url: str, body: Any) -> bytes:
    response = httpx2.post(url, json=body, timeout=TIMEOUT_SECONDS)
    assert response.status_code == 200, response.text
    return response.content


def status(url: str) -> str:
    polling = {"x-stainless-poll-helper": "true"}
    response = httpx2.get(url, headers=polling, timeout=2 * TIMEOUT_SECONDS)
    return str(response.json()["status"])


def records(stream: bytes) -> list[bytes]:
    """A stream's records as they were sent; keep-alives are passed over."""
    return [record.replace(KEEP_ALIVE, b"") + b"\n\n" for record in stream.split(b"\n\n") if record]


def numbers(stream: bytes) -> list[int]:
    return [int(record.split(b"\n")[0].removeprefix(b"id: ")) for record in records(stream)]


def names(stream: bytes) -> list[str]:
    lines = stream.decode().splitlines()
    return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


def assistant(server: ServerProcess) -> str:
    """The id of a new assistant."""
    wanted = {"model": "demo", "instructions": "Answer.", "tools": [WEATHER]}
    return str(json.loads(posted(f"{server.url}/assistants", wanted))["id"])


def started(server: ServerProcess, **wanted: Any) -> tuple[Place, bytes]:
    """A run and the whole of its first stream."""
    body = {"assistant_id": assistant(server), "stream": True, **wanted}
    stream = posted(f"{server.url}/threads/runs", body)
    run = next(
        json.loads(record.split(b"data: ")[1])
        for record in records(stream)
        if b"event: thread.run.created\n" in record
    )
    return Place(server, run["thread_id"], run["id"]), stream


def stream_of(
    client: OpenAI, thread_id: str, run_id: str, after: int = 0
) -> Stream[AssistantStreamEvent]:
    """The events past a number, by the stock SDK's way to ask for what it has no method for."""
    return client.get(
        f"/threads/{thread_id}/runs/{run_id}/events",
        cast_to=object,
        stream=True,
        stream_cls=Stream[AssistantStreamEvent],
        options={"params": {"starting_after": after}},
    )
