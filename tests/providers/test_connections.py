"""What lies between the provider and a model server: sockets, proxies, redirects, framing."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rethread.contract.chat import ChatMessage, ChatRequest, Chunk
from rethread.errors import ModelError, Unavailable
from rethread.providers.chat import ChatCompletions
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import DONE, Gate, chunk, failure, openai_error, raw, text

ASKED = ChatRequest(model="m", messages=[ChatMessage(role="user", content="Hi")])
ANSWER = chunk({"content": "Hi"}, "stop") + DONE
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """A server of raw bytes, for what no HTTP server would do; its base URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def connected(url: str, **settings: Any) -> AsyncIterator[ChatCompletions]:
    provider = ChatCompletions(base_url=url, **{"backoff_seconds": 0.001, **settings})
    try:
        yield provider
    finally:
        await provider.aclose()


async def read(provider: ChatCompletions, request: ChatRequest = ASKED) -> list[Chunk]:
    return [chunk async for chunk in provider.stream(request)]


def words(chunks: list[Chunk]) -> str:
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    return "".join(delta.content for delta in deltas if delta is not None and delta.content)


def frame(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


async def request_head(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


def answering(*pieces: bytes) -> Serve:
    """Answers once, in these pieces, and leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return serve


# --- connections that are kept


async def test_a_kept_connection_that_the_server_has_closed_is_no_failure() -> None:
    left = asyncio.Event()
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await request_head(reader)
        writer.write(CHUNKED + frame(ANSWER) + b"0\r\n\r\n")
        if count == 1:
            writer.close()
            await writer.wait_closed()
            left.set()
            return
        await reader.read()

    async with listening(serve) as url, connected(url, max_attempts=1) as provider:
        assert words(await read(provider)) == "Hi"
        await left.wait()
        await asyncio.sleep(0)
        assert words(await read(provider)) == "Hi"
    assert count == 2


async def test_a_kept_connection_that_closes_upon_a_call_is_tried_again() -> None:
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        head = await request_head(reader)
        await reader.readexactly(int(head.lower().split("content-length: ")[1].split("\r\n")[0]))
        writer.write(CHUNKED + frame(ANSWER) + b"0\r\n\r\n")
        # The next call finds the connection open, and is never answered on it.
        await reader.read(1)

    async with listening(serve) as url, connected(url, max_attempts=2) as provider:
        assert words(await read(provider)) == "Hi"
        assert words(await read(provider)) == "Hi"
    assert count == 2


async def test_closing_the_provider_fails_the_streams_that_are_under_way() -> None:
    async with ModelServer() as server:
        server.replies.append(text("a", "b").then(Gate(), after=1))
        async with connected(server.url) as provider:
            stream = provider.stream(ASKED)
            assert words([await anext(stream)]) == "a"
            rest = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            await provider.aclose()
            with pytest.raises(ModelError):
                await asyncio.wait_for(rest, 10)
            with pytest.raises(ModelError, match="are closed"):
                await read(provider)
            with pytest.raises(Unavailable, match="are closed"):
                await provider.models()


async def test_no_cookie_travels_from_one_call_to_the_next() -> None:
    async with (
        ModelServer() as server,
        connected(server.url.replace("127.0.0.1", "localhost")) as provider,
    ):
        server.replies.append(raw(ANSWER, content_type="text/event-stream\r\nset-cookie: a=b"))
        await read(provider)
        await read(provider)
        assert "cookie" not in server.requests[1].headers


# --- the request


async def test_a_large_prompt_arrives_whole() -> None:
    request = ChatRequest(model="m", messages=[ChatMessage(role="user", content="x" * 3_000_000)])
    async with ModelServer() as server, connected(server.url) as provider:
        await read(provider, request)
        assert len(server.requests[0].body["messages"][0]["content"]) == 3_000_000


async def test_a_server_that_does_not_take_the_prompt_is_given_up() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.get_running_loop().create_future()

    request = ChatRequest(model="m", messages=[ChatMessage(role="user", content="x" * 30_000_000)])
    limits = {"connect_timeout_seconds": 0.1, "stall_timeout_seconds": 0.1, "max_attempts": 1}
    async with listening(serve) as url, connected(url, **limits) as provider:
        with pytest.raises(ModelError, match=r"sent nothing for 0\.1 s"):
            await asyncio.wait_for(read(provider, request), 20)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_told_and_not_followed(status: int) -> None:
    async with ModelServer() as server, connected(server.url) as provider:
        headers = {"location": f"{server.url}/chat/completions"}
        server.replies.append(failure(status, headers=headers))
        with pytest.raises(ModelError, match=f"answered with status {status}"):
            await read(provider)
        assert len(server.requests) == 1
        server.models_reply = failure(status, headers={"location": f"{server.url}/models"})
        with pytest.raises(Unavailable, match=f"answered with status {status}"):
            await provider.models()
        assert len(server.models_requests) == 1


async def test_a_server_that_refuses_stream_options_is_asked_without() -> None:
    told = openai_error("Unrecognized request argument supplied: stream_options")
    async with ModelServer() as server, connected(server.url, max_attempts=1) as provider:
        server.replies.extend([failure(400, told), text("a"), text("b")])
        assert words(await read(provider)) == "a"
        assert words(await read(provider)) == "b"
        assert ["stream_options" in request.body for request in server.requests] == [
            True,
            False,
            False,
        ]


async def test_a_refusal_that_only_echoes_stream_options_is_told_and_forgotten() -> None:
    async with ModelServer() as server, connected(server.url) as provider:
        for _ in range(2):
            server.replies.append(failure(422, {"detail": "no model; input: {stream_options}"}))
        with pytest.raises(ModelError, match="status 422: no model"):
            await read(provider)
        assert len(server.requests) == 2
        await read(provider)
        assert "stream_options" in server.requests[2].body


# --- the way to the server


async def proxied(heads: list[str]) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await request_head(reader))
        writer.write(CHUNKED + frame(ANSWER) + b"0\r\n\r\n")
        await reader.read()

    return serve


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
async def test_the_proxy_of_the_environment_is_asked(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    heads: list[str] = []
    async with listening(await proxied(heads)) as url:
        environment.setenv(name, url.removesuffix("/v1").replace("//", "//user:pass@"))
        async with connected("http://model.invalid/v1") as provider:
            assert words(await read(provider)) == "Hi"
    assert heads[0].startswith("POST http://model.invalid/v1/chat/completions ")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in heads[0]


async def test_no_proxy_is_obeyed(environment: pytest.MonkeyPatch) -> None:
    heads: list[str] = []
    async with listening(await proxied(heads)) as url:
        environment.setenv("http_proxy", url)
        environment.setenv("no_proxy", "model.invalid")
        async with connected("http://model.invalid/v1", max_attempts=1) as provider:
            with pytest.raises(ModelError, match=r"at model\.invalid can't be reached"):
                await read(provider)
    assert heads == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
async def test_no_proxy_is_asked_for_this_machine(
    environment: pytest.MonkeyPatch, host: str
) -> None:
    environment.setenv("http_proxy", "http://192.0.2.1:9")
    environment.setenv("ALL_PROXY", "http://192.0.2.1:9")
    async with listening(await proxied([])) as url:
        here = url.replace("127.0.0.1", host)
        async with connected(here, max_attempts=1, connect_timeout_seconds=2.0) as provider:
            if host == "127.0.0.2":
                # Not everywhere an address; the proxy would be silent, this one refuses at once.
                with pytest.raises(ModelError, match=r"at 127\.0\.0\.2:\d+ can't be reached"):
                    await read(provider)
            else:
                assert words(await read(provider)) == "Hi"


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "socks5://127.0.0.1:1"])
async def test_a_proxy_that_cannot_be_asked_is_told(
    environment: pytest.MonkeyPatch, proxy: str
) -> None:
    environment.setenv("ALL_PROXY", proxy)
    for scheme in ("http", "https"):
        async with connected(f"{scheme}://model.invalid/v1", max_attempts=1) as provider:
            with pytest.raises(ModelError, match=r"model\.invalid can't be reached"):
                await read(provider)


async def test_a_server_without_tls_behind_https_is_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        await reader.read()

    async with (
        listening(serve) as url,
        connected(url.replace("http:", "https:"), max_attempts=1) as provider,
    ):
        with pytest.raises(ModelError, match="can't be reached"):
            await read(provider)


# --- the answer


async def test_a_compressed_answer_is_understood() -> None:
    body = gzip.compress(ANSWER)
    head = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with listening(answering(head + body)) as url, connected(url) as provider:
        assert words(await read(provider)) == "Hi"


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ((b"SSH-2.0-OpenSSH_9.9\r\n\r\n",), "answer can't be read"),
        (
            (HEAD + b"content-encoding: gzip\r\ncontent-length: 9\r\n\r\nnot gzip!",),
            "can't be read",
        ),
        ((CHUNKED + b"oops\r\noops",), "can't be read"),
        ((CHUNKED + frame(chunk({"content": "a"})) + b"oops\r\n",), "can't be read"),
        ((CHUNKED + frame(chunk({"content": "a"})) + b"fff\r\ndata",), "in the middle"),
        ((HEAD + b"content-length: 999\r\n\r\n" + chunk({"content": "a"}),), "in the middle"),
    ],
    ids=["no http", "no gzip", "no chunk", "no next chunk", "cut chunk", "cut body"],
)
async def test_broken_http_is_told_and_never_hangs(pieces: tuple[bytes, ...], told: str) -> None:
    async with listening(answering(*pieces)) as url, connected(url, max_attempts=2) as provider:
        with pytest.raises(ModelError, match=told):
            await asyncio.wait_for(read(provider), 10)


@pytest.mark.parametrize("is_heard", [False, True])
async def test_broken_framing_in_an_open_connection_never_hangs(*, is_heard: bool) -> None:
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(CHUNKED + frame(chunk({"content": "a"}) if is_heard else b": alive\n\n"))
        await go_on.wait()
        writer.write(b"oops\r\noops\r\n")
        await reader.read()

    async with listening(serve) as url, connected(url, max_attempts=1) as provider:
        stream = provider.stream(ASKED)
        if is_heard:
            assert words([await anext(stream)]) == "a"
        next_one = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)  # the head is read by itself
        go_on.set()
        with pytest.raises(ModelError, match="in the middle" if is_heard else "without an answer"):
            await asyncio.wait_for(next_one, 10)


async def test_an_answer_may_end_with_its_connection() -> None:
    async with listening(answering(HEAD + b"\r\n", ANSWER)) as url, connected(url) as provider:
        assert words(await read(provider)) == "Hi"


async def test_what_came_before_a_break_is_heard_though_the_listener_was_slow() -> None:
    busy = asyncio.Event()
    broken = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(CHUNKED + frame(chunk({"content": "a"})))
        await busy.wait()
        writer.write(frame(chunk({"content": "b"}, "stop")))
        writer.close()
        await writer.wait_closed()
        broken.set()

    async with listening(serve) as url, connected(url) as provider:
        stream = provider.stream(ASKED)
        heard = [await anext(stream)]
        busy.set()
        await broken.wait()
        for _ in range(10):
            await asyncio.sleep(0.01)  # the break reaches us, while nobody listens
        heard.extend([chunk async for chunk in stream])
    assert words(heard) == "ab"


async def test_null_for_the_choices_is_none() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    nothing = b'data: {"choices": null}\n\n'
    counted = b"data: " + json.dumps({"choices": None, "usage": usage}).encode() + b"\n\n"
    async with ModelServer() as server, connected(server.url) as provider:
        server.replies.append(raw(nothing, chunk({"content": "Hi"}, "stop"), counted, DONE))
        chunks = await read(provider)
    assert words(chunks) == "Hi"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 3
    assert len(chunks) == 2
