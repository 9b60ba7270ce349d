"""Fuzzes every operation of a real server against its own OpenAPI document.

Twice: as it comes, where most ids name nothing, and on objects that are there, so that the
answers of success are held against their schemas too. Not checked: that valid data are accepted;
whether an id names something, or a run's state allows it, no schema says.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    CheckFunction,
    load_all_checks,
    not_a_server_error,
)
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from rethread.http.openapi import document
from rethread.http.operations import OPERATIONS, Operation
from tests.http.conversation import POLL, WEATHER_TOOL, Conversation
from tests.server import ServerProcess

CHECKS: Final[list[CheckFunction]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
TIMEOUT_SECONDS: Final = 20  # an answer or a stream that hangs fails its test
EXAMPLES: Final = 10
SCHEMA: Final = schemathesis.openapi.from_dict(json.loads(document()))
EVERY_OPERATION: Final = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda row: row.id)
CAN_BE_WRONG: Final = pytest.mark.parametrize(
    "operation",
    [row for row in OPERATIONS if row.needs_key and row.path != "/models"],
    ids=lambda row: row.id,
)
# What is refused so is refused before a database is asked.
ON_SQLITE: Final = pytest.mark.parametrize("demo_server", ["sqlite"], indirect=True)
ASKS_FOR_WEATHER: Final = {"role": "user", "content": "Please get_weather in Paris"}

load_all_checks()


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    """Connections, kept open."""
    with requests.Session() as session:
        yield session


@EVERY_OPERATION
def test_what_fits_the_document_is_answered_as_it_says(
    demo_server: ServerProcess, http: requests.Session, operation: Operation
) -> None:
    assert fuzz(demo_server, http, operation, GenerationMode.POSITIVE)


@ON_SQLITE
@CAN_BE_WRONG
def test_what_does_not_fit_the_document_is_refused_as_it_says(
    demo_server: ServerProcess, http: requests.Session, operation: Operation
) -> None:
    assert fuzz(demo_server, http, operation, GenerationMode.NEGATIVE)


@EVERY_OPERATION
def test_what_succeeds_answers_what_the_document_says(
    demo_server: ServerProcess, http: requests.Session, operation: Operation
) -> None:
    with closing(World(demo_server.url)) as world:
        prepare = world.preparation(operation)
        statuses = fuzz(demo_server, http, operation, GenerationMode.POSITIVE, prepare)
    assert statuses[200] > 0, statuses


def fuzz(
    server: ServerProcess,
    http: requests.Session,
    operation: Operation,
    mode: GenerationMode,
    prepare: Callable[[Case[Any]], None] = lambda case: None,
) -> Counter[int]:
    """How often each status came; every answer was as the document says."""
    cases = SCHEMA[operation.path][operation.method].as_strategy(generation_mode=mode)
    statuses: Counter[int] = Counter()

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=cases)
    def answers(case: Case[Any]) -> None:
        prepare(case)
        response = case.call(base_url=server.url, session=http, timeout=TIMEOUT_SECONDS)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    answers()
    return statuses


class World:
    """Objects that are there, for cases to name."""

    def __init__(self, url: str) -> None:
        self._conversation = Conversation(url)
        self._assistant_id = self._new_assistant()
        self._file_id = self._file()
        self._store_id = self._store()

    def close(self) -> None:
        """Close the connections."""
        self._conversation.close()

    def preparation(self, operation: Operation) -> Callable[[Case[Any]], None]:
        """What makes a case name objects that are there, in the state that it needs."""
        # What is deleted, run or answered can be so once only.
        once = ("cancelRun", "cancelUpload", "completeUpload")
        is_once = operation.method == "DELETE" or operation.streams or operation.id in once
        kept: dict[str, Any] = {}

        def prepare(case: Case[Any]) -> None:
            if is_once or not kept:
                kept.update(self._objects(operation))
            for name in case.path_parameters:
                case.path_parameters[name] = kept[name]
            for name in ("after", "before", "run_id"):
                if name in case.query:
                    case.query[name] = kept["listed" if name != "run_id" else "run_id"]
            if operation.has_search:
                case.query["q"] = "hello"
            case.headers.pop("Idempotency-Key", None)
            body: Any = case.body
            if isinstance(body, dict):
                body.update(self._with_objects(body, kept))
                if operation.id == "completeUpload":
                    body.pop("md5", None)
                if operation.id == "createVectorStoreFileBatch":
                    body.pop("files" if body.get("file_ids") else "file_ids", None)

        return prepare

    def _with_objects(self, body: Any, kept: dict[str, Any]) -> Any:
        """The body, naming what is there wherever it names something."""
        if isinstance(body, list):
            return [self._with_objects(each, kept) for each in body]
        if not isinstance(body, dict):
            return body
        there: dict[str, Any] = {
            "assistant_id": self._assistant_id,
            "file_id": self._file_id,
            "file_ids": [self._file_id],
            "vector_store_ids": [self._store_id],
            "chunk_overlap_tokens": 0,  # half of a chunk at the most, which no schema can say
            **{name: kept[name] for name in ("part_ids", "tool_outputs") if name in kept},
        }
        return {
            name: there[name] if name in there and value else self._with_objects(value, kept)
            for name, value in body.items()
        }

    def _objects(self, operation: Operation) -> dict[str, Any]:
        objects: dict[str, Any] = {"model": "demo", "assistant_id": self._assistant_id}
        if "/files/{file_id}" in operation.path or operation.lists == "file":
            objects["file_id"] = self._file()
        if "vector_store" in operation.path:
            objects |= self._filled_store(objects.get("file_id", self._file_id))
        if "upload_id" in operation.path:
            objects |= self._upload()
        if operation.id == "deleteAssistant":
            objects["assistant_id"] = self._new_assistant()
        if "/{thread_id}" in operation.path or operation.lists in ("thread", "msg"):
            objects |= self._thread()
        if "run_id" in operation.path or operation.lists in ("run", "step", "msg"):
            waits = operation.id in ("cancelRun", "submitToolOuputsToRun")
            objects |= self._run(objects["thread_id"], waits=waits)
        of_list = {
            "asst": "assistant_id",
            "thread": "thread_id",
            "msg": "message_id",
            "run": "run_id",
            "step": "step_id",
            "file": "file_id",
            "vs": "vector_store_id",
        }
        if operation.lists is not None:
            objects["listed"] = objects[of_list[operation.lists]]
        return objects

    def _new_assistant(self) -> str:
        wanted = {"model": "demo", "instructions": "Answer.", "tools": [WEATHER_TOOL]}
        return self._conversation.make("createAssistant", body=wanted)

    def _file(self) -> str:
        file = {"file": ("notes.txt", b"Notes")}
        made = self._conversation.call("createFile", body={"purpose": "vision"}, files=file)
        return str(made.json()["id"])

    def _store(self) -> str:
        return self._conversation.make("createVectorStore")

    def _filled_store(self, file_id: str) -> dict[str, Any]:
        """A store whose file was read."""
        ids = {"vector_store_id": self._store(), "file_id": file_id}
        wanted = {"file_ids": [file_id], "attributes": {"kind": "note"}}
        batch_id = self._conversation.make("createVectorStoreFileBatch", ids=ids, body=wanted)
        read = self._conversation.call("getVectorStoreFile", ids=ids, headers=POLL).json()
        assert read["status"] == "completed", read
        return {**ids, "batch_id": batch_id}

    def _upload(self) -> dict[str, Any]:
        wanted = {"filename": "b", "purpose": "vision", "bytes": 1, "mime_type": "image/png"}
        upload_id = self._conversation.make("createUpload", body=wanted)
        ids, data = {"upload_id": upload_id}, {"data": ("data", b"1")}
        part = self._conversation.call("addUploadPart", ids=ids, files=data)
        return {"upload_id": upload_id, "part_ids": [part.json()["id"]]}

    def _thread(self) -> dict[str, Any]:
        make = self._conversation.make
        thread_id = make("createThread")
        hello = {"role": "user", "content": "Hello"}
        message_id = make("createMessage", ids={"thread_id": thread_id}, body=hello)
        return {"thread_id": thread_id, "message_id": message_id}

    def _run(self, thread_id: str, *, waits: bool) -> dict[str, Any]:
        asking: dict[str, Any] = {"assistant_id": self._assistant_id}
        if waits:
            asking |= {"additional_messages": [ASKS_FOR_WEATHER]}
        run_id = self._conversation.make("createRun", ids={"thread_id": thread_id}, body=asking)
        run = self._conversation.rest(thread_id, run_id)
        ids = {"thread_id": thread_id, "run_id": run_id}
        steps = self._conversation.call("listRunSteps", ids=ids).json()["data"]
        made = {"run_id": run_id, "step_id": steps[0]["id"]}
        if waits:
            calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
            made["tool_outputs"] = [{"tool_call_id": each["id"], "output": "1"} for each in calls]
        return made
