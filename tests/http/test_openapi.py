"""The OpenAPI document is valid, complete, and says what the server really answers."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from rethread.http.openapi import document
from rethread.http.operations import OPERATIONS
from rethread.http.routes import ROUTES
from tests.http import conversation
from tests.http.conversation import Exchange
from tests.server import ServerProcess

DOCUMENT: dict[str, Any] = json.loads(document())
OFFICIAL = Path(__file__).parents[3] / "shared" / "contract" / "assistants.openapi.json"


@pytest.fixture(scope="module")
def exchanges(demo_server: ServerProcess) -> list[Exchange]:
    """The answers of a conversation that uses every operation."""
    return conversation.hold(demo_server.url)


def test_the_document_is_a_valid_openapi_document() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_every_schema_is_a_valid_schema_and_every_reference_leads_somewhere() -> None:
    for name in DOCUMENT["components"]["schemas"]:
        _validator(DOCUMENT, f"#/components/schemas/{name}")
    for reference in _references(DOCUMENT):
        place: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_what_is_stored_only_is_not_spoken_of() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["CodeInterpreter"]["properties"]) == {"input", "outputs"}
    assert "MadeFile" not in schemas


def test_every_route_stands_in_the_document_and_nothing_else() -> None:
    told = {
        (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    assert told == {(route.method, route.path) for route in ROUTES}
    assert len(OPERATIONS) == len(ROUTES)
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)


def test_the_document_says_of_each_route_whether_it_needs_a_key_and_the_beta_header() -> None:
    for route in ROUTES:
        told = DOCUMENT["paths"][route.path][route.method.lower()]
        assert (told.get("security") == []) is not route.needs_key
        headers = [each["name"] for each in told["parameters"] if each["in"] == "header"]
        assert ("OpenAI-Beta" in headers) is route.is_beta


def test_what_openai_never_had_is_marked() -> None:
    marked = {
        operation["operationId"]
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
        if operation.get("x-rethread-extension")
    }
    assert marked >= {"listThreads", "searchThreads"}


def test_every_optional_field_of_a_request_takes_null_and_no_required_one_does() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    asked = [row.asks.__name__ for row in OPERATIONS if row.asks is not None]
    seen: set[str] = set()
    while asked:
        name = asked.pop()
        if name in seen:
            continue
        seen.add(name)
        schema = schemas[name]
        assert schema["additionalProperties"] is False, name
        for field, kind in schema["properties"].items():
            validator = jsonschema_rs.validator_for({**kind, "components": DOCUMENT["components"]})
            is_optional = field not in schema["required"]
            assert validator.is_valid(None) is is_optional, f"{name}.{field}"
        asked += [reference.split("/")[-1] for reference in _references(schema)]
    assert "FunctionDefinition" in seen


def test_the_served_document_is_this_one(exchanges: list[Exchange]) -> None:
    served = [each.response for each in exchanges if each.operation_id == "getOpenapi"]
    assert [answer.content for answer in served] == [document()]


def test_the_conversation_has_used_every_operation_with_success(
    exchanges: list[Exchange],
) -> None:
    assert [each.response.text for each in exchanges if each.response.status_code != 200] == []
    assert {each.operation_id for each in exchanges} == {row.id for row in OPERATIONS}


def test_every_answer_fits_its_schema(exchanges: list[Exchange]) -> None:
    for exchange in exchanges:
        told = DOCUMENT["paths"][exchange.path][exchange.method.lower()]
        content = told["responses"]["200"]["content"]
        content_type = exchange.response.headers["content-type"].split(";")[0]
        assert content_type in content
        if content_type == "application/json":
            pointer = content[content_type]["schema"]["$ref"]
            _validator(DOCUMENT, pointer).validate(exchange.response.json())


def test_every_event_of_a_stream_fits_its_schema(exchanges: list[Exchange]) -> None:
    told = DOCUMENT["components"]["schemas"]["StreamEvent"]["oneOf"]
    names = set()
    for exchange in exchanges:
        for name, said in conversation.events(exchange.response):
            names.add(name)
            shapes = [
                shape["properties"]
                for shape in told
                if shape["properties"]["event"] == {"const": name}
            ]
            assert len(shapes) == 1, name
            if name != "done":
                pointer = shapes[0]["data"]["contentSchema"]["$ref"]
                _validator(DOCUMENT, pointer).validate(json.loads(said))
    assert names >= {"thread.created", "thread.run.completed", "thread.message.completed", "done"}


def test_an_unknown_field_is_refused_wherever_the_document_says_so(
    demo_server: ServerProcess,
) -> None:
    client = conversation.Conversation(demo_server.url)
    ids = {
        "assistant_id": "asst_1",
        "thread_id": "thread_1",
        "message_id": "msg_1",
        "run_id": "run_1",
        "upload_id": "upload_1",
        "vector_store_id": "vs_1",
        "file_id": "file-1",
        "batch_id": "vsfb_1",
    }
    for row in OPERATIONS:
        if row.asks is None or row.file_field:  # forms have tests of their own
            continue
        schema = DOCUMENT["components"]["schemas"][row.asks.__name__]
        body = dict.fromkeys(schema["required"], 1)
        error = client.call(row.id, body={**body, "foo": 1}, ids=ids).json()["error"]
        assert error["message"] == "Unknown parameter: 'foo'."
        for field in schema["required"]:
            rest = {name: value for name, value in body.items() if name != field}
            error = client.call(row.id, body=rest, ids=ids).json()["error"]
            assert error["message"] == f"Missing required parameter: '{field}'."
    client.close()


@pytest.mark.skipif(not OFFICIAL.exists(), reason="the official document is not there")
def test_every_answer_fits_the_official_schema_too(exchanges: list[Exchange]) -> None:
    official = json.loads(OFFICIAL.read_text("utf-8"))
    checked = set()
    for exchange in exchanges:
        told = official["paths"].get(exchange.path, {}).get(exchange.method.lower())
        if told is None or exchange.response.headers["content-type"] != "application/json":
            continue
        assert told["operationId"] == exchange.operation_id
        schema = told["responses"]["200"]["content"]["application/json"]["schema"]
        validator = jsonschema_rs.validator_for({**schema, "components": official["components"]})
        faults = [
            f"{'/'.join(map(str, fault.instance_path))}: {fault.message}"
            for fault in validator.iter_errors(exchange.response.json())
        ]
        assert faults == [], f"{exchange.operation_id}: {exchange.response.text}"
        checked.add(exchange.operation_id)
    assert len(checked) == 49


def _validator(document: dict[str, Any], pointer: str) -> jsonschema_rs.Draft202012Validator:
    schema = {"$ref": pointer, "components": document["components"]}
    return jsonschema_rs.Draft202012Validator(schema)


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            if name == "$ref":
                yield member
            else:
                yield from _references(member)
    elif isinstance(value, list):
        for member in value:
            yield from _references(member)
