"""What a project holds, as plain dicts in plain lists: what the server's answers are held against.

No ids, no clock, no paging by key and no locks: what only a server can know is taken from its
answers, and everything else is worked out here in the simplest way there is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from tests.fakes.replies import Call
from tests.model.turns import Written

Body = dict[str, Any]


class Mark:
    """Stands for what only the server knows, and equals everything that it could be."""

    def __init__(self, name: str, fits: Callable[[Any], bool]) -> None:
        self._name = name
        self._fits = fits

    def __eq__(self, other: object) -> bool:
        return self._fits(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return self._name


ANYTHING: Final[Any] = Mark("ANYTHING", lambda _: True)
SOME_TIME: Final[Any] = Mark("SOME_TIME", lambda value: type(value) is int)


def some_id(prefix: str) -> Any:
    """An id of that kind."""
    return Mark(f"{prefix}_…", lambda value: str(value).startswith(f"{prefix}_"))


class Asked(NamedTuple):
    """The parameters of a page."""

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None

    def query(self) -> dict[str, str]:
        """The same, as a query has it."""
        return {name: str(value) for name, value in self._asdict().items() if value is not None}


class Shelf:
    """Objects in the order in which they came; one that was deleted keeps its place."""

    def __init__(self) -> None:
        self._bodies: dict[str, Body | None] = {}

    def __getitem__(self, id: str) -> Body:
        body = self._bodies[id]
        assert body is not None
        return body

    def put(self, body: Body) -> None:
        """Add it at the end, or in the place that it had; what was deleted stays so."""
        if self._bodies.get(body["id"], body) is not None:
            self._bodies[body["id"]] = body

    def delete(self, id: str) -> None:
        """Keep nothing but its place."""
        self._bodies[id] = None

    @property
    def ids(self) -> list[str]:
        """Every id that there ever was."""
        return list(self._bodies)

    @property
    def living(self) -> list[str]:
        """The ids of what is there."""
        return [id for id, body in self._bodies.items() if body is not None]

    def bodies(self) -> list[Body]:
        """What is there."""
        return [self[id] for id in self.living]

    def page(
        self, asked: Asked, has: Mapping[str, Any] | None = None, *, is_cursor_filtered: bool = True
    ) -> Body | None:
        """A page of what has these fields; None where a cursor names nothing of this list.

        A deleted object is a cursor whatever it had.
        """
        for cursor in (asked.after, asked.before):
            if cursor is None:
                continue
            if cursor not in self._bodies:
                return None
            named = self._bodies[cursor]
            if is_cursor_filtered and named is not None and not _has(named, has or {}):
                return None
        order = self.ids if asked.order == "asc" else self.ids[::-1]
        start = order.index(asked.after) + 1 if asked.after else 0
        stop = order.index(asked.before) if asked.before else len(order)
        bodies = [self._bodies[id] for id in order[start:stop]]
        found = [body for body in bodies if body is not None and _has(body, has or {})]
        ends_at_cursor = asked.before and not asked.after
        page = found[-asked.limit :] if ends_at_cursor else found[: asked.limit]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(found) > asked.limit,
        }


@dataclass
class Inside:
    """What hangs on a thread; `said` is the order in which a model is shown it."""

    messages: Shelf = field(default_factory=Shelf)
    runs: Shelf = field(default_factory=Shelf)
    steps: dict[str, Shelf] = field(default_factory=dict)
    said: list[tuple[Literal["message", "calls"], str, str]] = field(default_factory=list)

    def add_message(self, body: Body) -> None:
        """A message behind all others."""
        if body["id"] not in self.messages.ids:
            self.said.append(("message", body["id"], ""))
        self.messages.put(body)

    def add_step(self, body: Body) -> None:
        """A step behind its run's others."""
        steps = self.steps.setdefault(body["run_id"], Shelf())
        if body["id"] not in steps.ids and body["type"] == "tool_calls":
            self.said.append(("calls", body["id"], body["run_id"]))
        steps.put(body)

    def prompt(self, instructions: str) -> list[tuple[str, ...]]:
        """What the model is shown of it: texts, calls whose outputs are known, and these."""
        shown: list[tuple[str, ...]] = [("system", instructions)] if instructions else []
        for kind, id, run_id in self.said:
            if kind == "message" and id in self.messages.living:
                shown += _shown_message(self.messages[id])
            elif kind == "calls":
                shown += _shown_calls(self.steps[run_id][id])
        return shown


def flat_prompt(messages: list[Body]) -> list[tuple[str, ...]]:
    """A model call's messages in the form of `Inside.prompt`."""
    flat: list[tuple[str, ...]] = []
    for message in messages:
        if message["role"] == "tool":
            flat.append(("output", message["tool_call_id"], message["content"]))
        elif message.get("content"):
            flat.append((message["role"], message["content"]))
        flat += [("call", call["id"]) for call in message.get("tool_calls") or []]
    return flat


def new_assistant(asked: Body) -> Body:
    """What POST /assistants shall answer."""
    return {
        "id": some_id("asst"),
        "object": "assistant",
        "created_at": SOME_TIME,
        "name": None,
        "description": None,
        "instructions": None,
        "tools": [],
        "top_p": 1.0,
        "temperature": 1.0,
        "reasoning_effort": None,
        "tool_resources": {},
        "metadata": {},
        "response_format": "auto",
        **asked,
    }


def new_thread(metadata: Mapping[str, str]) -> Body:
    """What POST /threads shall answer."""
    return {
        "id": some_id("thread"),
        "object": "thread",
        "created_at": SOME_TIME,
        "metadata": metadata,
        "tool_resources": {},
    }


def new_message(asked: Body, *, thread_id: str) -> Body:
    """What POST /threads/{thread_id}/messages shall answer."""
    return {
        "id": some_id("msg"),
        "object": "thread.message",
        "created_at": SOME_TIME,
        "thread_id": thread_id,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": SOME_TIME,
        "incomplete_at": None,
        "role": asked["role"],
        "content": [_text_part(text) for text in _texts(asked["content"])],
        "assistant_id": None,
        "run_id": None,
        "attachments": [],
        "metadata": asked.get("metadata", {}),
    }


def written_message(run: Body, id: str, written: Written) -> Body:
    """A message that a run has written, or is writing."""
    status, cut_by = written.status, written.cut_by
    return {
        **new_message({"role": "assistant", "content": ""}, thread_id=run["thread_id"]),
        "id": id,
        "status": status,
        "incomplete_details": {"reason": cut_by} if cut_by else None,
        "completed_at": SOME_TIME if status == "completed" else None,
        "incomplete_at": SOME_TIME if status == "incomplete" else None,
        "content": [] if status == "in_progress" else [_text_part(written.text)],
        "assistant_id": run["assistant_id"],
        "run_id": run["id"],
    }


def new_run(asked: Body, assistant: Body, *, thread_id: Any) -> Body:
    """What POST /threads/{thread_id}/runs shall answer."""
    return {
        "id": some_id("run"),
        "object": "thread.run",
        "created_at": SOME_TIME,
        "assistant_id": assistant["id"],
        "thread_id": thread_id,
        "status": "queued",
        "started_at": None,
        "expires_at": SOME_TIME,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "model": asked["model"],
        "instructions": assistant["instructions"] or "",
        "tools": assistant["tools"],
        "tool_resources": {},
        "metadata": asked.get("metadata", {}),
        "temperature": 1.0,
        "top_p": 1.0,
        "reasoning_effort": None,
        "max_completion_tokens": None,
        "max_prompt_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "incomplete_details": None,
        "usage": None,
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }


def moved_run(run: Body, status: str, calls: list[Call]) -> Body:
    """The run in its next status; `calls` are those whose outputs it waits for."""
    has_ended = status not in ("in_progress", "requires_action")
    return {
        **run,
        "status": status,
        # A run may be cancelled before it is taken up.
        "started_at": ANYTHING if status == "cancelled" else SOME_TIME,
        "expires_at": None if has_ended else run["expires_at"],
        "cancelled_at": SOME_TIME if status == "cancelled" else None,
        "failed_at": SOME_TIME if status == "failed" else None,
        "completed_at": SOME_TIME if status in ("completed", "incomplete") else None,
        "required_action": _required(calls) if status == "requires_action" else None,
        "last_error": ANYTHING if status == "failed" else None,
        "incomplete_details": {"reason": "max_completion_tokens"}
        if status == "incomplete"
        else None,
        "usage": ANYTHING if has_ended else None,
    }


def creation(message_id: Any) -> Body:
    """The details of a step that writes a message."""
    return {"type": "message_creation", "message_creation": {"message_id": message_id}}


def calling(calls: list[Call]) -> Body:
    """The details of a step that calls functions, without outputs."""
    return {
        "type": "tool_calls",
        "tool_calls": [
            {**_shown_call(call), "function": _function(call, output=None)} for call in calls
        ],
    }


def closed_calls(step: Body, status: str, output: str | None) -> Body:
    """A step that called functions, with the outputs of all its calls, or at its end without."""
    details = step["step_details"]
    calls = [
        {**call, "function": {**call["function"], "output": output}}
        for call in details["tool_calls"]
    ]
    closed = {"status": status, f"{status}_at": SOME_TIME}
    return {**step, **closed, "step_details": {**details, "tool_calls": calls}}


def new_step(run: Body, status: str, details: Body, *, id: Any = None) -> Body:
    """A step of a run in that status."""
    return {
        "id": id or some_id("step"),
        "object": "thread.run.step",
        "created_at": SOME_TIME,
        "run_id": run["id"],
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "type": details["type"],
        "status": status,
        "cancelled_at": SOME_TIME if status == "cancelled" else None,
        "completed_at": SOME_TIME if status == "completed" else None,
        "expires_at": SOME_TIME,
        "expired_at": None,
        "failed_at": SOME_TIME if status == "failed" else None,
        "last_error": ANYTHING if status == "failed" else None,
        "step_details": details,
        "usage": ANYTHING,
        "metadata": {},
    }


def _has(body: Body, fields: Mapping[str, Any]) -> bool:
    """Whether the body has all of these; of an object, all the members that are named."""
    return all(
        wanted.items() <= body[name].items() if isinstance(wanted, dict) else body[name] == wanted
        for name, wanted in fields.items()
    )


def _required(calls: list[Call]) -> Body:
    shown = [_shown_call(call) for call in calls]
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": shown}}


def _shown_call(call: Call) -> Body:
    return {"id": call.id, "type": "function", "function": _function(call)}


def _function(call: Call, **more: None) -> Body:
    return {"name": call.name, "arguments": call.arguments, **more}


def _texts(content: Any) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content]


def _text_part(text: str) -> Body:
    return {"type": "text", "text": {"value": text, "annotations": []}}


def _shown_message(body: Body) -> list[tuple[str, ...]]:
    cut_by = (body["incomplete_details"] or {}).get("reason")
    if body["status"] == "in_progress" or cut_by == "run_failed":
        return []
    text = "\n".join(part["text"]["value"] for part in body["content"] if part["text"]["value"])
    return [(body["role"], text)] if text else []


def _shown_calls(step: Body) -> list[tuple[str, ...]]:
    if step["status"] != "completed":
        return []
    calls = step["step_details"]["tool_calls"]
    outputs = [("output", call["id"], call["function"]["output"]) for call in calls]
    return [*(("call", call["id"]) for call in calls), *outputs]
