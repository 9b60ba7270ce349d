"""Whatever comes is refused in OpenAI's shape, and the server answers on as if nothing had been."""

# ruff: noqa: E501 - a row of a table is a line

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest
from msgspec import inspect

from rethread.http.operations import OPERATIONS, Operation
from tests.http.bodies import variants
from tests.server import ServerProcess

MISSING: Final = {
    "assistant_id": "asst_missing",
    "thread_id": "thread_missing",
    "message_id": "msg_missing",
    "run_id": "run_missing",
    "step_id": "step_missing",
    "file_id": "file-missing",
    "upload_id": "upload_missing",
    "vector_store_id": "vs_missing",
    "batch_id": "vsfb_missing",
}
ASKING: Final = pytest.mark.parametrize(
    "operation",
    [row for row in OPERATIONS if row.asks and not row.file_field],
    ids=lambda row: row.id,
)
NOT_JSON: Final = {
    "words": b"hello",
    "form": b"model=demo&name=x",
    "half": b'{"model": "demo"',
    "more": b'{"model": "demo"} {}',
    "single quotes": b"{'model': 'demo'}",
    "trailing comma": b'{"model": "demo",}',
    "NaN": b'{"model": "demo", "temperature": NaN}',
    "huge number": b'{"model": "demo", "temperature": 1e999}',
    "digits": b'{"model": "demo", "temperature": ' + b"9" * 5000 + b"}",
    "BOM": b'\xef\xbb\xbf{"model": "demo"}',
    "UTF-16": '{"model": "demo"}'.encode("utf-16"),
    "invalid UTF-8": b'{"model": "demo", "name": "\xff"}',
    "cut UTF-8": b'{"model": "demo", "name": "\xe2\x82"}',
    "overlong UTF-8": b'{"model": "demo", "name": "\xc0\xaf"}',
    "raw surrogate": b'{"model": "demo", "name": "\xed\xa0\x80"}',
    "escaped high surrogate": rb'{"model": "demo", "name": "a\ud800"}',
    "escaped low surrogate": rb'{"model": "demo", "name": "\udc00a"}',
    "two high surrogates": rb'{"model": "demo", "name": "\ud800\ud800"}',
    "surrogate in a key": rb'{"model": "demo", "metadata": {"\ud800": ""}}',
    "surrogate in an unknown field": rb'{"model": "demo", "\ud800": ""}',
    "raw NUL": b'{"model": "demo", "name": "a\x00b"}',
    "zeros": b"\x00" * 1000,
}


@pytest.fixture(scope="module")
def client(demo_server: ServerProcess) -> Iterator[httpx2.Client]:
    """Plain HTTP to the server."""
    with httpx2.Client(base_url=demo_server.url, timeout=30) as http:
        yield http


@pytest.fixture(autouse=True)
def answers_on(demo_server: ServerProcess) -> Iterator[None]:
    """After every test the server makes an assistant, on a connection of its own."""
    yield
    answer = httpx2.post(f"{demo_server.url}/assistants", json={"model": "demo"}, timeout=30)
    assert answer.status_code == 200
    assert not [line for line in demo_server.log if "Traceback" in line]


def error(response: httpx2.Response, status: int = 400) -> dict[str, Any]:
    """The error of a refusal, whose shape is OpenAI's."""
    assert response.status_code == status, response.text[:300]
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "invalid_request_error"
    return dict(body["error"])


# Bodies that are no JSON, or too much of it


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_a_body_that_is_not_json_in_utf_8_is_refused(client: httpx2.Client, body: bytes) -> None:
    message = error(client.post("/assistants", content=body))["message"]
    assert message.startswith("We could not parse the JSON body") or "UTF-8" in message


@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'"x"', b"true", b'[{"model": "demo"}]'])
def test_a_body_that_is_no_object_is_refused(client: httpx2.Client, body: bytes) -> None:
    assert error(client.post("/assistants", content=body))["code"] == "invalid_type"


@pytest.mark.parametrize("body", [b"", b"  \n", b"{}"])
def test_an_empty_body_asks_for_nothing_in_particular(client: httpx2.Client, body: bytes) -> None:
    assert client.post("/threads", content=body).json()["object"] == "thread"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"hello", 400), (b'{"foo": 1}', 400), (b"[]", 400), (b"", 404), (b"{}", 404)],
)
def test_a_body_is_checked_where_there_is_nothing_to_say(
    client: httpx2.Client, body: bytes, status: int
) -> None:
    answer = client.post("/threads/thread_x/runs/run_x/cancel", content=body)
    assert answer.status_code == status


def test_nul_and_every_other_character_comes_back_as_it_went(client: httpx2.Client) -> None:
    text = "\0 a\0b \x01 \x7f \ufffe \uffff \U0010ffff 😀 e\u0301 \u202e"
    thread_id = client.post("/threads", json={"metadata": {"\0": text}}).json()["id"]
    assert client.get(f"/threads/{thread_id}").json()["metadata"] == {"\0": text}
    said = {"role": "user", "content": text}
    added = client.post(f"/threads/{thread_id}/messages", json=said).json()
    [message] = client.get(f"/threads/{thread_id}/messages").json()["data"]
    assert message == added
    assert message["content"][0]["text"]["value"] == text


@pytest.mark.parametrize("depth", [129, 10_000, 1_000_000])
@pytest.mark.parametrize("shape", ["body", "unknown field", "parameters", "message"])
def test_json_that_is_nested_too_deeply_is_refused(
    client: httpx2.Client, depth: int, shape: str
) -> None:
    deep = "[" * depth + "]" * depth
    path = "/threads" if shape == "message" else "/assistants"
    body = {
        "body": deep,
        "unknown field": f'{{"model": "demo", "foo": {deep}}}',
        "parameters": _with_parameters(f'{{"enum": {deep}}}'),
        "message": f'{{"messages": [{{"role": "user", "content": {deep}}}]}}',
    }[shape]
    assert "nested too deeply" in error(client.post(path, content=body))["message"]


def test_parameters_as_deep_as_may_be_live_through_a_whole_run(client: httpx2.Client) -> None:
    depth = 120
    deep = '{"type": "object", "properties": {"a": ' * (depth // 2) + "{}" + "}}" * (depth // 2)
    made = client.post("/assistants", content=_with_parameters(deep)).json()
    assert made["tools"][0]["function"]["parameters"] == json.loads(deep)
    said = [{"role": "user", "content": "Call deep"}]
    wanted = {"assistant_id": made["id"], "thread": {"messages": said}, "stream": True}
    streamed = client.post("/threads/runs", json=wanted).text
    assert "event: thread.run.requires_action" in streamed


def _with_parameters(parameters: str) -> str:
    function = f'{{"name": "deep", "parameters": {parameters}}}'
    return f'{{"model": "demo", "tools": [{{"type": "function", "function": {function}}}]}}'


# Every field of every request


@ASKING
def test_every_field_is_checked_and_every_optional_one_takes_null(
    client: httpx2.Client, operation: Operation
) -> None:
    path = operation.path.format(**MISSING)
    told: Counter[str] = Counter()
    for at, body, verdict in variants(inspect.type_info(operation.asks)):
        response = client.request("POST", path, json=body)
        if verdict == "right":
            assert response.status_code in (200, 404) or _breaks_a_rule(response), response.text
        else:
            fault = error(response)
            assert fault["param"] == (at or None), fault
            assert fault["code"] in CODES, fault
        told[verdict] += 1
    assert told["wrong"] >= 6


BETWEEN_FIELDS: Final = (
    "truncation_strategy.last_messages",
    "static.chunk_overlap_tokens",
    "vector_stores",
    "attributes",
    "file_ids",
    "files",
    "purpose",
    "part_ids[0]",
)
CODES: Final = {
    "array_above_max_length",
    "decimal_above_max_value",
    "decimal_below_min_value",
    "empty_array",
    "empty_string",
    "integer_above_max_value",
    "integer_below_min_value",
    "invalid_type",
    "invalid_value",
    "missing_required_parameter",
    "object_above_max_properties",
    "property_name_above_max_length",
    "string_above_max_length",
    "unknown_parameter",
}


def _breaks_a_rule(response: httpx2.Response) -> bool:
    """One whose fields are right each by itself, but not together."""
    fault = error(response)
    return (fault["param"] or "").endswith(BETWEEN_FIELDS)


# Paths and queries


@pytest.mark.parametrize(
    "id",
    [
        "asst_%2F..%2Fx",
        "..%2F..%2Fetc%2Fpasswd",
        "asst_..",
        "asst_%00",
        "asst_%FF",
        "asst_%0A",
        "%20",
    ],
)
def test_an_id_with_other_characters_is_refused(client: httpx2.Client, id: str) -> None:
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", "")):
        fault = error(client.request(method, f"/assistants/{id}{path}"))
        assert (fault["param"], fault["code"]) == ("assistant_id", "invalid_value")
        assert fault["message"].startswith("Invalid 'assistant_id': '")


def test_an_id_of_another_kind_is_refused_with_what_it_should_begin_with(
    client: httpx2.Client,
) -> None:
    fault = error(client.get("/threads/undefined/messages"))
    assert fault["message"] == (
        "Invalid 'thread_id': 'undefined'. Expected an ID that begins with 'thread'."
    )


@pytest.mark.parametrize("path", ["nope", "assistants/asst_1/files", "threads/runs", "../etc"])
def test_an_unknown_route_is_a_404(client: httpx2.Client, path: str) -> None:
    if path == "threads/runs":  # there, but not to be read
        assert error(client.get(path), 405)["code"] == "method_not_supported"
    else:
        assert error(client.get(path), 404)["code"] == "unknown_url"


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
def test_a_part_of_the_api_that_is_not_served_is_told_from_a_wrong_address(
    client: httpx2.Client, path: str
) -> None:
    fault = error(client.post(path, json={}), 404)
    assert fault["code"] == "unknown_url"
    assert "does not serve" in fault["message"]
    assert "does not serve" not in error(client.post("nope", json={}), 404)["message"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "DELETE"])
def test_an_unknown_method_is_told_which_there_are(client: httpx2.Client, method: str) -> None:
    response = client.request(method, "/assistants")
    assert error(response, 405)["code"] == "method_not_supported"
    assert response.headers["allow"] == "GET, POST"


QUERIES: Final = {
    "limit=0": ("limit", "integer_below_min_value", "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got 0 instead."),
    "limit=-1": ("limit", "integer_below_min_value", "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got -1 instead."),
    "limit=101": ("limit", "integer_above_max_value", "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 instead."),
    "limit=ten": ("limit", "invalid_type", "Invalid type for 'limit': expected an integer, but got a string instead."),
    "limit=1.5": ("limit", "invalid_type", "Invalid type for 'limit': expected an integer, but got a string instead."),
    "limit=1_0": ("limit", "invalid_type", "Invalid type for 'limit': expected an integer, but got a string instead."),
    "limit=%D9%A3": ("limit", "invalid_type", "Invalid type for 'limit': expected an integer, but got a string instead."),
    "order=up": ("order", "invalid_value", "Invalid value: 'up'. Supported values are: 'asc' and 'desc'."),
    "limit=1&limit=2": ("limit", "duplicate_parameter", "Duplicate parameter: 'limit'. You provided multiple values for this parameter, whereas only one is allowed."),
    "order=asc&order=asc": ("order", "duplicate_parameter", "Duplicate parameter: 'order'. You provided multiple values for this parameter, whereas only one is allowed."),
    "after=msg_1&after=msg_2": ("after", "duplicate_parameter", "Duplicate parameter: 'after'. You provided multiple values for this parameter, whereas only one is allowed."),
    "run_id=run_1&run_id=run_2": ("run_id", "duplicate_parameter", "Duplicate parameter: 'run_id'. You provided multiple values for this parameter, whereas only one is allowed."),
    "run_id=x": ("run_id", "invalid_value", "Invalid 'run_id': 'x'. Expected an ID that begins with 'run'."),
    "after=x": ("after", "invalid_value", "Invalid 'after': 'x'. Expected an ID that begins with 'msg'."),
    "before=asst_1": ("before", "invalid_value", "Invalid 'before': 'asst_1'. Expected an ID that begins with 'msg'."),
}  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_a_wrong_query_is_refused_in_openai_s_words(client: httpx2.Client, query: str) -> None:
    thread_id = client.post("/threads").json()["id"]
    fault = error(client.get(f"/threads/{thread_id}/messages?{query}"))
    assert (fault["param"], fault["code"], fault["message"]) == QUERIES[query]


@pytest.mark.parametrize(
    "query", ["limit=&order=&after=&before=&run_id=", "foo=1&foo=2", "limit=100"]
)
def test_an_empty_or_unknown_query_parameter_is_absent(client: httpx2.Client, query: str) -> None:
    thread_id = client.post("/threads").json()["id"]
    assert client.get(f"/threads/{thread_id}/messages?{query}").json()["data"] == []


def test_a_cursor_of_another_list_is_a_404(client: httpx2.Client) -> None:
    said = {"role": "user", "content": "Hi"}
    one, other = (client.post("/threads").json()["id"] for _ in range(2))
    theirs = client.post(f"/threads/{other}/messages", json=said).json()["id"]
    for name in ("after", "before"):
        fault = error(client.get(f"/threads/{one}/messages?{name}={theirs}"), 404)
        assert fault["message"] == f"No message found with id '{theirs}'."


def test_another_version_of_the_api_is_refused_and_none_is_fine(client: httpx2.Client) -> None:
    asked = {"openai-beta": "assistants=v1"}
    fault = error(client.get("/assistants", headers=asked))
    assert fault["code"] == "invalid_beta"
    assert fault["message"] == (
        "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try again "
        "by setting the header 'OpenAI-Beta: assistants=v2'."
    )
    assert client.get("/assistants").status_code == 200
    assert client.get("/models", headers=asked).status_code == 200


def test_an_unknown_wish_for_an_active_run_is_refused(client: httpx2.Client) -> None:
    wish = {"rethread-on-active-run": "hope"}
    fault = error(client.post("/threads/thread_1/messages", headers=wish, json={}))
    assert fault["message"] == (
        "Invalid value: 'hope'. Supported values are: 'reject', 'wait', and 'retry'."
    )
