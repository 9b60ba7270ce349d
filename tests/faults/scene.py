"""What happens in these tests again and again: a thread, a run, its stream, how it all ended."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

import httpx2
from openai import AssistantEventHandler, OpenAI
from openai.types.beta import AssistantStreamEvent
from openai.types.beta.threads import Message, Run, Text
from openai.types.beta.threads.runs import RunStep

from tests.fakes.model_server import ModelServer, Recorded
from tests.fakes.replies import MODEL
from tests.server import ServerProcess

PATIENCE_SECONDS: Final = 30.0
WEATHER: Final[Any] = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


class Happened(NamedTuple):
    """One record of a stream."""

    id: str
    name: str
    data: Any


def stock_client(url: str, *, max_retries: int = 0, **options: Any) -> OpenAI:
    """The stock SDK, with all that it can check switched on."""
    return OpenAI(
        base_url=url,
        api_key="any",
        max_retries=max_retries,
        timeout=PATIENCE_SECONDS,
        _strict_response_validation=True,
        **options,
    )


def parsed(raw: bytes) -> list[Happened]:
    """The records of a stream of server-sent events; each has its id, its name and its data."""
    happened = []
    for record in raw.decode().split("\n\n"):
        lines = [line for line in record.splitlines() if line and not line.startswith(":")]
        if not lines:
            continue
        fields = dict(line.split(": ", 1) for line in lines)
        data = fields["data"]
        decoded = data if data == "[DONE]" else json.loads(data)
        happened.append(Happened(fields["id"], fields["event"], decoded))
    return happened


def text_of(message: Message) -> str:
    """The text of a message; none of its parts is anything else."""
    values = []
    for part in message.content:
        assert part.type == "text"
        values.append(part.text.value)
    return "".join(values)


def streamed_text(happened: list[Happened]) -> str:
    """What a listener has read, piece by piece."""
    deltas = [h.data["delta"] for h in happened if h.name == "thread.message.delta"]
    return "".join(part["text"]["value"] for delta in deltas for part in delta["content"])


class Listener:
    """Reads a stream in a thread of its own, to its end or until its connection breaks.

    Asked for with a body, or with a GET where that is None.
    """

    def __init__(self, url: str, body: Any, **headers: str) -> None:
        self.raw = bytearray()
        self._sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(url, body), daemon=True)
        self._thread.start()

    def wait_for(self, mark: str, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Return once the mark has been read."""
        with self._news:
            assert self._news.wait_for(lambda: mark.encode() in self.raw, seconds), mark

    def ended(self) -> list[Happened]:
        """What was read, once there is no more."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return self.heard()

    def heard(self) -> list[Happened]:
        """What was read so far, in whole records."""
        return parsed(bytes(self.raw[: self.raw.rfind(b"\n\n") + 2]))

    def _read(self, url: str, body: Any) -> None:
        with (
            suppress(httpx2.TransportError),
            httpx2.Client(timeout=PATIENCE_SECONDS) as client,
            client.stream(
                "GET" if body is None else "POST", url, json=body, headers=self._sent
            ) as response,
        ):
            for piece in response.iter_raw():
                with self._news:
                    self.raw += piece
                    self._news.notify_all()


class Recording(AssistantEventHandler):
    """The SDK's own event handler, which notes what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[AssistantStreamEvent] = []
        self.text = ""
        self.failure: Exception | None = None

    def on_event(self, event: AssistantStreamEvent) -> None:
        self.events.append(event)

    def on_text_delta(self, delta: Any, snapshot: Text) -> None:
        self.text += delta.value or ""

    def on_exception(self, exception: Exception) -> None:
        self.failure = exception


class Ended(NamedTuple):
    """A run whose stream has ended, with what is at rest of it."""

    run: Run
    events: list[Happened]
    handler: Recording
    messages: list[Message]
    steps: list[RunStep]


class Scene:
    """A server, the model server behind it, and a client in front."""

    def __init__(self, server: ServerProcess, model: ModelServer, client: OpenAI) -> None:
        self.server = server
        self.model = model
        self.client = client
        self.beta = client.beta
        self._assistants: dict[str, str] = {}

    def assistant(self, **options: Any) -> str:
        """A new assistant's id."""
        # The SDK's own types take no run without instructions.
        return self.beta.assistants.create(
            model=MODEL, **{"instructions": "Be brief.", **options}
        ).id

    def thread(self, text: str = "Hello?") -> str:
        """A new thread's id, with one message in it."""
        return self.beta.threads.create(messages=[{"role": "user", "content": text}]).id

    def asks_model(self) -> Callable[[], Recorded]:
        """Call it later for the next request that the model server gets after now."""
        number = len(self.model.requests) + 1
        return lambda: self.model.wait_for_request(number)

    def start(self, thread_id: str, **options: Any) -> Run:
        """A run on a thread, with an assistant of its own unless one is named."""
        assistant_id = options.pop("assistant_id", None) or self.assistant()
        run: Run = self.beta.threads.runs.create(
            thread_id=thread_id, assistant_id=assistant_id, **options
        )
        return run

    def listen(self, thread_id: str, *, key: str | None = None, **options: Any) -> Listener:
        """Start a run on a thread and listen to it; the same key again listens to the same run."""
        body = {"assistant_id": self.assistant_of(thread_id), "stream": True, **options}
        headers = {"idempotency_key": key} if key else {}
        return Listener(f"{self.server.url}/threads/{thread_id}/runs", body, **headers)

    def run_on(self, thread_id: str) -> Run:
        """The newest run on a thread."""
        return self.beta.threads.runs.list(thread_id).data[0]

    def assistant_of(self, thread_id: str) -> str:
        """The assistant whose runs `listen` starts on a thread."""
        if thread_id not in self._assistants:
            self._assistants[thread_id] = self.assistant()
        return self._assistants[thread_id]

    def rest(self, run: Run) -> Run:
        """The run once it rests."""
        return self.beta.threads.runs.poll(run.id, thread_id=run.thread_id)

    def streamed(self, thread_id: str, **options: Any) -> Ended:
        """A run, heard by the SDK's event handler to its end."""
        handler, raw = Recording(), bytearray()
        assistant_id = options.pop("assistant_id", None) or self.assistant()
        with teeing_client(self.server.url, raw) as client:
            stream = client.beta.threads.runs.stream(
                thread_id=thread_id,
                assistant_id=assistant_id,
                event_handler=handler,
                **options,
            )
            with stream as events:
                events.until_done()
        return self.ended(parsed(bytes(raw)), handler)

    def ended(self, events: list[Happened], handler: Recording) -> Ended:
        """What a stream has told, checked to be whole, and what is at rest behind it."""
        assert events[-1] == Happened(events[-2].id, "done", "[DONE]")
        assert [int(h.id) for h in events[:-1]] == list(
            range(int(events[0].id), int(events[-1].id) + 1)
        )
        assert handler.failure is None
        assert [event.event for event in handler.events] == [h.name for h in events[:-1]]
        last = events[-2].data
        run = self.beta.threads.runs.retrieve(last["id"], thread_id=last["thread_id"])
        assert events[-2].name == f"thread.run.{run.status}"
        return Ended(run, events, handler, self.messages(run), self.steps(run))

    def messages(self, run: Run) -> list[Message]:
        """What the run wrote, oldest first."""
        page = self.beta.threads.messages.list(run.thread_id, run_id=run.id, order="asc")
        return list(page)

    def steps(self, run: Run) -> list[RunStep]:
        """The run's steps, oldest first."""
        return list(self.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc"))

    def assert_free(self, thread_id: str) -> None:
        """The thread takes a message, and a run on it is answered."""
        self.beta.threads.messages.create(thread_id, role="user", content="And now?")
        after = self.rest(self.start(thread_id))
        assert after.status == "completed"
        assert text_of(self.messages(after)[0]) == "Hello from the model."


@contextmanager
def teeing_client(url: str, raw: bytearray) -> Iterator[OpenAI]:
    """The stock SDK, with every byte of a stream's body copied on its way in."""

    def copy(response: httpx2.Response) -> None:
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.SyncByteStream)
            response.stream = _Tee(response.stream, raw)

    http_client = httpx2.Client(event_hooks={"response": [copy]})
    with stock_client(url, http_client=http_client) as client:
        yield client


class _Tee(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, copy: bytearray) -> None:
        self._stream = stream
        self._copy = copy

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._copy += piece
            yield piece

    def close(self) -> None:
        self._stream.close()


Answer = tuple[int, dict[str, str], bytes]


def post(url: str, body: Any, **headers: str) -> Answer:
    """A POST without an SDK: status, headers in lower case, and the whole body."""
    return fetch("POST", url, body, **headers)


def fetch(method: str, url: str, body: Any = None, **headers: str) -> Answer:
    """A request without an SDK, on a connection of its own; underscores in headers are dashes."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        sent["content-type"] = "application/json"
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
    with httpx2.Client(timeout=PATIENCE_SECONDS) as client:
        response = client.request(method, url, content=body, headers=sent)
        return response.status_code, dict(response.headers), response.content


def together(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls give, made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(PATIENCE_SECONDS) for future in [pool.submit(c) for c in calls]]
