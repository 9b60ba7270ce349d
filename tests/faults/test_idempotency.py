"""A request that is sent again makes one object, whichever part of its answer was lost.

With an `Idempotency-Key` for a day; without one for a minute, for what stock SDKs send again
by themselves after a connection was cut before, during or behind the answer.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.beta.threads import Run

from rethread.store import keys
from rethread.store.database import open_database
from tests.fakes.replies import MODEL, Call, Gate, text, tool_calls
from tests.faults.proxy import Cut, CuttingProxy, Hold
from tests.faults.scene import (
    PATIENCE_SECONDS,
    WEATHER,
    Scene,
    parsed,
    post,
    stock_client,
    together,
)
from tests.server import ServerProcess, running_server

HELLO: Final = {"role": "user", "content": "Hello?"}
CALL: Final = Call("call_1", "get_weather", "{}")
RETRIED: Final = {"x_stainless_retry_count": "1"}


def encoded(asked: Any) -> bytes:
    """The body as always the same bytes."""
    return json.dumps(asked).encode()


def count(server: ServerProcess, table: str, mark: str) -> int:
    """How many rows of a table hold the mark."""
    bodies = server.ask(f"SELECT body FROM {table}")
    return sum(mark.encode() in body for (body,) in bodies)


# --- with a key -------------------------------------------------------------------------------


def test_the_same_key_and_body_get_the_first_answer(scene: Scene) -> None:
    url = f"{scene.server.url}/threads/{scene.thread()}/messages"
    status, _, first = post(url, {**HELLO, "content": "once"}, idempotency_key="message-1")
    assert status == 200
    assert post(url, {**HELLO, "content": "once"}, idempotency_key="message-1")[2] == first
    assert count(scene.server, "messages", "once") == 1


def test_the_same_key_with_another_body_is_a_409_that_is_not_tried_again(scene: Scene) -> None:
    url = f"{scene.server.url}/threads"
    post(url, {"metadata": {"n": "1"}}, idempotency_key="thread-1")
    status, headers, body = post(url, {"metadata": {"n": "2"}}, idempotency_key="thread-1")
    assert status == 409
    assert headers["x-should-retry"] == "false"
    assert (
        b'"message":"The Idempotency-Key \'thread-1\' was used before with another request.' in body
    )
    assert b'"type":"invalid_request_error","param":null,"code":"idempotency_key_reused"' in body


def test_the_same_key_gets_the_same_stream(scene: Scene) -> None:
    url = f"{scene.server.url}/threads/runs"
    asked = {"assistant_id": scene.assistant(), "thread": {"messages": [HELLO]}, "stream": True}
    first = post(url, asked, idempotency_key="stream-1")[2]
    again = post(url, asked, idempotency_key="stream-1")[2]
    assert parsed(first)[-1].name == "done"
    assert parsed(again) == parsed(first)


def test_a_run_that_is_given_again_says_when_to_ask_as_it_did_at_first(scene: Scene) -> None:
    url = f"{scene.server.url}/threads/runs"
    asked = {"assistant_id": scene.assistant(), "thread": {"messages": [HELLO]}}
    first, again = (post(url, asked, idempotency_key="polled-1") for _ in range(2))
    assert first[1]["openai-poll-after-ms"] == again[1]["openai-poll-after-ms"] == "200"
    scene.rest(Run.model_validate_json(first[2]))  # else it would take the next test's script


@pytest.mark.parametrize("stream", [False, True])
def test_outputs_with_a_key_are_taken_once(scene: Scene, *, stream: bool) -> None:
    scene.model.replies.extend([tool_calls(CALL), text("Sunny.")])
    run = scene.rest(scene.start(scene.thread(), tools=[WEATHER]))
    url = f"{scene.server.url}/threads/{run.thread_id}/runs/{run.id}/submit_tool_outputs"
    outputs = {"tool_outputs": [{"tool_call_id": "call_1", "output": "sun"}], "stream": stream}
    send = partial(post, url, outputs, idempotency_key=f"outputs-{stream}")
    first, second = together(send, send)
    assert first[0] == second[0] == 200
    assert parsed(first[2]) == parsed(second[2]) if stream else first[2] == second[2]
    assert scene.rest(run).status == "completed"


@pytest.mark.parametrize("noun", ["assistants", "threads", "messages", "runs", "threads/runs"])
def test_two_at_the_same_time_make_one_object(scene: Scene, noun: str) -> None:
    mark = f"twice-{noun}"
    assistant_id, thread_id = scene.assistant(), scene.thread()
    path, asked = {
        "assistants": ("assistants", {"model": MODEL, "name": mark}),
        "threads": ("threads", {"metadata": {"mark": mark}}),
        "messages": (f"threads/{thread_id}/messages", {**HELLO, "content": mark}),
        "runs": (
            f"threads/{thread_id}/runs",
            {"assistant_id": assistant_id, "metadata": {"mark": mark}},
        ),
        "threads/runs": (
            "threads/runs",
            {"assistant_id": assistant_id, "metadata": {"mark": mark}},
        ),
    }[noun]
    send = partial(post, f"{scene.server.url}/{path}", asked, idempotency_key=mark)
    answers = together(*[send] * 8)
    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, _, body in answers}) == 1
    assert count(scene.server, noun.removeprefix("threads/"), mark) == 1


def test_a_key_that_is_too_long_is_refused_rather_than_cut(scene: Scene) -> None:
    status, _, body = post(f"{scene.server.url}/threads", {}, idempotency_key="k" * 256)
    assert status == 400
    assert b"string_above_max_length" in body


# --- without a key: what the SDK sends again --------------------------------------------------


Operation = Callable[[AsyncOpenAI, "Prepared", str], Awaitable[Any]]


class Prepared:
    """What the operations work on; each has a thread of its own."""

    def __init__(self, client: OpenAI) -> None:
        self.assistant = client.beta.assistants.create(model=MODEL, instructions="Be brief.").id
        self.threads = [client.beta.threads.create(messages=[HELLO]).id for _ in range(3)]  # type: ignore[list-item]


async def create_message(client: AsyncOpenAI, at: Prepared, mark: str) -> Any:
    return await client.beta.threads.messages.create(at.threads[0], role="user", content=mark)


async def create_run(client: AsyncOpenAI, at: Prepared, mark: str) -> Any:
    return await client.beta.threads.runs.create(
        thread_id=at.threads[1], assistant_id=at.assistant, metadata={"mark": mark}
    )


async def stream_run(client: AsyncOpenAI, at: Prepared, mark: str) -> Any:
    stream = client.beta.threads.runs.stream(
        thread_id=at.threads[2], assistant_id=at.assistant, metadata={"mark": mark}
    )
    async with stream as events:
        await events.until_done()
        return events.current_run


WHOLE: Final[dict[Operation, str]] = {
    create_message: "messages",
    create_run: "runs",
}
STREAMED: Final[dict[Operation, str]] = {stream_run: "runs"}


@asynccontextmanager
async def behind_proxies(
    server: ServerProcess, cuts: dict[Operation, list[Cut | Hold]]
) -> AsyncIterator[dict[Operation, tuple[CuttingProxy, AsyncOpenAI]]]:
    """For each operation a proxy, and a stock SDK with its stock retries."""
    async with AsyncExitStack() as stack:
        made: dict[Operation, tuple[CuttingProxy, AsyncOpenAI]] = {}
        for operation, its_cuts in cuts.items():
            proxy = await stack.enter_async_context(CuttingProxy.before(server.port, *its_cuts))
            client = AsyncOpenAI(
                base_url=proxy.url,
                api_key="any",
                timeout=PATIENCE_SECONDS,
                _strict_response_validation=True,
            )
            made[operation] = (proxy, await stack.enter_async_context(client))
        yield made


@pytest.mark.parametrize(
    ("cuts", "retries"),
    [
        (["at_once"], 1),
        (["before"], 1),
        (["before", "at_once"], 2),
        (["middle"], 1),
        (["middle", "middle"], 2),
        (["after"], 0),
    ],
    ids=["at_once", "before", "before_twice", "middle", "middle_twice", "after"],
)
async def test_an_answer_that_was_cut_off_is_given_again(
    scene: Scene, request: pytest.FixtureRequest, cuts: list[Cut | Hold], retries: int
) -> None:
    # The SDKs read a stream's body themselves, so only what comes before it is sent again.
    can_stream = not {"middle", "after"} & {cut for cut in cuts if isinstance(cut, str)}
    operations = {**WHOLE, **STREAMED} if can_stream else WHOLE
    prepared = Prepared(scene.client)
    mark = f"mark-{request.node.callspec.id}-"
    async with behind_proxies(scene.server, dict.fromkeys(operations, cuts)) as made:
        answers = await asyncio.gather(
            *(operation(made[operation][1], prepared, mark) for operation in operations)
        )
        sent = {operation: made[operation][0].retry_counts for operation in operations}
    assert set(map(tuple, sent.values())) == {tuple(str(n) for n in range(retries + 1))}
    assert count(scene.server, "messages", mark) == 1
    assert count(scene.server, "runs", mark) == len(operations) - 1
    for operation, answer in zip(operations, answers, strict=True):
        assert count(scene.server, operations[operation], answer.id) >= 1


async def test_an_answer_that_a_killed_server_did_not_give_is_given_by_the_next(
    scene: Scene, tmp_path: Path
) -> None:
    operations = {**WHOLE, **STREAMED}
    holds: dict[Operation, Hold] = {operation: Hold() for operation in operations}
    with running_server(tmp_path / "data", "--upstream", scene.model.url) as server:
        with stock_client(server.url) as client:
            prepared = await asyncio.to_thread(Prepared, client)
        cuts: dict[Operation, list[Cut | Hold]] = {op: [hold] for op, hold in holds.items()}
        async with behind_proxies(server, cuts) as made:
            asked = [
                asyncio.ensure_future(operation(made[operation][1], prepared, "killed"))
                for operation in operations
            ]
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(*(hold.has_answer.wait() for hold in holds.values()))
            server.kill()
            await asyncio.to_thread(server.restart)
            for hold in holds.values():
                hold.go.set()
            answers = await asyncio.gather(*asked)
        for table, times in (("messages", 1), ("runs", 2)):
            assert count(server, table, "killed") == times, table
        for operation, answer in zip(operations, answers, strict=True):
            assert count(server, operations[operation], answer.id) >= 1


@pytest.mark.parametrize("stream", [False, True])
def test_outputs_whose_answer_a_killed_server_did_not_give_are_taken_once(
    scene: Scene, tmp_path: Path, *, stream: bool
) -> None:
    scene.model.replies.extend([tool_calls(CALL), text("Sunny.").first(0.1)])
    with (
        running_server(tmp_path / "data", "--upstream", scene.model.url) as server,
        stock_client(server.url) as client,
    ):
        here = Scene(server, scene.model, client)
        run = here.rest(here.start(here.thread(), tools=[WEATHER]))
        url = f"{server.url}/threads/{run.thread_id}/runs/{run.id}/submit_tool_outputs"
        outputs = {"tool_outputs": [{"tool_call_id": "call_1", "output": "sun"}], "stream": stream}
        status, _, first = post(url, outputs)
        assert status == 200
        server.kill()
        server.restart()
        status, _, again = post(url, outputs, **RETRIED)
        assert status == 200
        if stream:
            assert again == first
        else:
            assert json.loads(again)["id"] == run.id
        assert here.rest(run).status == "completed"


@pytest.mark.parametrize(
    ("after_answer", "objects"),
    [("closed", 1), ("still open", 2), ("in use", 2)],
)
def test_a_retry_gets_the_answer_only_if_it_may_have_been_lost(
    scene: Scene, after_answer: str, objects: int
) -> None:
    """An answer has arrived where its connection is there yet; then a retry is of another."""
    url = f"{scene.server.url}/threads/{scene.thread()}/messages"
    asked = {**HELLO, "content": f"was {after_answer}"}
    with httpx2.Client(timeout=PATIENCE_SECONDS) as first:
        body = first.post(url, content=encoded(asked)).content
        match after_answer:
            case "closed":
                first.close()
            case "in use":
                first.get(url)
        again = post(url, encoded(asked), **RETRIED)
    assert again[0] == 200
    assert (again[2] == body) is (objects == 1)
    assert count(scene.server, "messages", f"was {after_answer}") == objects


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("threads", {"metadata": {"mark": "two users"}}),
        ("threads/runs", {"assistant_id": "", "metadata": {"mark": "two users"}}),
        ("assistants", {"model": MODEL, "name": "two users"}),
    ],
)
def test_two_who_begin_with_the_same_words_never_share_what_they_have_made(
    scene: Scene, path: str, asked: dict[str, Any]
) -> None:
    """One of them has closed the connection, the other has to try again: as a lost answer looks."""
    if "assistant_id" in asked:
        asked["assistant_id"] = scene.assistant()
    one = post(f"{scene.server.url}/{path}", encoded(asked))
    other = post(f"{scene.server.url}/{path}", encoded(asked), **RETRIED)
    assert one[0] == other[0] == 200
    assert json.loads(one[2])["id"] != json.loads(other[2])["id"]


def test_the_same_words_said_twice_are_two_messages(scene: Scene) -> None:
    url = f"{scene.server.url}/threads/{scene.thread()}/messages"
    bodies = {post(url, {**HELLO, "content": "twice said"})[2] for _ in range(2)}
    assert len(bodies) == 2  # each on a connection that closed behind it, and none a retry


def test_a_refusal_is_not_what_a_retry_gets(scene: Scene) -> None:
    gate = Gate()
    scene.model.replies.append(text("Slow.").first(gate))
    thread_id = scene.thread()
    run = scene.start(thread_id)
    url = f"{scene.server.url}/threads/{thread_id}/messages"
    send = partial(post, url, encoded(HELLO), rethread_on_active_run="retry")
    assert send()[0] == 400
    assert send(**RETRIED)[0] == 400
    gate.open()
    scene.rest(run)
    assert send(**RETRIED)[0] == 200


@pytest.mark.parametrize("impatient_retries", [0, 1])
def test_a_retry_while_the_first_is_being_answered_makes_no_second_object(
    scene: Scene, impatient_retries: int
) -> None:
    """A client gives up on a request that waits for the thread, and sends it again."""
    gate = Gate()
    scene.model.replies.append(text("Slow.").first(gate))
    thread_id, mark = scene.thread(), f"patience {impatient_retries}"
    scene.start(thread_id)
    url = f"{scene.server.url}/threads/{thread_id}/messages"
    body = encoded({**HELLO, "content": mark})
    for retry_count in range(impatient_retries + 1):
        headers = {"rethread-on-active-run": "wait", "x-stainless-retry-count": str(retry_count)}
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(url, content=body, headers=headers, timeout=0.3)
    last = partial(post, url, body, x_stainless_retry_count="2", rethread_on_active_run="wait")
    answer, _ = together(last, gate.open)
    assert answer[0] == 200
    assert count(scene.server, "messages", mark) == 1


async def test_an_other_projects_key_is_its_own(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with AsyncExitStack() as stack:
        db = await open_database(data_dir)
        stack.push_async_callback(db.close)
        secrets = [
            (await keys.create(db, project=project, label=None, now=1)).secret
            for project in ("red", "blue")
        ]
    with running_server(data_dir) as server:
        bodies = {
            post(
                f"{server.url}/threads",
                {},
                idempotency_key="mine",
                authorization=f"Bearer {secret}",
            )[2]
            for secret in secrets
            for _ in range(2)
        }
    assert len(bodies) == 2
    assert all(b'"object":"thread"' in body for body in bodies)
