"""What another project has is as if it were not there: no route tells it from what never was."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import httpx2
import pytest
from msgspec import inspect

from rethread.http.operations import OPERATIONS, Operation
from tests.conftest import DATABASES, new_database
from tests.http.bodies import right
from tests.server import ServerProcess, running_server

NAMES_OBJECTS: Final = [
    row for row in OPERATIONS if "{" in row.path and row.path != "/models/{model}"
]
# The smallest right body is not enough for these, as a rule stands between their fields.
BODIES: Final[Mapping[str, Any]] = {
    "createVectorStoreFile": {"file_id": "{own_file_id}"},
    "createVectorStoreFileBatch": {"file_ids": ["{own_file_id}"]},
    "updateVectorStoreFileAttributes": {"attributes": {"a": "b"}},
    "createRun": {"assistant_id": "{own_assistant_id}"},
}
STORES: Final = {"file_search": {"vector_store_ids": ["{vector_store_id}"]}}
ATTACHED: Final = {
    "role": "user",
    "content": "Look",
    "attachments": [{"file_id": "{file_id}", "tools": [{"type": "file_search"}]}],
}
# Bodies that name what another project has; the ids of the path are one's own.
NAMING: Final = [
    ("createVectorStore", {"file_ids": ["{file_id}"]}),
    ("createVectorStoreFile", {"file_id": "{file_id}"}),
    ("createVectorStoreFileBatch", {"file_ids": ["{own_file_id}", "{file_id}"]}),
    ("createVectorStoreFileBatch", {"files": [{"file_id": "{file_id}"}]}),
    ("completeUpload", {"part_ids": ["{part_id}"]}),
    ("createAssistant", {"model": "demo", "tool_resources": STORES}),
    (
        "createAssistant",
        {
            "model": "demo",
            "tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["{file_id}"]}]}},
        },
    ),
    ("modifyAssistant", {"tool_resources": STORES}),
    ("createThread", {"tool_resources": STORES}),
    ("createThread", {"messages": [ATTACHED]}),
    ("modifyThread", {"tool_resources": STORES}),
    ("createMessage", ATTACHED),
    ("createRun", {"assistant_id": "{assistant_id}"}),
    ("createRun", {"assistant_id": "{own_assistant_id}", "additional_messages": [ATTACHED]}),
    ("createThreadAndRun", {"assistant_id": "{assistant_id}"}),
    (
        "createThreadAndRun",
        {"assistant_id": "{own_assistant_id}", "thread": {"tool_resources": STORES}},
    ),
]
LISTED: Final[Mapping[str, str]] = {
    "asst": "assistant_id",
    "thread": "thread_id",
    "msg": "message_id",
    "run": "run_id",
    "step": "step_id",
    "file": "file_id",
    "vs": "vector_store_id",
}


class Projects(NamedTuple):
    """Two clients with a key each, and the ids of what each of their projects has."""

    server: ServerProcess
    red: httpx2.Client
    blue: httpx2.Client
    reds: Mapping[str, str]
    blues: Mapping[str, str]


@pytest.fixture(scope="module", params=DATABASES)
def projects(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Projects]:
    """A server with two projects that have the same things."""
    folder = tmp_path_factory.mktemp("projects") / "data"
    with (
        new_database(request) as url,
        running_server(folder, database_url=url) as server,
        ExitStack() as stack,
    ):
        red, blue = (
            stack.enter_context(
                httpx2.Client(
                    base_url=server.url,
                    headers={"Authorization": f"Bearer {server.new_key(project)}"},
                    timeout=30,
                )
            )
            for project in ("red", "blue")
        )
        yield Projects(server, red, blue, furnished(red), furnished(blue))


@pytest.mark.parametrize("operation", NAMES_OBJECTS, ids=lambda row: row.id)
def test_a_path_does_not_lead_to_another_project(projects: Projects, operation: Operation) -> None:
    named = re.findall(r"{(\w+)}", operation.path)
    before = seen(projects.red, projects.reds)
    for place in range(len(named)):  # all that is named is theirs, or only what is further in
        theirs = named[place:]
        ids = {**projects.blues, **{name: projects.reds[name] for name in theirs}}
        told = refused(projects, operation, ids, body_of(operation))
        nowhere = {**ids, **{name: unknown(ids[name]) for name in theirs}}
        assert told == refused(projects, operation, nowhere, body_of(operation))
    assert seen(projects.red, projects.reds) == before


@pytest.mark.parametrize(("operation_id", "body"), NAMING)
def test_a_body_does_not_reach_another_project(
    projects: Projects, operation_id: str, body: Any
) -> None:
    operation = next(row for row in OPERATIONS if row.id == operation_id)
    text = json.dumps(body)
    theirs = [name for name in projects.reds if f'"{{{name}}}"' in text]
    assert theirs
    before = seen(projects.red, projects.reds)
    path = operation.path.format(**projects.blues)
    ids = {**projects.blues, **{name: projects.reds[name] for name in theirs}}
    nowhere = {**ids, **{name: unknown(ids[name]) for name in theirs}}
    # A part of another upload is no object that could be missing, but a wrong value.
    status = 400 if operation_id == "completeUpload" else 404
    told = refused(projects, operation, ids, body, path=path, status=status)
    assert told == refused(projects, operation, nowhere, body, path=path, status=status)
    assert seen(projects.red, projects.reds) == before


@pytest.mark.parametrize(
    "operation", [row for row in OPERATIONS if row.lists], ids=lambda row: row.id
)
def test_a_list_shows_nothing_of_another_project(projects: Projects, operation: Operation) -> None:
    path = operation.path.format(**projects.blues)
    query = {"q": "hello"} if operation.has_search else {}
    listed = projects.blue.get(path, params=query)
    assert listed.status_code == 200, listed.text
    assert not [id for id in projects.reds.values() if id in listed.text]
    cursor = projects.reds[LISTED[str(operation.lists)]]
    answers = [
        projects.blue.get(path, params={**query, "after": id}) for id in (cursor, unknown(cursor))
    ]
    assert answers[0].status_code == 404
    assert answers[0].text == answers[1].text.replace(unknown(cursor), cursor)


def furnished(client: httpx2.Client) -> dict[str, str]:
    """The ids of a project's things, one of each kind."""

    def make(path: str, body: Any) -> str:
        response = client.post(path, json=body)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    content = {"file": ("a.txt", b"hello")}
    file = client.post("/files", data={"purpose": "assistants"}, files=content)
    file_id = file.json()["id"]
    store_id = make("/vector_stores", {"name": "store"})
    batch_id = make(f"/vector_stores/{store_id}/file_batches", {"file_ids": [file_id]})
    wanted = {"filename": "b", "purpose": "assistants", "bytes": 1, "mime_type": "text/plain"}
    upload_id = make("/uploads", wanted)
    part = client.post(f"/uploads/{upload_id}/parts", files={"data": ("data", b"1")})
    assistant_id = make("/assistants", {"model": "demo", "instructions": "Hi"})
    thread_id = make("/threads", {"messages": [{"role": "user", "content": "hello"}]})
    run_id = make(f"/threads/{thread_id}/runs", {"assistant_id": assistant_id})
    held = {"x-stainless-poll-helper": "true"}
    run = client.get(f"/threads/{thread_id}/runs/{run_id}", headers=held).json()
    assert run["status"] == "completed", run
    (step,) = client.get(f"/threads/{thread_id}/runs/{run_id}/steps").json()["data"]
    messages = client.get(f"/threads/{thread_id}/messages").json()["data"]
    client.get(f"/vector_stores/{store_id}/files/{file_id}", headers=held)
    return {
        "file_id": file_id,
        "vector_store_id": store_id,
        "batch_id": batch_id,
        "upload_id": upload_id,
        "part_id": part.json()["id"],
        "assistant_id": assistant_id,
        "thread_id": thread_id,
        "run_id": run_id,
        "step_id": step["id"],
        "message_id": messages[0]["id"],
    }


def seen(client: httpx2.Client, ids: Mapping[str, str]) -> list[str]:
    """All that a project sees of its things."""
    paths = [
        "/files/{file_id}",
        "/files/{file_id}/content",
        "/vector_stores/{vector_store_id}",
        "/vector_stores/{vector_store_id}/files",
        "/vector_stores/{vector_store_id}/file_batches/{batch_id}",
        "/assistants/{assistant_id}",
        "/threads/{thread_id}",
        "/threads/{thread_id}/messages",
        "/threads/{thread_id}/runs",
        "/threads/{thread_id}/runs/{run_id}/steps",
    ]
    return [client.get(path.format(**ids)).text for path in paths]


def refused(
    projects: Projects,
    operation: Operation,
    ids: Mapping[str, str],
    body: Any,
    *,
    path: str | None = None,
    status: int = 404,
) -> str:
    """What the blue project is told, with the names of kinds where ids stood."""
    known = {**ids, **{f"own_{name}": id for name, id in projects.blues.items()}}
    files = {operation.file_field: ("data", b"1")} if operation.file_field else None
    response = projects.blue.request(
        operation.method,
        path or operation.path.format(**ids),
        json=None if files or operation.asks is None else filled(body, known),
        files=files,
    )
    assert response.status_code == status, response.text
    told = response.text
    for name, id in ids.items():
        told = told.replace(id, name)
    return told


def body_of(operation: Operation) -> Any:
    """The smallest body with which nothing but the ids is wrong."""
    if operation.asks is None:
        return None
    return BODIES.get(operation.id) or right(inspect.type_info(operation.asks))


def filled(body: Any, ids: Mapping[str, str]) -> Any:
    """The body with ids in the place of `{names}`."""
    named = re.sub(r'"{(\w+)}"', lambda found: json.dumps(ids[found[1]]), json.dumps(body))
    return json.loads(named)


def unknown(id: str) -> str:
    """An id of the same kind and length that nothing has."""
    prefix, mark, rest = re.split(r"([_-])", id, maxsplit=1)
    return prefix + mark + "0" * len(rest)
