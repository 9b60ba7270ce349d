"""The provider over HTTP, against a server on a real socket that has every bad habit we know."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from rethread.contract.chat import ChatMessage, ChatRequest, ChatUsage, Chunk, ToolCallDelta
from rethread.errors import ModelError, ModelErrorCode, Unavailable
from rethread.providers import upstream_errors
from rethread.providers.chat import ChatCompletions
from rethread.providers.chat_stream import Records
from rethread.providers.upstream_errors import AttemptError
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import (
    DONE,
    DROP,
    Call,
    CallShape,
    Gate,
    Reply,
    chunk,
    dropped,
    failure,
    openai_error,
    raw,
    record,
    refusal,
    text,
    tool_calls,
)
from tests.ports import kept_port

ASKED = ChatRequest(model="m", messages=[ChatMessage(role="user", content="Hi")])
HELLO = ["Hello", " from the model."]
CUT = "stream stopped in the middle of the answer"


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@asynccontextmanager
async def connected(server: ModelServer, **settings: Any) -> AsyncIterator[ChatCompletions]:
    """A provider that waits for milliseconds where the real one waits for seconds."""
    provider = ChatCompletions(base_url=server.url, **{"backoff_seconds": 0.001, **settings})
    try:
        yield provider
    finally:
        await provider.aclose()


async def read(provider: ChatCompletions, request: ChatRequest = ASKED) -> list[Chunk]:
    return [chunk async for chunk in provider.stream(request)]


def words(chunks: list[Chunk]) -> list[str]:
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    return [delta.content for delta in deltas if delta is not None and delta.content]


def calls(chunks: list[Chunk]) -> list[ToolCallDelta]:
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    return [call for delta in deltas if delta is not None for call in delta.tool_calls or []]


def finish_reasons(chunks: list[Chunk]) -> list[str]:
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    return [reason for reason in reasons if reason]


async def refused(server: ModelServer, reply: Reply, **settings: Any) -> ModelError:
    """The error that one such reply ends in, without another attempt."""
    server.replies.append(reply)
    async with connected(server, **{"max_attempts": 1, **settings}) as provider:
        with pytest.raises(ModelError) as caught:
            await read(provider)
    return caught.value


# --- the request


async def test_a_call_asks_for_a_stream_with_usage(server: ModelServer) -> None:
    request = ChatRequest(
        model="m",
        messages=[ChatMessage(role="user", content="Hi")],
        temperature=0.5,
        max_completion_tokens=7,
    )
    async with connected(server, api_key="sk-secret") as provider:
        await read(provider, request)
    assert server.requests[0].path == "/v1/chat/completions"
    assert server.requests[0].headers["authorization"] == "Bearer sk-secret"
    assert server.requests[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_the_token_limit_goes_by_the_name_that_the_server_knows(server: ModelServer) -> None:
    request = ChatRequest(model="m", messages=[], max_completion_tokens=7)
    async with connected(server, token_limit_field="max_completion_tokens") as provider:
        await read(provider, request)
    assert server.requests[0].body["max_completion_tokens"] == 7
    assert "max_tokens" not in server.requests[0].body


async def test_azure_gets_its_version_in_the_query_and_the_key_in_its_header(
    server: ModelServer,
) -> None:
    async with connected(server, api_key="k", api_version="2024-10-21") as provider:
        await read(provider)
    assert server.requests[0].path == "/v1/chat/completions?api-version=2024-10-21"
    assert server.requests[0].headers["api-key"] == "k"
    assert "authorization" not in server.requests[0].headers


async def test_without_a_key_no_authorization_is_sent(server: ModelServer) -> None:
    async with connected(server) as provider:
        await read(provider)
    assert "authorization" not in server.requests[0].headers


async def test_a_proxy_from_the_environment_is_not_used_for_loopback(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with connected(server) as provider:
        assert words(await read(provider)) == HELLO


# --- answers


async def test_chunks_come_in_order_and_the_usage_last(server: ModelServer) -> None:
    server.replies.append(text("Hel", "lo", ", you"))
    async with connected(server) as provider:
        chunks = await read(provider)
    assert words(chunks) == ["Hel", "lo", ", you"]
    assert finish_reasons(chunks) == ["stop"]
    assert chunks[-1].usage == ChatUsage(prompt_tokens=10, completion_tokens=3, total_tokens=13)


async def test_a_chunk_is_heard_as_soon_as_it_was_sent(server: ModelServer) -> None:
    gate = Gate()
    server.replies.append(text("one", "two").then(gate, after=1))
    async with connected(server) as provider:
        stream = provider.stream(ASKED)
        assert words([await anext(stream)]) == ["one"]
        gate.open()
        assert words([chunk async for chunk in stream]) == ["two"]


async def test_slow_tokens_are_not_a_stall(server: ModelServer) -> None:
    server.replies.append(text(*"abcdefghij", seconds_between=0.06))
    async with connected(server, stall_timeout_seconds=0.5) as provider:
        assert words(await read(provider)) == list("abcdefghij")


async def test_an_answer_may_be_empty(server: ModelServer) -> None:
    server.replies.append(text())
    async with connected(server) as provider:
        chunks = await read(provider)
    assert words(chunks) == []
    assert finish_reasons(chunks) == ["stop"]


async def test_content_in_parts_is_read_without_the_thoughts_in_it(server: ModelServer) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    said: list[Any] = [[thought], [thought, {"type": "text", "text": "Hel"}], "lo"]
    whole = [thought, {"type": "text", "text": "Hello"}]
    completion = {"choices": [{"message": {"content": whole}, "finish_reason": "stop"}]}
    server.replies += [
        raw(*(chunk({"content": content}) for content in said), chunk({}, "stop"), DONE),
        Reply(whole=completion, is_json=True),
    ]
    async with connected(server) as provider:
        assert words(await read(provider)) == ["Hel", "lo"]
        assert words(await read(provider)) == ["Hello"]
    assert len(server.requests) == 2


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_the_reason_for_the_end_is_passed_on(server: ModelServer, reason: str) -> None:
    server.replies.append(text("Hel", finish_reason=reason))
    async with connected(server) as provider:
        assert finish_reasons(await read(provider)) == [reason]


async def test_a_refusal_is_passed_on(server: ModelServer) -> None:
    server.replies.append(refusal("I ", "won't"))
    async with connected(server) as provider:
        chunks = await read(provider)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert [delta.refusal for delta in deltas if delta and delta.refusal] == ["I ", "won't"]


@pytest.mark.parametrize("shape", ["standard", "no_index", "index_zero", "no_id", "whole"])
async def test_calls_are_passed_on_in_the_shape_that_they_came(
    server: ModelServer, shape: CallShape
) -> None:
    server.replies.append(
        tool_calls(Call("c1", "add", '{"a": 1}'), Call("c2", "sub", '{"b": 2}'), shape=shape)
    )
    async with connected(server) as provider:
        heard = calls(await read(provider))
    named = [call for call in heard if call.function and call.function.name]
    assert [call.function.name for call in named if call.function] == ["add", "sub"]
    assert [call.id for call in named] == ([None, None] if shape == "no_id" else ["c1", "c2"])
    expected = {"no_index": [None, None], "index_zero": [0, 0]}.get(shape, [0, 1])
    assert [call.index for call in named] == expected
    arguments = "".join(call.function.arguments or "" for call in heard if call.function)
    assert arguments == '{"a": 1}{"b": 2}'


async def test_a_server_that_passes_over_stream_is_understood(server: ModelServer) -> None:
    server.replies.extend([text("Hel", "lo").as_json(), tool_calls(Call("c", "f", "{}")).as_json()])
    async with connected(server) as provider:
        spoken = await read(provider)
        called = await read(provider)
    assert words(spoken) == ["Hello"]
    assert finish_reasons(spoken) == ["stop"]
    assert spoken[-1].usage == ChatUsage(prompt_tokens=10, completion_tokens=2, total_tokens=12)
    [call] = calls(called)
    assert (call.index, call.id) == (0, "c")
    assert finish_reasons(called) == ["tool_calls"]


async def test_a_server_that_counts_nothing_is_understood(server: ModelServer) -> None:
    server.replies.append(text("Hi").without_usage())
    async with connected(server) as provider:
        chunks = await read(provider)
    assert words(chunks) == ["Hi"]
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_finished_answer_needs_no_done(server: ModelServer) -> None:
    server.replies.append(text("Hi").without_done())
    async with connected(server) as provider:
        assert words(await read(provider)) == ["Hi"]


async def test_done_needs_no_finish_reason(server: ModelServer) -> None:
    server.replies.append(raw(chunk({"content": "Hi"}), DONE))
    async with connected(server) as provider:
        assert words(await read(provider)) == ["Hi"]


async def test_a_finished_answer_may_end_with_a_broken_connection(server: ModelServer) -> None:
    server.replies.append(text("Hi").then(DROP, after=2))
    async with connected(server) as provider:
        assert words(await read(provider)) == ["Hi"]


async def test_a_finished_answer_may_end_inside_a_record(server: ModelServer) -> None:
    server.replies.append(raw(chunk({"content": "Hi"}, "stop"), b'data: {"usage": {"promp'))
    async with connected(server) as provider:
        assert words(await read(provider)) == ["Hi"]


async def test_a_finished_answer_is_not_held_up_by_a_silent_server(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rethread.providers.answers.AFTER_FINISH_SECONDS", 0.01)
    server.replies.append(text("Hi").then(Gate(), after=2))
    async with connected(server) as provider:
        assert words(await read(provider)) == ["Hi"]


async def test_done_is_not_held_up_by_a_body_that_never_ends(server: ModelServer) -> None:
    server.replies.append(raw(chunk({"content": "Hi"}), DONE, Gate()))
    async with connected(server) as provider:
        async with asyncio.timeout(10):
            assert words(await read(provider)) == ["Hi"]


HI = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'


@pytest.mark.parametrize(
    "body",
    [
        b'data:{"choices":[{"delta":{"content":"Hi"}}]}\n\ndata:[DONE]\n\n',
        b'data: {"choices":[{"delta":{"content":"Hi"}}]}\r\n\r\ndata: [DONE]\r\n\r\n',
        b'data: {"choices":[{"delta":{"content":"Hi"}}]}\ndata: [DONE]\n',
        b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}',
        b": PROCESSING\n\nevent: x\nid: 1\nretry: 5\n" + HI + DONE,
        b'data: {"choices":[]}\n\ndata: \n\n' + HI + DONE + b"not looked at",
    ],
    ids=["no space", "crlf", "no empty line", "no last newline", "other fields", "empty records"],
)
async def test_the_dialects_of_streams_are_understood(server: ModelServer, body: bytes) -> None:
    server.replies.append(raw(body))
    async with connected(server) as provider:
        assert words(await read(provider)) == ["Hi"]


async def test_a_record_may_arrive_byte_by_byte(server: ModelServer) -> None:
    whole = chunk({"content": "Grüße 👋"}) + DONE
    server.replies.append(raw(*(bytes([byte]) for byte in whole)))
    async with connected(server) as provider:
        assert words(await read(provider)) == ["Grüße 👋"]


async def test_the_word_error_in_an_answer_is_no_error(server: ModelServer) -> None:
    server.replies.append(text("error", '{"error": "x"}'))
    async with connected(server) as provider:
        assert words(await read(provider)) == ["error", '{"error": "x"}']


# --- connections


async def test_one_connection_serves_call_after_call(server: ModelServer) -> None:
    async with connected(server) as provider:
        for _ in range(3):
            await read(provider)
    assert server.connection_count == 1


async def test_many_streams_run_at_once(server: ModelServer) -> None:
    gate = Gate()
    server.answer = lambda body: text("a", "b").then(gate, after=1)
    async with connected(server) as provider:
        streams = [asyncio.create_task(read(provider)) for _ in range(256)]
        await server.request(256)
        gate.open()
        answers = await asyncio.gather(*streams)
    assert all(words(chunks) == ["a", "b"] for chunks in answers)


async def test_leaving_a_stream_closes_its_connection(server: ModelServer) -> None:
    server.replies.append(text("a", "b").then(Gate(), after=1))
    async with connected(server) as provider:
        stream = provider.stream(ASKED)
        await anext(stream)
        await stream.aclose()
        await server.requests[0].until_left()


async def test_cancelling_a_call_closes_its_connection(server: ModelServer) -> None:
    server.replies.append(text("a").first(Gate()))
    async with connected(server) as provider:
        reading = asyncio.create_task(read(provider))
        recorded = await server.request(1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await recorded.until_left()


# --- trying again


@pytest.mark.parametrize(
    "fault",
    [
        dropped(),
        raw(),
        raw(b": nothing yet\n\n"),
        text("Hi").then(DROP, after=0),
        failure(408),
        failure(409),
        failure(429),
        failure(500),
        failure(503, openai_error("The model is loading.")),
        raw(record({"error": {"message": "Upstream is down", "code": 502}})),
    ],
    ids=lambda reply: f"{reply.status}, {len(reply.steps)} steps",
)
async def test_a_fault_before_the_first_chunk_is_tried_again(
    server: ModelServer, fault: Reply
) -> None:
    server.replies.extend([fault, fault])
    async with connected(server) as provider:
        assert words(await read(provider)) == HELLO
    assert len(server.requests) == 3


@pytest.mark.parametrize("makes_silent", [text("Hi").first, lambda g: text("Hi").then(g, after=0)])
async def test_a_stall_before_the_first_chunk_is_tried_again(
    server: ModelServer, makes_silent: Callable[[Gate], Reply]
) -> None:
    server.replies.append(makes_silent(Gate()))
    async with connected(server, stall_timeout_seconds=0.3) as provider:
        assert words(await read(provider)) == HELLO
    assert len(server.requests) == 2


async def test_attempts_come_to_an_end(server: ModelServer) -> None:
    server.answer = lambda body: failure(500, openai_error("Out of memory"))
    async with connected(server, max_attempts=3) as provider:
        with pytest.raises(ModelError, match="status 500: Out of memory"):
            await read(provider)
    assert len(server.requests) == 3


async def test_a_server_that_is_not_there_is_named() -> None:
    nowhere = ModelServer()
    with kept_port() as nowhere.port:
        async with connected(nowhere, max_attempts=2) as provider:
            with pytest.raises(ModelError, match=f"at 127.0.0.1:{nowhere.port} can't be reached"):
                await read(provider)


@pytest.mark.parametrize(
    "fault",
    [record({"error": {"message": "Upstream is down", "code": 502}}), DROP],
    ids=["error", "cut"],
)
async def test_a_chunk_that_says_nothing_is_no_answer_yet(server: ModelServer, fault: Any) -> None:
    opening = chunk({"role": "assistant", "content": ""})
    server.replies.append(raw(opening, fault))
    async with connected(server) as provider:
        assert words(await read(provider)) == HELLO
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [
        chunk({"content": "!"})[:20],
        record({"error": {"message": "Upstream is down", "code": 502}}),
        DROP,
    ],
    ids=["garbage", "error", "cut"],
)
async def test_after_the_first_chunk_nothing_is_tried_again(
    server: ModelServer, fault: Any
) -> None:
    server.replies.append(text("a", "b").then(fault, after=1))
    async with connected(server) as provider:
        stream = provider.stream(ASKED)
        assert words([await anext(stream)]) == ["a"]
        with pytest.raises(ModelError):
            await anext(stream)
    assert len(server.requests) == 1


async def test_retry_after_is_obeyed_in_place_of_the_backoff(server: ModelServer) -> None:
    server.replies.append(failure(429, headers={"retry-after-ms": "1", "retry-after": "59"}))
    async with connected(server, backoff_seconds=60) as provider:
        assert words(await read(provider)) == HELLO


async def test_a_server_that_asks_for_too_long_a_wait_is_given_up(server: ModelServer) -> None:
    server.replies.append(failure(429, openai_error("Slow down"), headers={"retry-after": "61"}))
    async with connected(server) as provider:
        with pytest.raises(ModelError, match="Slow down") as caught:
            await read(provider)
    assert caught.value.code == "rate_limit_exceeded"
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_what_is_wrong_for_good_is_not_tried_again(server: ModelServer, status: int) -> None:
    server.answer = lambda body: failure(status, openai_error("No."))
    async with connected(server) as provider:
        with pytest.raises(ModelError, match=f"status {status}: No\\."):
            await read(provider)
    assert len(server.requests) == 1


async def test_a_spent_quota_is_not_tried_again(server: ModelServer) -> None:
    server.answer = lambda body: failure(429, openai_error("Pay.", code="insufficient_quota"))
    async with connected(server) as provider:
        with pytest.raises(ModelError, match=r"Pay\.") as caught:
            await read(provider)
    assert caught.value.code == "rate_limit_exceeded"
    assert len(server.requests) == 1


NOW = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=30), usegmt=True)}, 30.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=30), usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert upstream_errors.of_status(429, headers, b"", now=NOW).asked_wait_seconds == seconds


def test_the_backoff_doubles_up_to_eight_seconds() -> None:
    for attempt, longest in [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (9, 8)]:
        waits = [upstream_errors.backoff_seconds(attempt, base_seconds=0.5) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


# --- what is told of a failure


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (openai_error("Bad thing."), "Bad thing."),
        ({"error": "model 'x' not found"}, "model 'x' not found"),
        ({"detail": "Not authenticated"}, "Not authenticated"),
        ({"detail": [{"msg": "field required"}]}, '[{"msg":"field required"}]'),
        ({"object": "error", "message": "Too big.", "code": 400}, "Too big."),
        ("upstream timed out\n", "upstream timed out"),
        ("", "Bad Request"),
        ("x" * 501, "x" * 500 + "…"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
async def test_the_servers_own_words_are_told(server: ModelServer, body: Any, told: str) -> None:
    error = await refused(server, failure(400, body))
    assert error.message == f"The model server answered with status 400: {told}"


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (429, "", "rate_limit_exceeded"),
        (400, openai_error("x", code="context_length_exceeded"), "invalid_prompt"),
        (400, openai_error("x", code="content_filter"), "invalid_prompt"),
        (400, openai_error("x", type="exceed_context_size_error"), "invalid_prompt"),
        (400, openai_error("x", code="invalid_prompt"), "invalid_prompt"),
        (400, {"message": "maximum context length is 4096 tokens"}, "invalid_prompt"),
        (413, "", "invalid_prompt"),
        (400, openai_error("Unknown parameter"), "server_error"),
        (401, openai_error("Incorrect API key"), "server_error"),
        (404, {"error": "model not found"}, "server_error"),
        (500, openai_error("x", code="content_filter"), "server_error"),
    ],
)
async def test_a_status_becomes_the_code_of_a_runs_last_error(
    server: ModelServer, status: int, body: Any, code: ModelErrorCode
) -> None:
    assert (await refused(server, failure(status, body))).code == code


async def test_the_key_is_never_told(server: ModelServer) -> None:
    reply = failure(401, openai_error("Incorrect API key provided: sk-secret"))
    error = await refused(server, reply, api_key="sk-secret")
    assert error.message.endswith("Incorrect API key provided: [API key]")


async def test_an_error_in_the_stream_is_told(server: ModelServer) -> None:
    reply = text("a", "b").then(record(openai_error("CUDA out of memory")), after=1)
    error = await refused(server, reply)
    assert error.message == "The model server reported an error in its stream: CUDA out of memory"


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"error": {"message": "Slow down", "code": 429}}, "rate_limit_exceeded"),
        ({"error": {"message": "x", "code": "context_length_exceeded"}}, "invalid_prompt"),
        ({"object": "error", "message": "context length", "code": 400}, "invalid_prompt"),
        ({"error": "exploded"}, "server_error"),
        (
            {
                "error": {"message": "gone", "code": "502"},
                "choices": [{"delta": {"content": ""}, "finish_reason": "error"}],
            },
            "server_error",
        ),
    ],
)
async def test_an_error_in_the_stream_has_a_code(
    server: ModelServer, told: Any, code: ModelErrorCode
) -> None:
    assert (await refused(server, raw(record(told)))).code == code


async def test_an_error_without_data_before_it_is_told(server: ModelServer) -> None:
    error = await refused(server, raw(json.dumps({"error": "exploded"}).encode() + b"\n"))
    assert error.message.endswith("in its stream: exploded")


@pytest.mark.parametrize(
    "line", [b"data: {oops\n\n", b"data: [1]\n\n", b'data: {"choices": 3}\n\n', b"\x00oops\n"]
)
async def test_garbage_is_told(server: ModelServer, line: bytes) -> None:
    error = await refused(server, text("a", "b").then(line, after=1))
    assert error.message.startswith("The model server sent something that is not a chunk: ")


async def test_bytes_that_are_no_text_are_garbage(server: ModelServer) -> None:
    error = await refused(server, raw(b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'))
    assert "not a chunk" in error.message


async def test_a_whole_answer_that_is_none_is_garbage(server: ModelServer) -> None:
    error = await refused(server, raw(b'{"hello": 1}', content_type="application/json"))
    assert "not a chunk" in error.message


async def test_an_error_with_a_good_status_is_told(server: ModelServer) -> None:
    error = await refused(server, raw(b'{"error": "no"}', content_type="application/json"))
    assert error.message.endswith("in its stream: no")


async def test_a_web_page_is_told(server: ModelServer) -> None:
    error = await refused(server, raw(b"<html>", content_type="text/html; charset=utf-8"))
    assert error.message == "The model server answered with a web page: wrong address?"


async def test_a_cut_is_told(server: ModelServer) -> None:
    assert CUT in (await refused(server, text("a", "b").then(DROP, after=1))).message


async def test_an_end_without_a_reason_is_a_cut(server: ModelServer) -> None:
    assert CUT in (await refused(server, raw(chunk({"content": "a"})))).message


async def test_an_end_inside_a_record_is_a_cut(server: ModelServer) -> None:
    reply = raw(chunk({"content": "a"}), chunk({"content": "b"})[:-9])
    assert CUT in (await refused(server, reply)).message


async def test_an_error_in_a_line_without_end_is_told(server: ModelServer) -> None:
    error = await refused(server, raw(b'data: {"error": "exploded"}'))
    assert error.message.endswith("in its stream: exploded")


async def test_no_answer_is_told(server: ModelServer) -> None:
    error = await refused(server, dropped())
    assert error.message == "The model server closed the connection without an answer."


@pytest.mark.parametrize("after", [0, 1])
async def test_a_stall_is_told(server: ModelServer, after: int) -> None:
    reply = text("a", "b").then(Gate(), after=after)
    error = await refused(server, reply, stall_timeout_seconds=0.05)
    assert error.message == "The model server sent nothing for 0.05 s."


def test_a_line_without_end_is_refused() -> None:
    records = Records(longest_line_bytes=100)
    assert list(records.feed(b"data: " + b"x" * 90)) == []
    with pytest.raises(AttemptError, match="a line of more than 100 bytes"):
        list(records.feed(b"x" * 90))


async def test_what_came_before_garbage_is_heard(server: ModelServer) -> None:
    server.replies.append(raw(chunk({"content": "a"}) + b"data: oops\n\n"))
    async with connected(server) as provider:
        stream = provider.stream(ASKED)
        assert words([await anext(stream)]) == ["a"]
        with pytest.raises(ModelError, match="not a chunk: oops"):
            await anext(stream)


# --- the list of models


async def test_models_are_listed() -> None:
    async with ModelServer(models=("one", "two")) as server, connected(server) as provider:
        assert await provider.models() == ["one", "two"]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (failure(401, openai_error("Bad key sk-secret")), r"status 401: Bad key \[API key\]"),
        (failure(500), "status 500: Internal Server Error"),
        (raw(b'{"hello": 1}'), "list of models can't be read"),
        (raw(b"<html>"), "list of models can't be read"),
        (dropped(), "closed the connection"),
    ],
)
async def test_a_server_that_cannot_list_its_models_is_unavailable(
    server: ModelServer, reply: Reply, told: str
) -> None:
    server.models_reply = reply
    async with connected(server, api_key="sk-secret") as provider:
        with pytest.raises(Unavailable, match=told):
            await provider.models()


async def test_a_list_of_models_that_does_not_come_is_unavailable(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rethread.providers.chat.MODELS_TIMEOUT_SECONDS", 0.05)
    server.models_reply = raw().first(Gate())
    async with connected(server) as provider:
        with pytest.raises(Unavailable, match=r"did not list its models in 0\.05 s"):
            await provider.models()


# --- the fake itself


def test_the_fake_server_runs_in_a_thread_too() -> None:
    async def ask(server: ModelServer) -> list[Chunk]:
        async with connected(server) as provider:
            return await read(provider)

    with ModelServer.start_in_thread() as server:
        server.answer = lambda body: text(body["messages"][-1]["content"] + "!")
        assert words(asyncio.run(ask(server))) == ["Hi!"]
        assert server.wait_for_request(1).body["model"] == "m"
