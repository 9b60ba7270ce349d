"""The parameters of an operation, for the OpenAPI document: in its path, its query, its headers."""

from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from rethread.contract import Metadata, Prefix, id_pattern
from rethread.contract.files import AnyPurpose
from rethread.contract.steps import Include
from rethread.contract.threads import MAX_QUERY_CHARACTERS
from rethread.contract.vector_stores import FileStatus
from rethread.http.codec import DEFAULT_LIMIT, MAX_LIMIT
from rethread.http.files import MOST_FILES
from rethread.http.operations import Operation

Schema = dict[str, Any]

PATH_PREFIXES: Final[Mapping[str, Prefix]] = {
    "assistant_id": "asst",
    "thread_id": "thread",
    "message_id": "msg",
    "run_id": "run",
    "step_id": "step",
    "upload_id": "upload",
    "vector_store_id": "vs",
    "batch_id": "vsfb",
}


def parameters(operation: Operation) -> list[dict[str, Any]]:
    """All that it takes beside its body."""
    return [
        *_path_parameters(operation),
        *_query_parameters(operation),
        *_header_parameters(operation),
    ]


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _id_schema(PATH_PREFIXES[name])
            if name in PATH_PREFIXES
            else {"type": "string", "minLength": 1},
        }
        for name in names
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if operation.lists is not None:
        default, most = (DEFAULT_LIMIT, MAX_LIMIT)
        if operation.has_long_pages:
            default = most = MOST_FILES
        limit = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
        order = {"type": "string", "enum": ["asc", "desc"], "default": "desc"}
        cursor = _id_schema(operation.lists, may_be_empty=True)
        parameters += [
            _query("limit", limit, "How many objects a page holds at most."),
            _query("order", order, "By creation: the newest first, unless told otherwise."),
            _query("after", cursor, "What comes behind this object, in the list's order."),
            _query("before", cursor, "What comes in front of this object, in the list's order."),
        ]
    if operation.has_run_id:
        run_id = _id_schema("run", may_be_empty=True)
        parameters.append(_query("run_id", run_id, "Only what this run wrote."))
    if operation.has_metadata:
        pairs = _query("metadata", msgspec.json.schema(Metadata), "What has all these pairs.")
        parameters.append({**pairs, "style": "deepObject", "explode": True})
    if operation.has_search:
        words = {"type": "string", "minLength": 1, "maxLength": MAX_QUERY_CHARACTERS}
        text = "Words, all of which a message has; those in quotes as they stand."
        parameters.append({**_query("q", words, text), "required": True})
    if operation.has_purpose:
        purposes = msgspec.json.schema(AnyPurpose)
        parameters.append(_query("purpose", {"type": "string", **purposes}, "Only these."))
    if operation.has_filter:
        statuses = msgspec.json.schema(FileStatus)
        parameters.append(_query("filter", {"type": "string", **statuses}, "Only these."))
    if operation.is_stream:
        text = "The number of the event behind which the stream begins; wins over the header."
        parameters.append(_query("starting_after", {"type": "integer", "minimum": 0}, text))
    if operation.has_include:
        items = {"type": "string", "enum": list(get_args(Include))}
        parameters.append(
            _query("include[]", {"type": "array", "items": items}, "What else a step shows.")
        )
    return parameters


def _query(name: str, schema: Schema, description: str) -> dict[str, Any]:
    # Some SDKs send a null as the bare name: it means absent there too.
    allowed = {} if schema["type"] == "array" else {"allowEmptyValue": True}
    return {"name": name, "in": "query", "description": description, "schema": schema, **allowed}


def _header_parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters = []
    if operation.is_beta:
        beta = {"type": "string", "enum": ["assistants=v2"]}
        parameters.append(_header("OpenAI-Beta", beta, "May be absent."))
    if operation.method == "POST":
        key = {"type": "string", "maxLength": 255}
        text = "Sent again within 24 hours with the same request, the first answer comes again."
        parameters.append(_header("Idempotency-Key", key, text))
    if operation.is_stream:
        text = "The id of the last event that arrived: the stream begins behind it."
        parameters.append(_header("Last-Event-ID", {"type": "integer", "minimum": 0}, text))
    if operation.locks:
        wish = {"type": "string", "enum": ["reject", "wait", "retry"]}
        text = "What to do while a run holds the thread; the server's setting, unless told."
        parameters.append(_header("Rethread-On-Active-Run", wish, text))
    return parameters


def _header(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _id_schema(prefix: Prefix, *, may_be_empty: bool = False) -> Schema:
    """What `check_id` accepts; the empty text stands for an absent cursor."""
    pattern = id_pattern(prefix)
    return {"type": "string", "pattern": f"^$|{pattern}" if may_be_empty else pattern}
