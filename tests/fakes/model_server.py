"""A chat-completions server on a real loopback socket that answers, or misbehaves, by script.

HTTP/1.1 by hand, so that it can break it at any byte. It serves POST /v1/chat/completions and
GET /v1/models, and records every request before it answers it.

    async with ModelServer() as server:                  # in the test's own loop
        server.replies.append(text("Hel", "lo"))
    with ModelServer.start_in_thread() as server:        # for tests without a loop
        server.answer = lambda body: text(body["messages"][-1]["content"])

Run by hand: python -m tests.fakes.model_server 8001
"""

import asyncio
import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self

from tests.fakes.replies import MODEL, PATIENCE_SECONDS, Drop, Gate, Reply, Step, text


@dataclass
class Recorded:
    """A request as it came; `left` is done when the client went away before the end of the answer.

    `is_new_connection` is False where the client used a connection again.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    raw_body: bytes
    is_new_connection: bool
    left: Future[None] = field(default_factory=Future)

    @property
    def body(self) -> Any:
        """The body's JSON."""
        return json.loads(self.raw_body)

    async def until_left(self) -> None:
        """Wait for the client to go away before the end of the answer."""
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self.left)), PATIENCE_SECONDS)


class ModelServer:
    """The server; `replies` are given in turn, then `answer`, if set, is asked, then a greeting.

    `requests` holds the calls for an answer, not those for the list of models. Safe to script
    and to read from other threads.
    """

    def __init__(self, *, models: tuple[str, ...] = (MODEL,)) -> None:
        self.replies: deque[Reply] = deque()
        self.answer: Callable[[Any], Reply] | None = None
        self.models = models
        self.models_reply: Reply | None = None
        self.requests: list[Recorded] = []
        self.models_requests: list[Recorded] = []
        self.port = 0
        self.connection_count = 0
        self._arrivals: dict[int, Future[Recorded]] = {}
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self, port: int = 0) -> None:
        """Listen; port 0 is any that is free, and afterwards `port` says which."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end all connections, whatever they are at."""
        self._server.close()
        answers = [connection.abort() for connection in list(self._connections)]
        await asyncio.gather(*answers, return_exceptions=True)
        await self._server.wait_closed()

    @classmethod
    @contextmanager
    def start_in_thread(cls, *, models: tuple[str, ...] = (MODEL,)) -> Iterator[Self]:
        """A server in a thread of its own, with a loop of its own."""
        server = cls(models=models)
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def run() -> None:
            async with server:
                stop = asyncio.Event()
                started.set_result((asyncio.get_running_loop(), stop))
                await stop.wait()

        thread = threading.Thread(target=asyncio.run, args=(run(),), name="model server")
        thread.start()
        loop, stop = started.result(PATIENCE_SECONDS)
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(PATIENCE_SECONDS)

    async def request(self, number: int) -> Recorded:
        """The call number `number` (the first is 1), when it has come."""
        arrival = asyncio.shield(asyncio.wrap_future(self._arrival(number)))
        return await asyncio.wait_for(arrival, PATIENCE_SECONDS)

    def wait_for_request(self, number: int) -> Recorded:
        """As `request`, for tests without a loop."""
        return self._arrival(number).result(PATIENCE_SECONDS)

    def reply_to(self, recorded: Recorded) -> Reply:
        """For a connection: record the request and choose its reply."""
        if recorded.path.partition("?")[0] == "/v1/models":
            self.models_requests.append(recorded)
            return self.models_reply or _models_reply(self.models)
        with self._lock:
            self.requests.append(recorded)
            number = len(self.requests)
        self._arrival(number).set_result(recorded)
        with suppress(IndexError):
            return self.replies.popleft()
        return self.answer(recorded.body) if self.answer else text("Hello", " from the model.")

    def connected(self, connection: "_Connection") -> None:
        """For a connection: it begins."""
        self.connection_count += 1
        self._connections.add(connection)

    def disconnected(self, connection: "_Connection") -> None:
        """For a connection: it is over."""
        self._connections.discard(connection)

    def _arrival(self, number: int) -> Future[Recorded]:
        with self._lock:
            return self._arrivals.setdefault(number, Future())


class _Connection(asyncio.Protocol):
    """One client's connection: reads requests, plays replies, notices when the client leaves."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server
        self._received = bytearray()
        self._news = asyncio.Event()
        self._answering: Recorded | None = None
        self._request_count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connected(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answering is not None:
            self._answering.left.set_result(None)
        self._server.disconnected(self)
        self._task.cancel()

    def abort(self) -> asyncio.Task[None]:
        """Tear it down; the task that served it, as it ends."""
        # Not the client's doing.
        self._answering = None
        self._transport.abort()
        self._task.cancel()
        return self._task

    async def _serve(self) -> None:
        while True:
            recorded = await self._read_request()
            self._answering = recorded
            with _closed_on_failure(self._transport):
                await self._play(self._server.reply_to(recorded), recorded)

    async def _read_request(self) -> Recorded:
        head = await self._read_until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").splitlines()
        method, path, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await self._read_bytes(int(headers.get("content-length", 0)))
        self._request_count += 1
        return Recorded(method, path, headers, body, is_new_connection=self._request_count == 1)

    async def _read_until(self, mark: bytes) -> bytes:
        while (end := self._received.find(mark)) < 0:
            await self._wait_for_news()
        return await self._read_bytes(end + len(mark))

    async def _read_bytes(self, count: int) -> bytes:
        while len(self._received) < count:
            await self._wait_for_news()
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    async def _wait_for_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _play(self, reply: Reply, recorded: Recorded) -> None:
        for step in reply.before:
            await self._take(step, is_chunk=False)
        whole = _whole_body(reply, recorded)
        if whole is not None:
            content_type = reply.content_type if reply.body is not None else "application/json"
            self._answering = None
            self._write_head(reply, content_type, f"content-length: {len(whole)}")
            self._transport.write(whole)
            return
        self._write_head(reply, reply.content_type, "transfer-encoding: chunked")
        for step in reply.steps:
            await self._take(step, is_chunk=True)
        # From here on leaving is no longer leaving early.
        self._answering = None
        self._transport.write(b"0\r\n\r\n")

    def _write_head(self, reply: Reply, content_type: str, framing: str) -> None:
        lines = [
            f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
            f"content-type: {content_type}",
            framing,
            *(f"{name}: {value}" for name, value in reply.headers.items()),
        ]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def _take(self, step: Step, *, is_chunk: bool) -> None:
        match step:
            case bytes():
                self._transport.write(
                    b"%x\r\n%s\r\n" % (len(step), step) if is_chunk else step,
                )
            case Gate():
                step.arrive()
                # Shielded: a client that leaves shall not spoil the test's gate.
                await asyncio.shield(asyncio.wrap_future(step.opened))
            case Drop():
                self._answering = None
                self._transport.close()
                await asyncio.get_running_loop().create_future()
            case pause_seconds:
                await asyncio.sleep(pause_seconds)


@contextmanager
def _closed_on_failure(transport: asyncio.Transport) -> Iterator[None]:
    """A script that breaks must not leave its client waiting."""
    try:
        yield
    except Exception:
        transport.abort()
        raise


def _whole_body(reply: Reply, recorded: Recorded) -> bytes | None:
    """The body where it is sent at once: errors, and answers that are not streamed."""
    if reply.body is not None:
        return reply.body
    is_streamed = recorded.method == "POST" and recorded.body.get("stream") is True
    if reply.whole is not None and (reply.is_json or not is_streamed):
        return json.dumps(reply.whole).encode()
    return None


def _models_reply(models: tuple[str, ...]) -> Reply:
    listed = [
        {"id": model, "object": "model", "created": 1, "owned_by": "fake"} for model in models
    ]
    return Reply(whole={"object": "list", "data": listed})


async def _main(port: int) -> None:
    server = ModelServer()
    await server.open(port)
    print(server.url, flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
