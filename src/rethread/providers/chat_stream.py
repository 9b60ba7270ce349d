"""From a model server's bytes to chunks. Pure: no socket, no clock.

Read by lines, not by events: every server known to us puts one JSON object on one `data:` line,
and some forget the empty line in between. What is neither a field of server-sent events nor
JSON is an error, as an answer with a hole in it is worse than none.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct

from rethread.contract.chat import (
    ChatUsage,
    Choice,
    Chunk,
    Delta,
    FunctionDelta,
    ToolCallDelta,
)
from rethread.errors import ModelError
from rethread.providers import upstream_errors
from rethread.providers.upstream_errors import AttemptError

LONGEST_LINE_BYTES: Final = 16 * 1024 * 1024

CHUNK: Final = msgspec.json.Decoder(Chunk)
IGNORED_FIELDS: Final = (b":", b"event:", b"id:", b"retry:")


class GarbageError(AttemptError):
    """Something that is neither a chunk nor an error."""


class Records:
    """A stream's chunks, as its bytes are fed in.

    `is_finished` once a `finish_reason` was seen; `is_done` once `[DONE]` was, after which
    nothing counts. Raises `AttemptError` for an error record, for garbage and for an endless line.
    """

    def __init__(self, *, longest_line_bytes: int = LONGEST_LINE_BYTES) -> None:
        self.is_finished = False
        self.is_done = False
        self._longest_line_bytes = longest_line_bytes
        self._begun_line: list[bytes] = []
        self._begun_line_bytes = 0

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """The chunks that `piece` completes, in order; those before a fault come before it."""
        for line in self._completed_lines(piece):
            if self.is_done:
                break
            if line.startswith(b"data:"):
                chunk = self._chunk(line[5:])
                if chunk is not None:
                    yield chunk
            elif line.strip() and not line.startswith(IGNORED_FIELDS):
                raise upstream_errors.of_record(line) or _garbage(line)

    def end(self) -> Iterator[Chunk]:
        """The chunk of a last line that no newline has ended; half a record is none."""
        try:
            yield from self.feed(b"\n")
        except GarbageError:
            # The stream was cut inside a record: that it was cut is what counts.
            return

    def _completed_lines(self, piece: bytes) -> list[bytes]:
        *lines, rest = piece.split(b"\n")
        if lines and self._begun_line:
            lines[0] = b"".join([*self._begun_line, lines[0]])
            self._begun_line.clear()
            self._begun_line_bytes = 0
        if rest:
            self._begin_line(rest)
        return lines

    def _begin_line(self, rest: bytes) -> None:
        self._begun_line.append(rest)
        self._begun_line_bytes += len(rest)
        if self._begun_line_bytes > self._longest_line_bytes:
            raise AttemptError(
                ModelError(
                    "The model server's stream has a line of more than"
                    f" {self._longest_line_bytes} bytes.",
                    reason="too long",
                )
            )

    def _chunk(self, record: bytes) -> Chunk | None:
        """The record as a chunk; None for one that says nothing."""
        # In a JSON string the quotes would be escaped: only a key or a whole value matches.
        if b'"error"' in record:
            failure = upstream_errors.of_record(record)
            if failure is not None:
                raise failure
        try:
            chunk = CHUNK.decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            parted = _of_parts(record)
            if parted is None:
                return self._without_choices(record, error)
            chunk = parted
        for choice in chunk.choices:
            if choice.finish_reason:
                self.is_finished = True
        return chunk if chunk.choices or chunk.usage is not None else None

    def _without_choices(self, record: bytes, error: Exception) -> Chunk | None:
        """`[DONE]`, null for the choices, or nothing at all; anything else is garbage."""
        mark = record.strip()
        if mark == b"[DONE]":
            self.is_done = True
        elif mark:
            try:
                usage = _NO_CHOICES.decode(mark).usage
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise _garbage(record) from error
            return Chunk(usage=usage) if usage is not None else None
        return None


def _of_parts(record: bytes) -> Chunk | None:
    """The chunk of a record whose content comes in parts; None for any other.

    Tried only for what is no ordinary chunk, so that those do not pay for it.
    """
    try:
        value = msgspec.json.decode(record)
        for choice in value["choices"]:
            choice["delta"]["content"] = _text_of(choice["delta"]["content"])
        return msgspec.convert(value, Chunk)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return None


def _text_of(content: Any) -> Any:
    """The text of content in parts; what a reasoning model thinks comes in parts of its own."""
    if not isinstance(content, list):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


class _NoChoices(Struct, frozen=True):
    choices: None
    usage: ChatUsage | None = None


_NO_CHOICES: Final = msgspec.json.Decoder(_NoChoices)


class _Function(Struct, frozen=True):
    name: str
    arguments: str | dict[str, Any] = ""


class _ToolCall(Struct, frozen=True):
    function: _Function
    id: str | None = None


class _Message(Struct, frozen=True):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _WholeChoice(Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None


class _Completion(Struct, frozen=True):
    choices: list[_WholeChoice]
    usage: ChatUsage | None = None


_COMPLETION: Final = msgspec.json.Decoder(_Completion)


def chunks_of_completion(body: bytes) -> list[Chunk]:
    """A whole `chat.completion` as the chunks that would have streamed it.

    For servers that pass over `stream`. Raises `AttemptError` for an error object and for garbage.
    """
    failure = upstream_errors.of_record(body)
    if failure is not None:
        raise failure
    try:
        completion = _COMPLETION.decode(body)
        chunks = [
            Chunk([Choice(delta=_delta(choice.message), finish_reason=choice.finish_reason)])
            for choice in completion.choices
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise _garbage(body) from error
    if completion.usage is not None:
        chunks.append(Chunk(usage=completion.usage))
    return chunks


def _delta(message: _Message) -> Delta:
    calls = [
        ToolCallDelta(
            index=index,
            id=call.id,
            function=FunctionDelta(call.function.name, _text(call.function.arguments)),
        )
        for index, call in enumerate(message.tool_calls or [])
    ]
    content = _text_of(message.content)
    return Delta(content=content, refusal=message.refusal, tool_calls=calls or None)


def _text(arguments: str | dict[str, Any]) -> str:
    """Arguments as JSON text; Ollama's own clients are used to getting them as an object."""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _garbage(record: bytes) -> GarbageError:
    shown = record.strip()[:100].decode("utf-8", "replace")
    message = f"The model server sent something that is not a chunk: {shown}"
    return GarbageError(ModelError(message, reason="garbage"))
