"""The built-in model: needs nothing, thinks nothing, and always says the same to the same.

It shows that everything works (streams, function calls, structured answers, limits) before a real
model server is there. What it answers is decided in `answer`, which is pure; `Demo` only paces it.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from rethread.contract.chat import (
    ChatMessage,
    ChatRequest,
    ChatUsage,
    Choice,
    Chunk,
    Delta,
    FunctionDelta,
    ToolCallDelta,
)
from rethread.errors import ModelError
from rethread.providers import demo_citing, demo_coding
from rethread.providers.json_schema_example import example

MODEL: Final = "demo"
LONGEST_QUOTE: Final = 1000
ARGUMENTS_PIECE_LENGTH: Final = 12

WHO: Final = (
    "I am rethread's built-in demo model: I do not think, I only show that everything works."
)
HOW_TO_LEAVE: Final = "To get real answers, start rethread with --upstream."


class Demo:
    """A provider that answers for any model name, word by word, `delay_seconds` apart."""

    def __init__(self, *, delay_seconds: float = 0.01) -> None:
        self._delay_seconds = delay_seconds

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        """One answer's chunks; the last one carries the usage."""
        answered = answer(request)
        for delta in answered.deltas:
            await asyncio.sleep(self._delay_seconds)
            yield Chunk(choices=[Choice(delta=delta)])
        yield Chunk(choices=[Choice(delta=Delta(), finish_reason=answered.finish_reason)])
        yield Chunk(usage=_usage(request, answered))

    async def models(self) -> list[str]:
        """The one name that says what it is."""
        return [MODEL]

    async def aclose(self) -> None:
        """Nothing to give back."""


class Answer(NamedTuple):
    """What the demo model says: its pieces, each of which counts as a token, and why it ends."""

    deltas: list[Delta]
    finish_reason: str


def answer(request: ChatRequest) -> Answer:
    """The whole answer to a request: function calls where they are asked for, else words."""
    conversation = _Conversation.of(request.messages)
    names = _functions_to_call(request, conversation)
    if names:
        complete = Answer(_call_deltas(request, conversation, names), "tool_calls")
    else:
        pieces = re.findall(r"\S+\s*", _text(request, conversation))
        complete = Answer([Delta(content=piece) for piece in pieces], "stop")
    limit = request.max_completion_tokens
    if limit is not None and len(complete.deltas) > limit:
        return Answer(complete.deltas[:limit], "length")
    return complete


class _Conversation(NamedTuple):
    """What counts of a prompt: the last user message, and what has been called since."""

    said: str
    image_count: int
    called: list[str]
    outputs: list[tuple[str, str]]  # name of the function, what it gave

    @classmethod
    def of(cls, messages: Sequence[ChatMessage]) -> "_Conversation":
        """Read a prompt."""
        asked = [place for place, message in enumerate(messages) if message.role == "user"]
        last = asked[-1] if asked else -1
        user = messages[last] if asked else ChatMessage(role="user")
        since = messages[last + 1 :]
        calls = [call for message in since for call in message.tool_calls or []]
        name_of_id = {call.get("id"): str(call["function"]["name"]) for call in calls}
        return cls(
            said=_words(user),
            image_count=sum(part.get("type") == "image_url" for part in _parts(user)),
            called=list(name_of_id.values()),
            outputs=[
                (name_of_id.get(message.tool_call_id, "function"), _words(message))
                for message in since
                if message.role == "tool"
            ],
        )


def _parts(message: ChatMessage) -> list[dict[str, Any]]:
    """A message's content as parts, whichever way it came."""
    if message.content is None or isinstance(message.content, str):
        return [{"type": "text", "text": message.content or ""}]
    return message.content


def _words(message: ChatMessage) -> str:
    return " ".join(part["text"] for part in _parts(message) if part.get("type") == "text")


def _functions_to_call(request: ChatRequest, conversation: _Conversation) -> list[str]:
    """The functions that are asked for and have not been called since the last user message.

    A search in files is always asked for, and code where some is fenced.
    """
    offered = list(_functions(request))
    mentioned = [name for name in offered if _is_asked_for(request, conversation.said, name)]
    match request.tool_choice:
        case "none":
            wanted = []
        case "required":
            # Once: a model that must call something in every turn would never come to an answer.
            wanted = mentioned or offered[: 0 if conversation.called else 1]
        case {"type": "function", "function": {"name": str(name)}}:
            wanted = [name] if name in offered else []
        case _:
            wanted = mentioned
    fresh = [name for name in wanted if name not in conversation.called]
    return fresh[:1] if request.parallel_tool_calls is False else fresh


def _is_asked_for(request: ChatRequest, said: str, name: str) -> bool:
    functions = _functions(request)
    if name in demo_coding.runners(functions):
        return bool(demo_coding.fenced(said))
    return name in demo_citing.searches(functions) or _mentions(said, name)


def _functions(request: ChatRequest) -> dict[str, Any]:
    """The schema of the parameters of each offered function, by its name."""
    return {
        tool["function"]["name"]: tool["function"].get("parameters") or {"type": "object"}
        for tool in request.tools or []
        if tool.get("type") == "function"
    }


def _mentions(said: str, name: str) -> bool:
    """Whether the text names the function, as `get_weather` or as "get weather"."""
    spelled = re.escape(name).replace("_", "[_ ]")
    return re.search(rf"(?<!\w){spelled}(?!\w)", said, re.IGNORECASE) is not None


def _call_deltas(
    request: ChatRequest, conversation: _Conversation, names: Sequence[str]
) -> list[Delta]:
    """Parallel calls in pieces, as model servers stream them: first the name, then arguments."""
    schemas = _functions(request)
    salt = hashlib.sha256(msgspec.json.encode(request.messages)).hexdigest()
    deltas: list[Delta] = []
    for index, name in enumerate(names):
        arguments = _json(_arguments(schemas[name], conversation.said))
        first = FunctionDelta(name=name, arguments="")
        deltas.append(_call_delta(ToolCallDelta(index, f"call_{salt[:22]}{index:02}", first)))
        for start in range(0, len(arguments), ARGUMENTS_PIECE_LENGTH):
            piece = FunctionDelta(arguments=arguments[start : start + ARGUMENTS_PIECE_LENGTH])
            deltas.append(_call_delta(ToolCallDelta(index, function=piece)))
    return deltas


def _call_delta(call: ToolCallDelta) -> Delta:
    return Delta(tool_calls=[call])


def _arguments(schema: Any, said: str) -> dict[str, Any]:
    if demo_citing.is_search(schema):
        return demo_citing.asked(said)
    if demo_coding.is_code(schema):
        return demo_coding.asked(said)
    made = _example(schema, said)
    return made if isinstance(made, dict) else {}


def _example(schema: Any, said: str) -> Any:
    """A value for the schema; ModelError for what is no schema, as a model server would say."""
    try:
        return example(schema, text=said)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(
            f"The demo model can't read this JSON schema: {_quote(_json(schema))}",
            code="invalid_prompt",
            reason="unreadable schema",
        ) from error


def _text(request: ChatRequest, conversation: _Conversation) -> str:
    """The words of an answer, in the format that was asked for."""
    match request.response_format:
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return _json(_example(schema, conversation.said))
        case {"type": "json_object" | "json_schema"}:
            return _json(_json_object(conversation))
        case _:
            sentences = _sentences(request, conversation)
            return "".join(
                each if each.endswith("\n") else f"{each} " for each in sentences
            ).rstrip()


def _json_object(conversation: _Conversation) -> dict[str, Any]:
    return {
        "model": MODEL,
        "you_said": _quote(conversation.said),
        "outputs": [{"name": name, "output": output} for name, output in conversation.outputs],
    }


def _sentences(request: ChatRequest, conversation: _Conversation) -> list[str]:
    runners = demo_coding.runners(_functions(request))
    sentences = [
        _told(name, output, conversation.said, is_code=name in runners)
        for name, output in conversation.outputs
    ]
    if not sentences:
        sentences = [WHO, f"You said: «{_quote(conversation.said)}»."]
        if runners:
            sentences.append(demo_coding.HOW_TO)
    if conversation.image_count:
        images = "image" if conversation.image_count == 1 else "images"
        sentences.append(f"I saw {conversation.image_count} {images}.")
    return [*sentences, HOW_TO_LEAVE]


def _told(name: str, output: str, said: str, *, is_code: bool) -> str:
    """What a function gave, in words."""
    if is_code:
        return demo_coding.answer(output)
    return demo_citing.answer(output, said) or f"{name} answered: «{_quote(output)}»."


def _quote(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "…"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _usage(request: ChatRequest, answered: Answer) -> ChatUsage:
    """Words for tokens: a figure that can be checked by hand."""
    prompt_tokens = sum(len(_words(message).split()) for message in request.messages)
    completion_tokens = len(answered.deltas)
    return ChatUsage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )
