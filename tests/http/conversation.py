"""A conversation that uses every operation once at least, over plain HTTP; keeps every answer."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx2

from rethread.http.operations import OPERATIONS

WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
OPEN = ("listModels", "getRoot", "getHealthz", "getHealth", "getReadyz", "getOpenapi")
POLL = {"x-stainless-poll-helper": "true"}


class Exchange(NamedTuple):
    """An operation of the document, and what it answered."""

    operation_id: str
    method: str
    path: str
    response: httpx2.Response


class Conversation:
    """Holds a conversation with a server; `exchanges` is all that was answered."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.Client(base_url=url, timeout=30)
        self.exchanges: list[Exchange] = []

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def call(
        self,
        operation_id: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        ids: Mapping[str, str] | None = None,
        files: Mapping[str, Any] | None = None,
    ) -> httpx2.Response:
        """The answer of an operation; with `files` the body is a form."""
        operation = next(row for row in OPERATIONS if row.id == operation_id)
        response = self._client.request(
            operation.method,
            operation.path.format(**(ids or {})),
            params=query,
            json=None if files else body,
            data=body if files else None,
            files=files,
            headers=headers,
        )
        self.exchanges.append(Exchange(operation_id, operation.method, operation.path, response))
        return response

    def make(
        self, operation_id: str, *, body: Any = None, ids: Mapping[str, str] | None = None
    ) -> str:
        """The id of what a creation made."""
        response = self.call(operation_id, body=body, ids=ids)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def rest(self, thread_id: str, run_id: str) -> dict[str, Any]:
        """The run as soon as it is at rest."""
        ids = {"thread_id": thread_id, "run_id": run_id}
        while True:
            run = self.call("getRun", ids=ids, headers=POLL).json()
            if run["status"] not in ("queued", "in_progress", "cancelling"):
                return dict(run)


def hold(url: str) -> list[Exchange]:
    """The answers of a conversation in which every operation succeeds."""
    conversation = Conversation(url)
    try:
        assistant_id = _assistant(conversation)
        thread_id = _thread(conversation)
        _runs(conversation, assistant_id, thread_id)
        _files(conversation)
        _vector_stores(conversation)
        for open_operation in OPEN:
            conversation.call(open_operation)
        conversation.call("retrieveModel", ids={"model": "demo"})
        conversation.call("deleteThread", ids={"thread_id": thread_id})
        conversation.call("deleteAssistant", ids={"assistant_id": assistant_id})
    finally:
        conversation.close()
    return conversation.exchanges


def _assistant(conversation: Conversation) -> str:
    make, call = conversation.make, conversation.call
    bare = make("createAssistant", body={"model": "demo"})
    full = make(
        "createAssistant",
        body={
            "model": "demo",
            "name": "Full",
            "description": "Has everything",
            "instructions": "Answer.",
            "tools": [WEATHER_TOOL, {"type": "code_interpreter"}, {"type": "file_search"}],
            "metadata": {"k": "v"},
            "temperature": 0.5,
            "top_p": 1,
            "reasoning_effort": "low",
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        },
    )
    call("listAssistants", query={"limit": 1})
    call("getAssistant", ids={"assistant_id": full})
    call("deleteAssistant", ids={"assistant_id": full})
    call(
        "modifyAssistant",
        ids={"assistant_id": bare},
        body={"instructions": "Be.", "tools": [WEATHER_TOOL]},
    )
    return bare


def _thread(conversation: Conversation) -> str:
    make, call = conversation.make, conversation.call
    empty = make("createThread")
    call("listMessages", ids={"thread_id": empty})
    call("listRuns", ids={"thread_id": empty})
    file = {"file": ("notes.txt", b"Every year has four seasons.")}
    file_id = call("createFile", body={"purpose": "assistants"}, files=file).json()["id"]
    attachments = [{"file_id": file_id, "tools": [{"type": "file_search"}]}]
    first = {"role": "user", "content": [{"type": "text", "text": "Look"}, IMAGE]}
    thread_id = make("createThread", body={"messages": [{**first, "attachments": attachments}]})
    call("getThread", ids={"thread_id": thread_id})
    call("modifyThread", ids={"thread_id": thread_id}, body={"metadata": {"a": "b"}})
    call("listThreads", query={"limit": 1, "metadata[a]": "b"})
    said = {"role": "assistant", "content": "Hm."}
    message_id = make("createMessage", ids={"thread_id": thread_id}, body=said)
    ids = {"thread_id": thread_id, "message_id": message_id}
    call("getMessage", ids=ids)
    call("modifyMessage", ids=ids, body={"metadata": {"a": "b"}})
    while not call("searchThreads", query={"q": "hm", "limit": 1}).json()["data"]:
        pass  # the index is up to date within a second
    call("deleteMessage", ids=ids)
    call("listMessages", ids={"thread_id": thread_id})
    return thread_id


def _files(conversation: Conversation) -> None:
    call = conversation.call
    file = {"file": ("notes.txt", b"All there is to know.")}
    made = call("createFile", body={"purpose": "assistants"}, files=file).json()
    ids = {"file_id": made["id"]}
    call("listFiles", query={"limit": 1, "purpose": "assistants"})
    call("retrieveFile", ids=ids)
    call("downloadFile", ids=ids)
    call("deleteFile", ids=ids)

    wanted = {"filename": "b", "purpose": "vision", "bytes": 4, "mime_type": "image/png"}
    ids = {"upload_id": conversation.make("createUpload", body=wanted)}
    part = call("addUploadPart", ids=ids, files={"data": ("data", b"1234")}).json()
    call("completeUpload", ids=ids, body={"part_ids": [part["id"]]})
    call("cancelUpload", ids={"upload_id": conversation.make("createUpload", body=wanted)})


def _vector_stores(conversation: Conversation) -> None:
    call, make = conversation.call, conversation.make
    file = {"file": ("notes.txt", b"All there is to know.")}
    purpose = {"purpose": "assistants"}
    file_ids = [call("createFile", body=purpose, files=file).json()["id"] for _ in range(2)]
    store_id = make("createVectorStore", body={"name": "n", "file_ids": file_ids[:1]})
    ids = {"vector_store_id": store_id}
    call("listVectorStores", query={"limit": 1})
    expiry = {"anchor": "last_active_at", "days": 1}
    call("modifyVectorStore", ids=ids, body={"metadata": {"a": "b"}, "expires_after": expiry})
    call("getVectorStore", ids=ids)

    adding = {"file_id": file_ids[1], "attributes": {"a": "b", "n": 1, "f": 1.5, "is": True}}
    call("createVectorStoreFile", ids=ids, body=adding)
    of_file = {**ids, "file_id": file_ids[1]}
    call("getVectorStoreFile", ids=of_file, headers=POLL)
    call("updateVectorStoreFileAttributes", ids=of_file, body={"attributes": {"a": "c"}})
    call("retrieveVectorStoreFileContent", ids=of_file)
    call("listVectorStoreFiles", ids=ids, query={"filter": "completed", "limit": 1})
    wanted = {"type": "and", "filters": [{"type": "eq", "key": "a", "value": "c"}]}
    call("searchVectorStore", ids=ids, body={"query": "all to know", "filters": wanted})
    call("deleteVectorStoreFile", ids=of_file)

    batch_id = make("createVectorStoreFileBatch", ids=ids, body={"file_ids": file_ids})
    of_batch = {**ids, "batch_id": batch_id}
    call("getVectorStoreFileBatch", ids=of_batch, headers=POLL)
    call("listFilesInVectorStoreBatch", ids=of_batch)
    call("cancelVectorStoreFileBatch", ids=of_batch)
    call("deleteVectorStore", ids=ids)


def _runs(conversation: Conversation, assistant_id: str, thread_id: str) -> None:
    make, call, rest = conversation.make, conversation.call, conversation.rest
    run_id = make("createRun", ids={"thread_id": thread_id}, body={"assistant_id": assistant_id})
    ids = {"thread_id": thread_id, "run_id": run_id}
    assert rest(**ids)["status"] == "completed"
    call("modifyRun", ids=ids, body={"metadata": {"a": "b"}})
    call("followRunEvents", ids=ids, query={"starting_after": 2})
    steps = call("listRunSteps", ids=ids).json()["data"]
    call("getRunStep", ids={**ids, "step_id": steps[0]["id"]})
    call("listMessages", ids={"thread_id": thread_id}, query={"run_id": run_id})

    asking = {
        "assistant_id": assistant_id,
        "additional_messages": [{"role": "user", "content": "Please get_weather in Paris"}],
    }
    for is_stream in (False, True):
        started = call(
            "createRun", ids={"thread_id": thread_id}, body={**asking, "stream": is_stream}
        )
        run_id = _run_id(started)
        run = rest(thread_id, run_id)
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = [{"tool_call_id": each["id"], "output": "Sunny"} for each in calls]
        submitting = {"tool_outputs": outputs, "stream": is_stream}
        call(
            "submitToolOuputsToRun", ids={"thread_id": thread_id, "run_id": run_id}, body=submitting
        )
        assert rest(thread_id, run_id)["status"] == "completed"
        call("listRunSteps", ids={"thread_id": thread_id, "run_id": run_id})

    run_id = make("createRun", ids={"thread_id": thread_id}, body=asking)
    rest(thread_id, run_id)
    call("cancelRun", ids={"thread_id": thread_id, "run_id": run_id})
    assert rest(thread_id, run_id)["status"] == "cancelled"
    call("listRuns", ids={"thread_id": thread_id}, query={"limit": 2})

    _search(conversation, assistant_id, thread_id)

    hello = {"messages": [{"role": "user", "content": "Hello"}]}
    for is_stream in (False, True):
        wanted = {"assistant_id": assistant_id, "thread": hello, "stream": is_stream}
        call("createThreadAndRun", body=wanted)


def _search(conversation: Conversation, assistant_id: str, thread_id: str) -> None:
    """The file that is attached to the thread's first message is found and cited."""
    call = conversation.call
    include = {"include[]": "step_details.tool_calls[*].file_search.results[*].content"}
    asking = {
        "assistant_id": assistant_id,
        "tools": [{"type": "file_search"}],
        "additional_messages": [{"role": "user", "content": "How many seasons has a year?"}],
        "stream": True,
    }
    started = call("createRun", ids={"thread_id": thread_id}, body=asking, query=include)
    ids = {"thread_id": thread_id, "run_id": _run_id(started)}
    assert conversation.rest(**ids)["status"] == "completed"
    for query in (include, {}):
        steps = call("listRunSteps", ids=ids, query=query).json()["data"]
        call("getRunStep", ids={**ids, "step_id": steps[-1]["id"]}, query=query)
    messages = call("listMessages", ids={"thread_id": thread_id}, query={"run_id": ids["run_id"]})
    assert messages.json()["data"][0]["content"][0]["text"]["annotations"]


def events(response: httpx2.Response) -> list[tuple[str, str]]:
    """Names and data of an event stream."""
    records = []
    for record in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in record.split("\n") if ": " in line)
        if "event" in fields:
            records.append((fields["event"], fields["data"]))
    return records


def _run_id(response: httpx2.Response) -> str:
    if response.headers["content-type"] == "application/json":
        return str(response.json()["id"])
    created = next(said for name, said in events(response) if name == "thread.run.created")
    return str(json.loads(created)["id"])
