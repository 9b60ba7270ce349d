"""file_search through the stock SDK: files uploaded, searched in runs, and cited by answers."""

import json
from typing import Any, Final

import httpx2
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from tests.fakes.replies import Call, Gate, text, tool_calls
from tests.sdk.clients import WEATHER, Scripted, in_short
from tests.sdk.handlers import Handler

SEARCH: Final[Any] = {"type": "file_search"}
CODE: Final[Any] = {"type": "code_interpreter"}
INCLUDE: Final[Any] = ["step_details.tool_calls[*].file_search.results[*].content"]
BIRDS: Final = b"Birds\n\nIn summer the swallows come back from Africa. Owls hunt at night.\n"
FISH: Final = b"Fish\n\nThe salmon swims up the river where it was born.\n"
ASK_BIRDS: Final = Call("call_0", "file_search", '{"queries": ["swallows come back"]}')
ASK_FISH: Final = Call("call_0", "file_search", '{"queries": ["salmon river", "where born"]}')
ASK_WEATHER: Final = Call("call_w", "get_weather", '{"city": "Paris"}')
MARK: Final = "【0:0†birds.md】"


class Stepwise(Handler):
    """Keeps each step that is done, too."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Any] = []

    def on_run_step_done(self, run_step: Any) -> None:
        super().on_run_step_done(run_step)
        self.steps.append(run_step)


def uploaded(client: OpenAI, name: str = "birds.md", content: bytes = BIRDS) -> str:
    """The id of a new file."""
    return client.files.create(file=(name, content), purpose="assistants").id


def store_with(client: OpenAI, *file_ids: str) -> str:
    """The id of a vector store in which these files have been read."""
    store = client.vector_stores.create(name="Animals")
    for file_id in file_ids:
        read = client.vector_stores.files.create_and_poll(file_id, vector_store_id=store.id)
        assert (read.status, read.last_error) == ("completed", None)
    return store.id


def resources(store_id: str) -> Any:
    return {"file_search": {"vector_store_ids": [store_id]}}


def attached(content: str, *file_ids: str, tools: Any = (SEARCH,)) -> Any:
    """A user's message with files."""
    attachments = [{"file_id": file_id, "tools": list(tools)} for file_id in file_ids]
    return {"role": "user", "content": content, "attachments": attachments}


def answer_of(client: OpenAI, thread_id: str) -> Any:
    """The text of the thread's newest message."""
    [part] = client.beta.threads.messages.list(thread_id, limit=1).data[0].content
    assert part.type == "text"
    return part.text


def searches_of(client: OpenAI, run: Any, **options: Any) -> list[Any]:
    """What the run's searches have found, in their order."""
    steps = client.beta.threads.runs.steps.list(
        run.id, thread_id=run.thread_id, order="asc", **options
    )
    calls = [step.step_details.tool_calls for step in steps if step.type == "tool_calls"]  # type: ignore[union-attr]
    return [call for group in calls for call in group if call.type == "file_search"]


def told(scripted: Scripted, number: int = -1) -> list[str]:
    """What the model was told of the calls that a prompt shows."""
    messages = scripted.asked(number)["messages"]
    return [message["content"] for message in messages if message["role"] == "tool"]


def test_the_built_in_model_answers_from_an_assistants_files_and_cites(one_client: OpenAI) -> None:
    client, runs = one_client, one_client.beta.threads.runs
    birds = uploaded(client)
    store_id = store_with(client, birds, uploaded(client, "fish.md", FISH))
    assistant = client.beta.assistants.create(
        model="demo", instructions="x", tools=[SEARCH], tool_resources=resources(store_id)
    )
    thread = client.beta.threads.create(
        messages=[{"role": "user", "content": "When do the swallows come back?"}]
    )
    run = runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    assert (run.status, run.last_error) == ("completed", None)
    said = answer_of(client, thread.id)
    [cited] = said.annotations
    assert said.value.startswith("In summer the swallows come back from Africa.")
    assert said.value[cited.start_index : cited.end_index] == cited.text == MARK
    assert cited.file_citation.file_id == birds
    [search] = searches_of(client, run)
    ranking = {"ranker": "default_2024_08_21", "score_threshold": 0.0}
    assert set(search.to_dict()["file_search"]) == {"ranking_options", "results"}
    assert search.file_search.ranking_options.to_dict() == ranking
    best = search.file_search.results[0]
    assert (best.file_id, best.file_name) == (birds, "birds.md")
    assert 0 < best.score <= 1
    assert set(best.to_dict()) == {"file_id", "file_name", "score"}
    [search] = searches_of(client, run, include=INCLUDE)
    [content] = search.file_search.results[0].content
    assert (content.type, content.text) == ("text", BIRDS.decode())
    [step] = [each for each in runs.steps.list(run.id, thread_id=thread.id) if each.usage][-1:]
    seen = runs.steps.retrieve(step.id, thread_id=thread.id, run_id=run.id, include=INCLUDE)
    assert seen.step_details.tool_calls[0] == search  # type: ignore[union-attr]


@pytest.mark.parametrize("include", [INCLUDE, []], ids=["with content", "without"])
def test_a_streamed_run_tells_handlers_of_searches_and_citations(
    one_client: OpenAI, include: Any
) -> None:
    client = one_client
    birds = uploaded(client)
    thread = client.beta.threads.create(messages=[attached("Which birds hunt at night?", birds)])
    assistant = client.beta.assistants.create(model="demo", instructions="x", tools=[SEARCH])
    handler = Stepwise()
    with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, include=include, event_handler=handler
    ) as stream:
        stream.until_done()
    heard = handler.heard
    assert in_short(heard.events) == [
        *("run.created", "run.queued", "run.in_progress", "run.step.created"),
        *("run.step.in_progress", "run.step.delta", "run.step.completed"),
        *("run.step.created", "run.step.in_progress", "message.created", "message.in_progress"),
        *("message.delta", "message.completed", "run.step.completed", "run.completed"),
    ]
    assert heard.done["tool_call_done"].type == "file_search"
    [call] = handler.steps[0].step_details.tool_calls
    assert len(call.file_search.results) == 1
    assert (call.file_search.results[0].content is not None) is bool(include)
    final = heard.done["message_done"].content[0].text
    [cited] = final.annotations
    assert heard.written == final.value
    assert final.value.startswith("Owls hunt at night. " + MARK)
    assert final.value[cited.start_index : cited.end_index] == cited.text
    snapshot = heard.last_snapshots["text_delta"].annotations[0]
    assert (snapshot.text, snapshot.file_citation.file_id) == (cited.text, birds)
    assert answer_of(client, thread.id) == final


def test_attachments_fill_the_threads_own_store_which_expires(one_client: OpenAI) -> None:
    client, threads = one_client, one_client.beta.threads
    birds, fish, data = uploaded(client), uploaded(client, "fish.md", FISH), uploaded(client)
    thread = threads.create(messages=[attached("Look.", birds)])
    assert thread.tool_resources is not None
    assert thread.tool_resources.file_search is not None
    [store_id] = thread.tool_resources.file_search.vector_store_ids or []
    threads.messages.create(thread.id, **attached("And here.", fish, birds))
    threads.messages.create(thread.id, **attached("Compute.", data, tools=[CODE]))
    thread = threads.retrieve(thread.id)
    assert thread.to_dict()["tool_resources"] == {
        "file_search": {"vector_store_ids": [store_id]},
        "code_interpreter": {"file_ids": [data]},
    }
    store = client.vector_stores.retrieve(store_id)
    assert store.expires_after is not None
    assert (store.expires_after.days, store.file_counts.total) == (7, 2)
    with pytest.raises(NotFoundError, match="No such File object: file-" + "x" * 22):
        threads.messages.create(thread.id, **attached("Nothing.", "file-" + "x" * 22))
    with pytest.raises(NotFoundError, match="No such File object"):
        threads.create(messages=[attached("Nothing.", "file-" + "x" * 22, tools=[CODE])])
    picture = uploaded(client, "a.PNG", b"a picture")
    with pytest.raises(BadRequestError, match=r"Files with extensions \[\.png\] are not supp"):
        threads.messages.create(thread.id, **attached("Look.", picture))
    assert len(threads.messages.list(thread.id).data) == 3
    # A run waits for what is attached to it, and finds it.
    assistant = client.beta.assistants.create(model="demo", instructions="x", tools=[SEARCH])
    more = [attached("What do moles dig?", uploaded(client, "m.txt", b"Moles dig tunnels."))]
    run = threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id, additional_messages=more
    )
    assert run.status == "completed"
    assert answer_of(client, thread.id).value.startswith("Moles dig tunnels. 【0:0†m.txt】")
    client.vector_stores.delete(store_id)
    threads.messages.create(thread.id, **attached("Once more.", fish))
    shown: Any = threads.retrieve(thread.id).to_dict()["tool_resources"]
    [another] = shown["file_search"]["vector_store_ids"]
    assert another != store_id
    assert client.vector_stores.retrieve(another).file_counts.total == 1


def test_a_store_is_made_along_with_whoever_asks_for_it(one_client: OpenAI) -> None:
    client, beta = one_client, one_client.beta
    birds = uploaded(client)
    chunks: Any = {
        "type": "static",
        "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
    }
    new: Any = {
        "file_search": {
            "vector_stores": [
                {"file_ids": [birds], "chunking_strategy": chunks, "metadata": {"a": "b"}}
            ]
        }
    }
    assistant = beta.assistants.create(
        model="demo", instructions="x", tools=[SEARCH], tool_resources=new
    )
    changed = beta.assistants.update(assistant.id, tool_resources=new)
    thread = beta.threads.create(tool_resources=new, messages=[attached("Look.", birds)])
    updated = beta.threads.update(thread.id, tool_resources=new)
    run = beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        thread={"tool_resources": new, "messages": [{"role": "user", "content": "Owls?"}]},
    )
    assert run.status == "completed"
    made = beta.threads.retrieve(run.thread_id)
    ids = []
    for owner in (assistant, changed, thread, updated, made):
        shown: Any = owner.to_dict()["tool_resources"]
        [store_id] = shown["file_search"]["vector_store_ids"]
        ids.append(store_id)
        store = client.vector_stores.retrieve(store_id)
        days = store.expires_after.days if store.expires_after else None
        assert days == (7 if owner.object == "thread" else None)
        assert (store.metadata, store.file_counts.total) == ({"a": "b"}, 1)
        [file] = client.vector_stores.files.list(store_id).data
        assert file.id == birds
    assert len(set(ids)) == 5
    missing = resources("vs_" + "0" * 32)
    for refused in (
        lambda: beta.assistants.create(model="demo", tool_resources=missing),
        lambda: beta.assistants.update(assistant.id, tool_resources=missing),
        lambda: beta.threads.create(tool_resources=missing),
        lambda: beta.threads.update(thread.id, tool_resources=missing),
    ):
        with pytest.raises(NotFoundError, match="No vector store found with id 'vs_0000"):
            refused()


def test_a_run_searches_again_and_again_and_beside_functions(scripted: Scripted) -> None:
    client, runs = scripted.client, scripted.client.beta.threads.runs
    birds, fish = uploaded(client), uploaded(client, "fish.md", FISH)
    assistant_id = scripted.assistant(
        tools=[SEARCH, WEATHER],
        tool_resources=resources(store_with(client, birds)),
        instructions="x",
    )
    thread = client.beta.threads.create(messages=[attached("Birds and fish?", fish)])
    cited = "Africa【0:0†birds.md】, and home【1:0†fish.md】."
    scripted.model.replies += [
        tool_calls(ASK_BIRDS),
        tool_calls(ASK_FISH, ASK_WEATHER),
        text(cited[:9], cited[9:12], cited[12:40], cited[40:]),
    ]
    run = runs.create_and_poll(thread_id=thread.id, assistant_id=assistant_id)
    assert run.status == "requires_action"
    assert run.required_action is not None
    [call] = run.required_action.submit_tool_outputs.tool_calls
    assert (call.id, call.function.name) == (ASK_WEATHER.id, "get_weather")
    offered = [tool["function"]["name"] for tool in scripted.asked()["tools"]]
    assert offered == ["get_weather", "file_search"]
    assert len(searches_of(client, run)[1].file_search.results) == 1
    outputs: Any = [{"tool_call_id": call.id, "output": "sunny"}]
    run = runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread.id, tool_outputs=outputs
    )
    assert run.status == "completed"
    first, second, weather = told(scripted)
    assert "【0:0†birds.md】\nBirds\n" in first
    assert "【1:0†fish.md】\nFish\n" in second
    assert weather == "sunny"
    asked = [m["tool_calls"] for m in scripted.asked()["messages"] if m.get("tool_calls")]
    queries = [json.loads(calls[0]["function"]["arguments"]) for calls in asked]
    assert queries == [json.loads(ASK_BIRDS.arguments), json.loads(ASK_FISH.arguments)]
    said = answer_of(client, thread.id)
    assert said.value == cited
    found = [(each.text, each.file_citation.file_id) for each in said.annotations]
    assert found == [("【0:0†birds.md】", birds), ("【1:0†fish.md】", fish)]
    # The next run sees the answer, not what was found for it; a mark of the answer still counts,
    # and one that nobody gave does not.
    scripted.model.replies.append(text("As I said【1:0†fish.md】, not【4:2†", "birds.md】"))
    again = runs.create_and_poll(
        thread_id=thread.id,
        assistant_id=assistant_id,
        additional_messages=[{"role": "user", "content": "Sure?"}],
    )
    assert again.status == "completed"
    assert told(scripted) == ["sunny"]
    said = answer_of(client, thread.id)
    assert [each.file_citation.file_id for each in said.annotations] == [fish]
    assert said.value == "As I said【1:0†fish.md】, not【4:2†birds.md】"


def test_the_tools_options_are_heeded(scripted: Scripted) -> None:
    client = scripted.client
    files = [uploaded(client, f"b{n}.md", BIRDS) for n in range(3)]
    options: Any = {
        "type": "file_search",
        "file_search": {
            "max_num_results": 2,
            "ranking_options": {"ranker": "auto", "score_threshold": 0.0},
        },
    }
    assistant_id = scripted.assistant(tools=[options], instructions="x")
    thread = client.beta.threads.create(messages=[attached("Birds?", *files)])
    scripted.model.replies += [tool_calls(ASK_BIRDS), text("Yes.")]
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant_id, tool_choice=SEARCH
    )
    assert run.status == "completed"
    forced = {"type": "function", "function": {"name": "file_search"}}
    assert [scripted.asked(number).get("tool_choice") for number in (-2, -1)] == [forced, None]
    [search] = searches_of(client, run)
    assert len(search.file_search.results) == 2
    assert search.file_search.ranking_options.ranker == "auto"


def test_a_store_that_goes_in_mid_run_is_passed_over_and_one_without_time_ends_it(
    scripted: Scripted,
) -> None:
    client, threads = scripted.client, scripted.client.beta.threads
    mine, fish = store_with(client, uploaded(client)), uploaded(client, "fish.md", FISH)
    assistant_id = scripted.assistant(
        tools=[SEARCH], tool_resources=resources(mine), instructions="x"
    )
    thread = threads.create(messages=[attached("Birds and fish?", fish)])
    [theirs] = thread.tool_resources.file_search.vector_store_ids  # type: ignore[union-attr, misc]
    gate = Gate()
    scripted.model.replies += [tool_calls(ASK_BIRDS, ASK_FISH).first(gate), text("Fish.")]
    run = threads.runs.create(thread_id=thread.id, assistant_id=assistant_id)
    gate.arrived.result(20)
    client.vector_stores.delete(mine)
    gate.open()
    run = threads.runs.poll(run.id, thread_id=thread.id)
    assert run.status == "completed"
    birds, found = searches_of(client, run)
    assert {each.file_id for each in [*birds.file_search.results, *found.file_search.results]} == {
        fish
    }
    gate = Gate()
    scripted.model.replies.append(tool_calls(ASK_FISH).first(gate))
    run = threads.runs.create(thread_id=thread.id, assistant_id=assistant_id)
    gate.arrived.result(20)
    scripted.server.ask(f"UPDATE vector_stores SET expires_at = 1 WHERE id = '{theirs}'")
    gate.open()
    run = threads.runs.poll(run.id, thread_id=thread.id)
    assert run.status == "failed"
    assert run.last_error is not None
    assert run.last_error.message == f"Vector store '{theirs}' has expired."
    [step] = threads.runs.steps.list(run.id, thread_id=thread.id).data
    assert step.status == "failed"
    assert run.usage is not None
    assert step.usage is not None
    assert run.usage.to_dict() == step.usage.to_dict()
    with pytest.raises(BadRequestError, match=f"Vector store {theirs} is expired"):
        threads.runs.create(thread_id=thread.id, assistant_id=assistant_id)
    with pytest.raises(BadRequestError, match=f"Vector store '{theirs}' has expired"):
        threads.messages.create(thread.id, **attached("More.", fish))
    threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant_id, tool_choice="none")


def test_without_a_store_the_model_is_told_that_there_are_no_files(scripted: Scripted) -> None:
    assistant_id = scripted.assistant(tools=[SEARCH], instructions="x")
    scripted.model.replies += [tool_calls(ASK_BIRDS), text("I have no files.")]
    run = scripted.client.beta.threads.runs.create_and_poll(
        thread_id=scripted.thread("Birds?"), assistant_id=assistant_id
    )
    assert run.status == "completed"
    assert told(scripted) == ["There are no files to search."]


def test_a_run_that_waits_for_files_can_be_cancelled(scripted: Scripted) -> None:
    client, threads = scripted.client, scripted.client.beta.threads
    thread = threads.create(messages=[attached("Birds?", uploaded(client))])
    [store_id] = thread.tool_resources.file_search.vector_store_ids  # type: ignore[union-attr, misc]
    scripted.server.ask(
        "INSERT INTO vector_store_files (store_id, file_id, status, created_at, filename, "
        "max_chunk_tokens, overlap_tokens, attributes) SELECT store_id, 'file-never', "
        "'in_progress', created_at, 'never', max_chunk_tokens, overlap_tokens, attributes "
        f"FROM vector_store_files WHERE store_id = '{store_id}'"
    )
    before = len(scripted.model.requests)
    assistant_id = scripted.assistant(tools=[SEARCH], instructions="x")
    run = threads.runs.create(thread_id=thread.id, assistant_id=assistant_id)
    while threads.runs.retrieve(run.id, thread_id=thread.id).status == "queued":
        pass
    threads.runs.cancel(run.id, thread_id=thread.id)
    assert threads.runs.poll(run.id, thread_id=thread.id).status == "cancelled"
    assert len(scripted.model.requests) == before


def test_a_replayed_stream_shows_what_was_found_to_those_who_ask(scripted: Scripted) -> None:
    client = scripted.client
    thread = client.beta.threads.create(messages=[attached("Birds?", uploaded(client))])
    scripted.model.replies += [tool_calls(ASK_BIRDS), text("Yes.")]
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=scripted.assistant(tools=[SEARCH], instructions="x")
    )
    url = f"{scripted.server.url}/threads/{thread.id}/runs/{run.id}/events"
    plain = httpx2.get(url).text
    full = httpx2.get(url, params={"include[]": INCLUDE[0]}).text
    assert "swallows" not in plain
    assert "the swallows come back from Africa" in full
    assert plain.count("\nid: ") == full.count("\nid: ")
    assert "queries" not in full
