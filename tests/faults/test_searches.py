"""Whatever ends a search loses nothing that was found before and leaves no run stuck.

A search is held where it asks for its query's vector: that server answers by script.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from openai.types.beta.threads import Run

from tests.conftest import StartServer
from tests.fakes.embeddings import embeddings
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Call, Gate, Reply, failure, text, tool_calls
from tests.faults.scene import WEATHER, Scene, stock_client, text_of

SEARCH: Final[Any] = {"type": "file_search"}
ASK: Final = Call("call_0", "file_search", '{"queries": ["swallows"]}')
WEATHER_CALL: Final = Call("call_w", "get_weather", "{}")
MARK: Final = "【0:0†birds.md】"


class Library(Scene):
    """A scene whose threads have a file, and whose searches can be held."""

    def __init__(self, *parts: Any, vectors: ModelServer) -> None:
        super().__init__(*parts)
        self._vectors = vectors
        self._held: list[Reply] = []
        vectors.answer = self._answer

    def thread(self, text: str = "When do the swallows come?") -> str:
        """A thread with a file, which has been read."""
        client = self.client
        file = client.files.create(
            file=("birds.md", b"The swallows come in May."), purpose="assistants"
        )
        attachments: Any = [{"file_id": file.id, "tools": [SEARCH]}]
        first: Any = {"role": "user", "content": text, "attachments": attachments}
        thread = client.beta.threads.create(messages=[first])
        [store_id] = thread.tool_resources.file_search.vector_store_ids  # type: ignore[union-attr, misc]
        client.vector_stores.files.poll(file.id, vector_store_id=store_id)
        return thread.id

    def next_search(self, reply: Reply) -> None:
        """What the server of vectors answers the next search."""
        self._held.append(reply)

    def hold_search(self) -> Gate:
        """A gate in front of the next search."""
        gate = Gate()
        self.next_search(embeddings({"input": ["swallows"]}).first(gate))
        return gate

    def _answer(self, body: Any) -> Reply:
        if body["input"] == ["swallows"] and self._held:
            return self._held.pop()
        return embeddings(body)


@contextmanager
def library(start_server: StartServer, model: ModelServer, *arguments: str) -> Iterator[Library]:
    """A server of its own, which may be killed."""
    model.replies.clear()
    model.answer = None
    with ModelServer.start_in_thread() as vectors:
        server = start_server(
            *("--upstream", model.url, "--upstream-max-attempts", "1"),
            *("--embeddings", "upstream", "--embedding-upstream", vectors.url),
            *("--embedding-dimensions", "32", *arguments),
        )
        with stock_client(server.url) as client:
            yield Library(server, model, client, vectors=vectors)


def statuses(scene: Scene, run: Run) -> list[tuple[str, str]]:
    return [(step.type, step.status) for step in scene.steps(run)]


def told(scene: Scene) -> list[str]:
    """What the model was last told of the calls that its prompt shows."""
    messages = scene.model.requests[-1].body["messages"]
    return [message["content"] for message in messages if message["role"] == "tool"]


def test_a_search_that_a_crash_broke_off_is_made_again(
    start_server: StartServer, model: ModelServer
) -> None:
    with library(start_server, model) as scene:
        thread_id, gate = scene.thread(), scene.hold_search()
        model.replies += [tool_calls(ASK), tool_calls(ASK), text("In May" + MARK)]
        run = scene.start(thread_id, tools=[SEARCH])
        gate.arrived.result(20)
        scene.server.kill()
        scene.server.restart()
        run = scene.rest(run)
        assert run.status == "completed"
        assert statuses(scene, run) == [
            ("tool_calls", "failed"),
            ("tool_calls", "completed"),
            ("message_creation", "completed"),
        ]
        assert len(scene.messages(run)[0].content[0].text.annotations) == 1  # type: ignore[union-attr]
        scene.assert_free(thread_id)


def test_what_was_found_and_cited_before_a_crash_is_kept_and_not_searched_again(
    start_server: StartServer, model: ModelServer
) -> None:
    with library(start_server, model) as scene:
        thread_id = scene.thread()
        model.replies += [
            tool_calls(ASK),
            text("In", MARK[:5], MARK[5:], " May").then(Gate(), after=3),
        ]
        before = len(model.requests)
        listener = scene.listen(thread_id, key="k", tools=[SEARCH])
        listener.wait_for('"annotations":[{')
        scene.server.kill()
        scene.server.restart()
        run = scene.rest(scene.run_on(thread_id))
        assert run.status == "completed"
        assert len(model.requests) == before + 3
        assert [MARK in each for each in told(scene)] == [True]
        assert statuses(scene, run) == [
            ("tool_calls", "completed"),
            ("message_creation", "failed"),
            ("message_creation", "completed"),
        ]
        cut, whole = scene.messages(run)
        assert text_of(cut).startswith("In" + MARK)
        [cited] = cut.content[0].text.annotations  # type: ignore[union-attr]
        assert (cited.text, cited.start_index) == (MARK, 2)
        assert text_of(whole) == "Hello from the model."


def test_what_was_found_beside_a_function_is_there_after_a_crash(
    start_server: StartServer, model: ModelServer
) -> None:
    with library(start_server, model) as scene:
        thread_id = scene.thread()
        model.replies.append(tool_calls(WEATHER_CALL, ASK))
        run = scene.rest(scene.start(thread_id, tools=[SEARCH, WEATHER]))
        assert (run.status, run.last_error) == ("requires_action", None)
        scene.server.kill()
        scene.server.restart()
        model.replies.append(text("Sun, and" + MARK))
        run = scene.beta.threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id,
            thread_id=thread_id,
            tool_outputs=[{"tool_call_id": WEATHER_CALL.id, "output": "sun"}],
        )
        assert run.status == "completed"
        weather, found = told(scene)
        assert (weather, MARK in found) == ("sun", True)
        assert statuses(scene, run)[0] == ("tool_calls", "completed")
        [part] = scene.messages(run)[0].content
        assert [each.text for each in part.text.annotations] == [MARK]  # type: ignore[union-attr]


def test_a_run_is_cancelled_in_the_middle_of_a_search(
    start_server: StartServer, model: ModelServer
) -> None:
    with library(start_server, model) as scene:
        thread_id, gate = scene.thread(), scene.hold_search()
        model.replies.append(tool_calls(ASK, WEATHER_CALL))
        run = scene.start(thread_id, tools=[SEARCH, WEATHER])
        gate.arrived.result(20)
        scene.beta.threads.runs.cancel(run.id, thread_id=thread_id)
        run = scene.rest(run)
        assert run.status == "cancelled"
        assert statuses(scene, run) == [("tool_calls", "cancelled")]
        assert run.usage is not None
        gate.open()
        scene.assert_free(thread_id)


def test_a_search_that_cannot_be_made_fails_the_run_and_says_why(
    start_server: StartServer, model: ModelServer
) -> None:
    with library(start_server, model) as scene:
        thread_id = scene.thread()
        scene.next_search(failure(500, "out of order"))
        model.replies.append(tool_calls(ASK))
        run = scene.rest(scene.start(thread_id, tools=[SEARCH]))
        assert run.status == "failed"
        assert run.last_error is not None
        assert run.last_error.code == "server_error"
        assert "cannot be searched now" in run.last_error.message
        assert statuses(scene, run) == [("tool_calls", "failed")]
        scene.assert_free(thread_id)
