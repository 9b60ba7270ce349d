"""The OpenAPI document: what is served, told by the types that validate requests and answers.

Made at the first request and kept. Which operation asks and answers what stands in
`operations.py`; what a type allows, in `contract`. Only what no type says is written here.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, get_args

import msgspec
from msgspec import UNSET, Struct, inspect

from rethread import __version__
from rethread.contract import ErrorBody
from rethread.contract.events import EventName
from rethread.contract.messages import MessageDelta
from rethread.contract.steps import StepDelta
from rethread.http.codec import encode
from rethread.http.files import CONTENT_TYPES
from rethread.http.openapi_parameters import Schema, parameters
from rethread.http.operations import OPERATIONS, Document, Operation

VERSION: Final = "3.1.0"
REF: Final = "#/components/schemas/{name}"

TAGS: Final = (
    "vector_stores",
    "runs",
    "messages",
    "threads",
    "assistants",
    "files",
    "uploads",
    "models",
)
# Statuses and when they come; all of them carry the same shape.
ERRORS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("Invalid", "The request breaks the contract, or the object's state refuses it now."),
    401: ("Unauthorized", "No API key, or a wrong one."),
    403: ("Forbidden", "A request without a key that does not come from this machine."),
    404: ("NotFound", "An id that this project does not have."),
    408: ("TooSlow", "The body stopped coming."),
    409: ("KeyReused", "The Idempotency-Key stands for another request."),
    413: ("TooLarge", "The body is past the limit."),
    503: ("Unavailable", "A part that is needed does not answer now; try again."),
}
SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
}


@cache
def document() -> bytes:
    """The document as JSON."""
    return encode(
        {
            "openapi": VERSION,
            "info": {
                "title": "rethread",
                "summary": "The Assistants API, on your own server",
                "version": __version__,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/v1"}],
            "security": [{name: []} for name in SECURITY],
            "paths": _paths(),
            "components": {
                "schemas": _schemas(),
                "responses": {name: _error(text) for name, text in ERRORS.values()},
                "securitySchemes": SECURITY,
            },
        }
    )


def _paths() -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return paths


def _operation(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [_tag(operation.path)],
        "parameters": parameters(operation),
        "responses": {"200": _answer(operation), **_refusals(operation)},
    }
    if operation.is_extension:
        told["x-rethread-extension"] = True
    if not operation.needs_key:
        told["security"] = []
    if operation.asks is not None:
        schema = _ref(operation.asks.__name__)
        required = bool(_required(operation.asks))
        content = _form(operation) if operation.file_field else _json(schema)
        told["requestBody"] = {"required": required, "content": content}
    return told


def _tag(path: str) -> str:
    segments = path.strip("/").split("/")
    for noun in TAGS:
        if noun in segments:
            return noun.replace("_", " ").capitalize()
    return "Server"


# Answers


def _answer(operation: Operation) -> dict[str, Any]:
    content = {}
    if operation.answers is not None:
        name = operation.answers.__name__
        content = _json(_ref(_list_name(name) if operation.lists else name))
    if operation.downloads:
        content = {kind.decode(): _binary() for kind in CONTENT_TYPES}
    if operation.streams or operation.is_stream:
        content["text/event-stream"] = {"schema": _ref("StreamEvent")}
    return {"description": operation.summary, "content": content}


def _refusals(operation: Operation) -> dict[str, Any]:
    is_post = operation.method == "POST"
    # In its path, its cursors or its body: a file, a store, an assistant.
    names_something = "{" in operation.path or operation.lists or (is_post and operation.is_beta)
    came = {
        400: operation.is_beta or operation.path.startswith(("/files", "/uploads")),
        401: operation.needs_key,
        403: operation.needs_key,
        404: names_something,
        408: is_post,
        409: is_post,
        413: is_post,
        503: operation.needs_key,
    }
    refusals: dict[str, Any] = {
        str(status): {"$ref": f"#/components/responses/{ERRORS[status][0]}"}
        for status, comes in came.items()
        if comes
    }
    if operation.path == "/readyz":
        refusals["503"] = {"description": "Not ready", "content": _json(_ref("Readiness"))}
    return refusals


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": _json(_ref(ErrorBody.__name__))}


def _form(operation: Operation) -> dict[str, Any]:
    """A form: the fields of an object are written as `name[key]`, and one of them is a file."""
    assert operation.asks is not None
    schema = msgspec.json.schema_components([operation.asks], ref_template=REF)[1][
        operation.asks.__name__
    ]
    schema["properties"][operation.file_field] = _binary()["schema"]
    encoding = {
        name: {"style": "deepObject", "explode": True}
        for name, kind in schema["properties"].items()
        if "anyOf" in kind
    }
    return {"multipart/form-data": {"schema": schema, "encoding": encoding}}


def _binary() -> dict[str, Any]:
    return {"schema": {"type": "string", "format": "binary"}}


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


# Schemas


def _schemas() -> dict[str, Schema]:
    asked = [operation.asks for operation in OPERATIONS if operation.asks is not None]
    shown = [operation.answers for operation in OPERATIONS if operation.answers is not None]
    answered = [ErrorBody, StepDelta, MessageDelta, *shown]
    _, made = msgspec.json.schema_components([*asked, *answered], ref_template=REF)
    # Python's end of text is written `$` in the dialect of JSON schemas.
    schemas: dict[str, Schema] = msgspec.json.decode(encode(made).replace(rb'\\Z"', b'$"'))
    hidden = [field for schema in schemas.values() for field in _taken_out_hidden(schema)]
    in_requests = {kind.cls for kind in _structs_in(asked)}
    for kind in _structs_in(answered):
        # An answer leaves nothing out: what has a default is there all the same.
        if kind.cls not in in_requests and kind.cls is not Document:
            tag = [] if kind.tag_field is None else [kind.tag_field]
            seen = schemas[kind.cls.__name__]
            there = [name for name in _always_there(kind) if name in seen.get("properties", {})]
            seen["required"] = tag + there
    for name in [each for each in schemas if _is_named(each, hidden)]:
        if not _is_named(name, schemas):
            del schemas[name]
    schemas["StreamEvent"] = _event_schema()
    for operation in OPERATIONS:
        if operation.lists is not None and operation.answers is not None:
            name = operation.answers.__name__
            schemas[_list_name(name)] = _list_schema(name)
    return schemas


def _taken_out_hidden(schema: Schema) -> list[Schema]:
    """The fields that are stored only (`contract.steps.Hidden`); they are out of the schema."""
    fields = schema.get("properties", {})
    return [fields.pop(name) for name in list(fields) if "x-hidden" in fields[name]]


def _is_named(name: str, within: object) -> bool:
    """Whether anything there is of the schema of that name."""
    return encode(_ref(name)["$ref"]) in encode(within)


def _list_name(name: str) -> str:
    return f"List{name}s"


def _list_schema(name: str) -> Schema:
    end = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    properties = {
        "object": {"enum": ["list"]},
        "data": {"type": "array", "items": _ref(name)},
        "first_id": end,
        "last_id": end,
        "has_more": {"type": "boolean"},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _event_schema() -> Schema:
    """One record of an event stream; `data` is JSON, but for the last one's."""
    done: Schema = {"event": {"const": "done"}, "data": {"const": "[DONE]"}}
    shapes = [done]
    for name in get_args(EventName):
        said: Schema = {"type": "string", "contentMediaType": "application/json"}
        said["contentSchema"] = _ref(_payload(name))
        shapes.append({"event": {"const": name}, "data": said})
    return {
        "type": "object",
        "properties": {"id": {"type": "string"}},
        "required": ["id", "event", "data"],
        "oneOf": [{"properties": shape} for shape in shapes],
    }


def _payload(name: EventName) -> str:
    """The type of what an event carries."""
    match name.split("."):
        case ["thread", "run", "step", "delta"]:
            return "StepDelta"
        case ["thread", "run", "step", *_]:
            return "Step"
        case ["thread", "message", "delta"]:
            return "MessageDelta"
        case ["thread", "message", *_]:
            return "Message"
        case ["thread", "run", *_]:
            return "Run"
        case _:
            return "Thread"


def _ref(name: str) -> Schema:
    return {"$ref": REF.format(name=name)}


def _required(kind: type[Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind) if field.required]


def _always_there(kind: inspect.StructType) -> list[str]:
    fields = msgspec.structs.fields(kind.cls)
    return [field.encode_name for field in fields if field.default is not UNSET]


def _structs_in(types: Iterable[Any]) -> list[inspect.StructType]:
    """Every Struct that the types are made of."""
    found: dict[type[Struct], inspect.StructType] = {}
    waiting: list[Any] = list(inspect.multi_type_info(types))
    while waiting:
        kind = waiting.pop()
        match kind:
            case inspect.StructType(cls=cls) if cls not in found:
                found[cls] = kind
                waiting += [field.type for field in kind.fields]
            case inspect.UnionType(types=members):
                waiting += members
            case inspect.ListType(item_type=member) | inspect.DictType(value_type=member):
                waiting.append(member)
    return list(found.values())
