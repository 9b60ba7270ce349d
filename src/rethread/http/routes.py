"""The table: method, path, handler; and how a path finds its row. Nothing else.

Clients come with different prefixes: OpenAI's SDKs with /v1, Azure's with /openai, others with
none. All lead here.
"""

from typing import Final, NamedTuple
from urllib.parse import unquote

from rethread.http import (
    assistants,
    file_batches,
    files,
    health,
    messages,
    models,
    runs,
    threads,
    uploads,
    vector_store_files,
    vector_store_search,
    vector_stores,
)
from rethread.http.request import Handler


class Route(NamedTuple):
    """One row; a path without a key says so, and so does one without the beta header's check.

    With `streams_body` the handler reads the body, while it arrives.
    """

    method: str
    path: str
    handler: Handler
    needs_key: bool = True
    is_beta: bool = True
    streams_body: bool = False


V: Final = "/vector_stores/{vector_store_id}"
ROUTES: Final = (
    Route("GET", "/assistants", assistants.list_page),
    Route("POST", "/assistants", assistants.create),
    Route("GET", "/assistants/{assistant_id}", assistants.retrieve),
    Route("POST", "/assistants/{assistant_id}", assistants.modify),
    Route("DELETE", "/assistants/{assistant_id}", assistants.delete),
    Route("GET", "/threads", threads.list_page),
    Route("POST", "/threads", threads.create),
    Route("GET", "/threads/search", threads.search_page),
    Route("POST", "/threads/runs", runs.create_thread_and_run),
    Route("GET", "/threads/{thread_id}", threads.retrieve),
    Route("POST", "/threads/{thread_id}", threads.modify),
    Route("DELETE", "/threads/{thread_id}", threads.delete),
    Route("GET", "/threads/{thread_id}/messages", messages.list_page),
    Route("POST", "/threads/{thread_id}/messages", messages.create),
    Route("GET", "/threads/{thread_id}/messages/{message_id}", messages.retrieve),
    Route("POST", "/threads/{thread_id}/messages/{message_id}", messages.modify),
    Route("DELETE", "/threads/{thread_id}/messages/{message_id}", messages.delete),
    Route("GET", "/threads/{thread_id}/runs", runs.list_page),
    Route("POST", "/threads/{thread_id}/runs", runs.create),
    Route("GET", "/threads/{thread_id}/runs/{run_id}", runs.retrieve),
    Route("POST", "/threads/{thread_id}/runs/{run_id}", runs.modify),
    Route("POST", "/threads/{thread_id}/runs/{run_id}/cancel", runs.cancel),
    Route("GET", "/threads/{thread_id}/runs/{run_id}/events", runs.follow_events),
    Route("GET", "/threads/{thread_id}/runs/{run_id}/steps", runs.list_steps),
    Route("GET", "/threads/{thread_id}/runs/{run_id}/steps/{step_id}", runs.retrieve_step),
    Route(
        "POST", "/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", runs.submit_tool_outputs
    ),
    Route("GET", "/files", files.list_page, is_beta=False),
    Route("POST", "/files", files.create, is_beta=False, streams_body=True),
    Route("GET", "/files/{file_id}", files.retrieve, is_beta=False),
    Route("DELETE", "/files/{file_id}", files.delete, is_beta=False),
    Route("GET", "/files/{file_id}/content", files.content, is_beta=False),
    Route("POST", "/uploads", uploads.create, is_beta=False),
    Route("POST", "/uploads/{upload_id}/parts", uploads.add_part, is_beta=False, streams_body=True),
    Route("POST", "/uploads/{upload_id}/complete", uploads.complete, is_beta=False),
    Route("POST", "/uploads/{upload_id}/cancel", uploads.cancel, is_beta=False),
    Route("GET", "/vector_stores", vector_stores.list_page),
    Route("POST", "/vector_stores", vector_stores.create),
    Route("GET", V, vector_stores.retrieve),
    Route("POST", V, vector_stores.modify),
    Route("DELETE", V, vector_stores.delete),
    Route("GET", f"{V}/files", vector_store_files.list_page),
    Route("POST", f"{V}/files", vector_store_files.create),
    Route("GET", f"{V}/files/{{file_id}}", vector_store_files.retrieve),
    Route("POST", f"{V}/files/{{file_id}}", vector_store_files.modify),
    Route("DELETE", f"{V}/files/{{file_id}}", vector_store_files.delete),
    Route("GET", f"{V}/files/{{file_id}}/content", vector_store_files.content),
    Route("POST", f"{V}/search", vector_store_search.search),
    Route("POST", f"{V}/file_batches", file_batches.create),
    Route("GET", f"{V}/file_batches/{{batch_id}}", file_batches.retrieve),
    Route("POST", f"{V}/file_batches/{{batch_id}}/cancel", file_batches.cancel),
    Route("GET", f"{V}/file_batches/{{batch_id}}/files", file_batches.list_files),
    Route("GET", "/models", models.list_all, is_beta=False),
    Route("GET", "/models/{model}", models.retrieve, is_beta=False),
    Route("GET", "/", health.about, needs_key=False, is_beta=False),
    Route("GET", "/healthz", health.alive, needs_key=False, is_beta=False),
    Route("GET", "/health", health.alive, needs_key=False, is_beta=False),
    Route("GET", "/readyz", health.ready, needs_key=False, is_beta=False),
    Route("GET", "/openapi.json", health.openapi, needs_key=False, is_beta=False),
)


class Match(NamedTuple):
    """The rows of a path by method, and the values of its placeholders."""

    by_method: dict[str, Route]
    path_params: dict[str, str]


class _Node:
    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.placeholder: tuple[str, _Node] | None = None
        self.routes: dict[str, Route] = {}


class Router:
    """Finds a path's row; what it costs does not grow with the table."""

    def __init__(self) -> None:
        self._root = _Node()
        for route in ROUTES:
            self._add(route)

    def match(self, raw_path: bytes) -> Match | None:
        """The rows of a path as it came, or None where there is no such path.

        Split before it is decoded: an id may hold an encoded slash.
        """
        segments = [
            unquote(segment, errors="replace")
            for segment in raw_path.decode("latin-1").strip("/").split("/")
        ]
        node = self._root
        path_params: dict[str, str] = {}
        for segment in _with_whole_model(_without_prefix(segments)) or [""]:
            if segment in node.literal:
                node = node.literal[segment]
            elif node.placeholder is not None:
                name, node = node.placeholder
                path_params[name] = segment
            else:
                return None
        return Match(node.routes, path_params) if node.routes else None

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.path.strip("/").split("/"):
            if segment.startswith("{"):
                if node.placeholder is None:
                    node.placeholder = (segment[1:-1], _Node())
                node = node.placeholder[1]
            else:
                node = node.literal.setdefault(segment, _Node())
        node.routes[route.method] = route


def _without_prefix(segments: list[str]) -> list[str]:
    """The path without /v1, /openai, /openai/v1 or /openai/deployments/{deployment}."""
    if segments[:1] == ["openai"]:
        segments = segments[1:]
        if segments[:1] == ["deployments"] and len(segments) > 1:
            return segments[2:]
    return segments[1:] if segments[:1] == ["v1"] else segments


def _with_whole_model(segments: list[str]) -> list[str]:
    """The path with a model's id in one piece: it may have slashes, which SDKs 1.x send bare."""
    is_model = segments[:1] == ["models"] and len(segments) > 1
    return ["models", "/".join(segments[1:])] if is_model else segments
