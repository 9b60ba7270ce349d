"""What the fake model server answers, step by step, good manners and bad. Pure.

A `Reply` is a list of steps: records to send, pauses, gates to wait at, or the end of the
connection. Start from a ready-made one and put a fault in it:

    text("Hel", "lo").then(DROP, after=1)          # cut in the middle
    text("Hello").first(Gate())                    # silent before the status line
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

MODEL: Final = "fake-model"
PATIENCE_SECONDS: Final = 20.0


class Gate:
    """A place where the server falls silent until `open`; any thread may use it.

    `arrived` and `opened` are futures: `.result(timeout)`, or `asyncio.wrap_future` them.
    """

    def __init__(self) -> None:
        self.arrived: Future[None] = Future()
        self.opened: Future[None] = Future()

    def open(self) -> None:
        """Let the server go on, now or when it comes."""
        if not self.opened.done():
            self.opened.set_result(None)

    def arrive(self) -> None:
        """For the server: tell the test that it stands here."""
        if not self.arrived.done():
            self.arrived.set_result(None)


class Drop:
    """The server tears the connection down, without a goodbye."""


DROP: Final = Drop()

# Bytes go out as they are; a float is a pause in seconds.
Step = bytes | float | Gate | Drop


@dataclass(frozen=True)
class Reply:
    """One answer: `before` its head, then its `steps`, of which `record_count` are records.

    `whole` is what a request without `stream` gets. `is_json` answers so even to a stream.
    """

    steps: tuple[Step, ...] = ()
    before: tuple[Step, ...] = ()
    whole: Mapping[str, Any] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "text/event-stream"
    is_json: bool = False

    def first(self, step: Step) -> "Reply":
        """The same, with `step` before the status line."""
        return replace(self, before=(*self.before, step))

    def then(self, step: Step, *, after: int) -> "Reply":
        """The same, with `step` after `after` steps; a DROP ends the answer there."""
        rest = () if isinstance(step, Drop) else self.steps[after:]
        return replace(self, steps=(*self.steps[:after], step, *rest))

    def paced(self, seconds_between: float) -> "Reply":
        """The same, with a pause before each record: slow tokens."""
        steps = (step for record in self.steps for step in (seconds_between, record))
        return replace(self, steps=tuple(steps))

    def as_json(self) -> "Reply":
        """The same, whole, from a server that passes over `stream`."""
        return replace(self, is_json=True)

    def without_usage(self) -> "Reply":
        """The same, from a server that counts no tokens."""
        kept = (s for s in self.steps if not isinstance(s, bytes) or b'"usage": {' not in s)
        whole = {key: value for key, value in (self.whole or {}).items() if key != "usage"}
        return replace(self, steps=tuple(kept), whole=whole)

    def without_done(self) -> "Reply":
        """The same, from a server that never says [DONE]."""
        return replace(self, steps=tuple(step for step in self.steps if step != DONE))


class Call(NamedTuple):
    """A function call in an answer; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


# How servers stream calls: as OpenAI does; without an index; all with index 0; without an id;
# or each call in one chunk.
CallShape = Literal["standard", "no_index", "index_zero", "no_id", "whole"]


def record(value: Any) -> bytes:
    """A `data:` record with `value` as JSON."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


DONE: Final = b"data: [DONE]\n\n"


def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
    """A chunk with one choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return record({**_envelope("chat.completion.chunk"), "choices": [choice], "usage": None})


def text(*pieces: str, finish_reason: str = "stop", seconds_between: float = 0.0) -> Reply:
    """An answer in words, one chunk a piece; none at all is an empty answer."""
    deltas = [{"content": piece} for piece in pieces]
    message = {"role": "assistant", "content": "".join(pieces)}
    reply = _reply(deltas, message, finish_reason)
    return reply.paced(seconds_between) if seconds_between else reply


def refusal(*pieces: str) -> Reply:
    """An answer in the field that says no."""
    deltas = [{"refusal": piece} for piece in pieces]
    message = {"role": "assistant", "content": None, "refusal": "".join(pieces)}
    return _reply(deltas, message, "stop")


def tool_calls(
    *calls: Call, shape: CallShape = "standard", finish_reason: str = "tool_calls"
) -> Reply:
    """An answer that calls functions, in the shape that some server gives it."""
    deltas = [
        {"tool_calls": [piece]}
        for index, call in enumerate(calls)
        for piece in _call_pieces(index, call, shape)
    ]
    functions = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]
    message = {"role": "assistant", "content": None, "tool_calls": functions}
    return _reply(deltas, message, finish_reason)


def failure(
    status: int,
    body: Mapping[str, Any] | str | bytes = "",
    *,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """A refusal with a status; a body that is no text is sent as JSON."""
    is_text = isinstance(body, str | bytes)
    return Reply(
        status=status,
        headers=headers or {},
        body=_bytes(body),
        content_type="text/plain" if is_text else "application/json",
    )


def openai_error(message: str, *, code: str | None = None, type: str | None = None) -> Any:
    """The body of an error as OpenAI words it."""
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def dropped() -> Reply:
    """The connection ends where the answer should begin."""
    return Reply(before=(DROP,))


def raw(*steps: Step, content_type: str = "text/event-stream") -> Reply:
    """A 200 with a body of exactly these steps."""
    return Reply(steps=steps, content_type=content_type)


def _bytes(body: Mapping[str, Any] | str | bytes) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _envelope(object: str) -> dict[str, Any]:
    return {"id": "chatcmpl-fake", "object": object, "created": 1_700_000_000, "model": MODEL}


def _reply(
    deltas: Sequence[Mapping[str, Any]], message: Mapping[str, Any], finish_reason: str
) -> Reply:
    """The stream of these deltas, and the completion that says the same at once."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": len(deltas),
        "total_tokens": 10 + len(deltas),
    }
    usage_chunk = {**_envelope("chat.completion.chunk"), "choices": [], "usage": usage}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return Reply(
        steps=(
            *(chunk(delta) for delta in deltas),
            chunk({}, finish_reason),
            record(usage_chunk),
            DONE,
        ),
        whole={**_envelope("chat.completion"), "choices": [choice], "usage": usage},
    )


def _call_pieces(index: int, call: Call, shape: CallShape) -> list[dict[str, Any]]:
    """One call's deltas: the name, then the arguments in two halves."""
    place = {} if shape == "no_index" else {"index": 0 if shape == "index_zero" else index}
    identity = {} if shape == "no_id" else {"id": call.id}
    head = {**place, **identity, "type": "function"}
    if shape == "whole":
        return [{**head, "function": {"name": call.name, "arguments": call.arguments}}]
    middle = len(call.arguments) // 2
    return [
        {**head, "function": {"name": call.name, "arguments": ""}},
        {**place, "function": {"arguments": call.arguments[:middle]}},
        {**place, "function": {"arguments": call.arguments[middle:]}},
    ]
