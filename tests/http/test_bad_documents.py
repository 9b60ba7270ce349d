"""Files and stores that are too many, too deep, or gone while they are used: each a clear end."""

import time
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from tests.server import ServerProcess

PATIENCE_SECONDS: Final = 20.0
LARGE: Final = b"whale " * 4_000_000
HELD: Final = {"x-stainless-poll-helper": "true"}
# A full store, but for so many files; rows are made from one that is there.
FILL: Final = """
INSERT INTO vector_store_files (store_id, file_id, status, created_at, filename, max_chunk_tokens,
                                overlap_tokens, attributes)
WITH RECURSIVE numbers(number) AS (
  SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 9998
)
SELECT store_id, 'file-' || numbers.number, 'completed', created_at, filename, max_chunk_tokens,
       overlap_tokens, attributes
  FROM vector_store_files CROSS JOIN numbers WHERE store_id = '{store_id}'
"""


@pytest.fixture(scope="module")
def client(demo_server: ServerProcess) -> Iterator[httpx2.Client]:
    """Plain HTTP to the server."""
    with httpx2.Client(base_url=demo_server.url, timeout=30) as http:
        yield http


@pytest.fixture(autouse=True)
def no_fault(demo_server: ServerProcess) -> Iterator[None]:
    """No test makes the server tell its log of a fault."""
    yield
    assert not [line for line in demo_server.log if "Traceback" in line or " error " in line]


def new_file(client: httpx2.Client, content: bytes = b"A whale.") -> str:
    form = {"file": ("a.txt", content)}
    made = client.post("/files", data={"purpose": "assistants"}, files=form)
    return str(made.json()["id"])


def new_store(client: httpx2.Client, *file_ids: str) -> str:
    """A store whose files were read."""
    store_id = str(client.post("/vector_stores", json={"file_ids": file_ids}).json()["id"])
    for file_id in file_ids:
        client.get(f"/vector_stores/{store_id}/files/{file_id}", headers=HELD)
    return store_id


def refusal(response: httpx2.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    return dict(response.json()["error"])


def nested(depth: int, kind: str) -> Any:
    filters: Any = {"type": "eq", "key": "k", "value": "v"}
    for _ in range(depth):
        filters = {"type": kind, "filters": [filters]}
    return filters


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (nested(10, "and"), "Invalid 'filters': expected filters nested at most 10 deep"),
        (nested(50, "or"), "Invalid 'filters': expected filters nested at most 10 deep"),
        (nested(100, "and"), "The body of your request is nested too deeply"),
        (
            {"type": "or", "filters": [nested(0, "or")] * 101},
            "Invalid 'filters': expected at most 100 comparisons",
        ),
        (
            {"type": "in", "key": "k", "value": list(range(1001))},
            "Invalid 'filters.value': array too long.",
        ),
        (
            {
                "type": "or",
                "filters": [{"type": "nin", "key": "k", "value": list(range(501))}] * 2,
            },
            "Invalid 'filters': expected at most 1000 values",
        ),
    ],
)
def test_a_filter_without_measure_is_refused(
    client: httpx2.Client, filters: Any, message: str
) -> None:
    asked = {"query": "whale", "filters": filters}
    fault = refusal(client.post(f"/vector_stores/{new_store(client)}/search", json=asked))
    assert fault["message"].startswith(message)


def test_a_filter_as_deep_and_as_wide_as_may_be_is_heeded(client: httpx2.Client) -> None:
    store_id = new_store(client, new_file(client))
    is_none = [{"type": "nin", "key": "k", "value": [f"v{n}", *range(9)]} for n in range(99)]
    deep = nested(9, "or")["filters"][0]
    for kind, count in (("and", 0), ("or", 1)):
        asked = {"query": "whale", "filters": {"type": kind, "filters": [*is_none, deep]}}
        found = client.post(f"/vector_stores/{store_id}/search", json=asked).json()["data"]
        assert len(found) == count


def test_a_full_store_takes_no_more_files_and_is_searched_as_any(
    client: httpx2.Client, demo_server: ServerProcess
) -> None:
    store_id = new_store(client, new_file(client))
    demo_server.ask(FILL.format(store_id=store_id))
    files = f"/vector_stores/{store_id}/files"
    two = [new_file(client), new_file(client)]
    asked = {"file_ids": two}
    fault = refusal(client.post(f"/vector_stores/{store_id}/file_batches", json=asked))
    assert fault["message"] == (
        f"Vector store '{store_id}' has 9999 files: with 2 more it would have more than 10000, "
        "which are the most."
    )
    assert client.post(files, json={"file_id": two[0]}).status_code == 200
    assert client.post(files, json={"file_id": two[0]}).status_code == 200  # it is there already
    refusal(client.post(files, json={"file_id": two[1]}))
    counts = client.get(f"/vector_stores/{store_id}").json()["file_counts"]
    assert counts["total"] == 10_000
    found = client.post(f"/vector_stores/{store_id}/search", json={"query": "whale"}).json()
    assert found["data"][0]["filename"] == "a.txt"


def test_a_download_goes_on_to_its_end_when_the_file_is_deleted(
    client: httpx2.Client, demo_server: ServerProcess
) -> None:
    file_id = new_file(client, LARGE)
    before = len(demo_server.ask("SELECT id FROM blobs"))
    with client.stream("GET", f"/files/{file_id}/content") as download:
        pieces = download.iter_bytes()
        content = next(pieces)
        assert client.delete(f"/files/{file_id}").json()["deleted"]
        until = time.monotonic() + PATIENCE_SECONDS
        while demo_server.ask("SELECT COUNT(*) FROM blob_trash") != [(0,)]:
            assert time.monotonic() < until
            time.sleep(0.05)
        content += b"".join(pieces)
    assert content == LARGE
    assert len(demo_server.ask("SELECT id FROM blobs")) == before - 1
    assert refusal(client.get(f"/files/{file_id}/content"), 404)["param"] == "id"


def test_what_is_deleted_is_found_and_cited_no_more(client: httpx2.Client) -> None:
    gone, kept = new_file(client, b"The whale is blue."), new_file(client, b"The whale is grey.")
    store_id = new_store(client, gone, kept)
    client.delete(f"/files/{gone}")
    asked = {"query": "whale"}
    found = client.post(f"/vector_stores/{store_id}/search", json=asked).json()["data"]
    assert [each["file_id"] for each in found] == [kept]
    content = f"/vector_stores/{store_id}/files/{gone}/content"
    assert refusal(client.get(content), 404)["message"].startswith("No file found with id")
    client.delete(f"/vector_stores/{store_id}")
    search = client.post(f"/vector_stores/{store_id}/search", json=asked)
    assert refusal(search, 404)["message"] == f"No vector store found with id '{store_id}'."
    assert client.get(f"/files/{kept}").status_code == 200


def test_a_file_that_is_no_text_and_an_empty_one_fail_and_say_why(client: httpx2.Client) -> None:
    wrong = {"a.txt": b"", "a.pdf": b"This is no PDF.", "a.exe": b"MZ\0\1", "a.docx": b"PK\3\4"}
    told = {}
    for name, content in wrong.items():
        form = {"file": (name, content)}
        made = client.post("/files", data={"purpose": "assistants"}, files=form)
        file_id = made.json()["id"]
        store_id = new_store(client, file_id)
        file = client.get(f"/vector_stores/{store_id}/files/{file_id}").json()
        assert (file["status"], file["usage_bytes"]) == ("failed", 0)
        told[name] = file["last_error"]["code"]
        shown = client.get(f"/vector_stores/{store_id}/files/{file_id}/content")
        assert "its status is 'failed'" in refusal(shown)["message"]
    assert told == {
        "a.txt": "invalid_file",
        "a.pdf": "invalid_file",
        "a.exe": "unsupported_file",
        "a.docx": "invalid_file",
    }
