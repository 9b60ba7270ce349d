"""The built-in model: what it says, when it calls, and that it keeps to what it is told."""

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from rethread.contract.chat import ChatMessage, ChatRequest, Chunk
from rethread.errors import ModelError
from rethread.providers.demo import Demo

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def function(name: str, parameters: Any = CITY) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def asked(*messages: ChatMessage | str, **fields: Any) -> ChatRequest:
    said = [
        ChatMessage(role="user", content=message) if isinstance(message, str) else message
        for message in messages
    ]
    return ChatRequest(**{"model": "any", "messages": said, **fields})


def called(*names: str) -> ChatMessage:
    """An assistant's message that calls these functions, with the name as the id."""
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for name in names
    ]
    return ChatMessage(role="assistant", tool_calls=calls)


def gave(name: str, output: str) -> ChatMessage:
    return ChatMessage(role="tool", tool_call_id=name, content=output)


async def read(request: ChatRequest) -> list[Chunk]:
    return [chunk async for chunk in Demo(delay_seconds=0).stream(request)]


async def spoken(request: ChatRequest) -> str:
    deltas = [choice.delta for chunk in await read(request) for choice in chunk.choices]
    return "".join(delta.content or "" for delta in deltas if delta)


async def calls(request: ChatRequest) -> list[tuple[str, Any]]:
    """Name and arguments of each call, put together as a client would."""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for chunk in await read(request):
        for choice in chunk.choices:
            for call in (choice.delta and choice.delta.tool_calls) or []:
                assert call.index is not None
                assert call.function is not None
                if call.function.name:
                    names[call.index] = call.function.name
                heard = arguments.get(call.index, "")
                arguments[call.index] = heard + (call.function.arguments or "")
    return [(name, json.loads(arguments[index])) for index, name in names.items()]


async def names_called(request: ChatRequest) -> list[str]:
    return [name for name, _ in await calls(request)]


async def finish_reason(request: ChatRequest) -> str | None:
    ends = [choice.finish_reason for chunk in await read(request) for choice in chunk.choices]
    [reason] = [end for end in ends if end]
    return reason


async def test_the_model_is_called_demo() -> None:
    demo = Demo()
    assert await demo.models() == ["demo"]
    await demo.aclose()


async def test_it_says_what_it_is_and_what_it_heard() -> None:
    answer = await spoken(asked("Hello there"))
    assert answer == (
        "I am rethread's built-in demo model: I do not think, I only show that everything works."
        " You said: «Hello there». To get real answers, start rethread with --upstream."
    )


async def test_it_streams_word_by_word() -> None:
    chunks = await read(asked("Hi"))
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta]
    assert pieces[:4] == ["I ", "am ", "rethread's ", "built-in "]
    assert await finish_reason(asked("Hi")) == "stop"


async def test_the_same_request_gets_the_same_answer() -> None:
    request = asked("get_weather in Paris", tools=[function("get_weather")])
    assert await read(request) == await read(request)


async def test_it_sees_images_and_hears_text_parts() -> None:
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
    ]
    answer = await spoken(asked(ChatMessage(role="user", content=content)))
    assert "You said: «Look». I saw 2 images." in answer


async def test_it_answers_even_to_nothing() -> None:
    assert "You said: «»." in await spoken(asked())


async def test_a_very_long_message_is_quoted_in_part() -> None:
    assert "x" * 1000 + "…»" in await spoken(asked("x" * 5000))


# --- functions


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("Please use get_weather for Paris", ["get_weather"]),
        ("Please GET WEATHER for Paris", ["get_weather"]),
        ("get_weather and get_time", ["get_weather", "get_time"]),
        ("get_weathers", []),
        ("my_get_weather", []),
        ("Hello", []),
    ],
)
async def test_it_calls_the_functions_that_are_named(said: str, names: list[str]) -> None:
    request = asked(said, tools=[function("get_weather"), function("get_time")])
    assert await names_called(request) == names
    assert await finish_reason(request) == ("tool_calls" if names else "stop")


async def test_arguments_fit_the_schema_and_the_message() -> None:
    request = asked("What does get_weather say on Oslo?", tools=[function("get_weather")])
    assert await calls(request) == [("get_weather", {"city": "Oslo"})]


async def test_arguments_are_streamed_in_pieces() -> None:
    chunks = await read(asked("get_weather in Reykjavik", tools=[function("get_weather")]))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices if choice.delta]
    pieces = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert len(pieces) > 2
    assert [bool(piece.id) for piece in pieces] == [True] + [False] * (len(pieces) - 1)


async def test_a_function_without_parameters_gets_none() -> None:
    tool = {"type": "function", "function": {"name": "now"}}
    assert await calls(asked("now", tools=[tool])) == [("now", {})]


async def test_ids_of_calls_differ() -> None:
    tools = [function("a"), function("b")]
    ids = [
        call.id
        for said in ("a b", "a b again")
        for chunk in await read(asked(said, tools=tools))
        for choice in chunk.choices
        for call in (choice.delta and choice.delta.tool_calls) or []
        if call.id
    ]
    assert len(set(ids)) == len(ids) == 4


async def test_without_parallel_calls_it_makes_one_after_the_other() -> None:
    fields: dict[str, Any] = {
        "tools": [function("a"), function("b")],
        "parallel_tool_calls": False,
    }
    assert await names_called(asked("a b", **fields)) == ["a"]
    turn: list[ChatMessage | str] = ["a b", called("a"), gave("a", "1")]
    assert await names_called(asked(*turn, **fields)) == ["b"]
    assert await names_called(asked(*turn, called("b"), gave("b", "2"), **fields)) == []


async def test_after_the_outputs_it_tells_them() -> None:
    request = asked(
        "get_weather and get_time",
        called("get_weather", "get_time"),
        gave("get_weather", "sunny"),
        gave("get_time", "noon"),
        tools=[function("get_weather"), function("get_time")],
    )
    answer = await spoken(request)
    assert answer.startswith("get_weather answered: «sunny». get_time answered: «noon».")


async def test_asked_again_it_calls_again() -> None:
    request = asked("get_weather", called("get_weather"), gave("get_weather", "sunny"))
    again = [*request.messages, ChatMessage(role="user", content="get_weather once more")]
    assert await names_called(asked(*again, tools=[function("get_weather")])) == ["get_weather"]


@pytest.mark.parametrize(
    ("choice", "said", "names"),
    [
        ("none", "a", []),
        ("auto", "b", ["b"]),
        ("required", "hello", ["a"]),
        ("required", "b", ["b"]),
        ({"type": "function", "function": {"name": "b"}}, "a", ["b"]),
        ({"type": "function", "function": {"name": "gone"}}, "a", []),
    ],
)
async def test_the_choice_of_tools_is_obeyed(choice: Any, said: str, names: list[str]) -> None:
    request = asked(said, tools=[function("a"), function("b")], tool_choice=choice)
    assert await names_called(request) == names


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "a"}}])
async def test_a_forced_call_is_made_once(choice: Any) -> None:
    turn: list[ChatMessage | str] = ["hello", called("a"), gave("a", "1")]
    assert await names_called(asked(*turn, tools=[function("a")], tool_choice=choice)) == []


async def test_a_schema_that_is_none_is_refused() -> None:
    tool = function("a", {"properties": {"n": {"minimum": "many"}}})
    with pytest.raises(ModelError, match="can't read this JSON schema") as caught:
        await read(asked("a", tools=[tool]))
    assert caught.value.code == "invalid_prompt"


# --- formats and limits


async def test_json_is_answered_where_json_is_asked_for() -> None:
    answer = await spoken(
        asked("Hi", called("a"), gave("a", "1"), response_format={"type": "json_object"})
    )
    assert json.loads(answer) == {
        "model": "demo",
        "you_said": "Hi",
        "outputs": [{"name": "a", "output": "1"}],
    }


async def test_a_schema_is_kept_to() -> None:
    schema = {
        "type": "object",
        "properties": {
            "steps": {"type": "array", "items": {"type": "string"}},
            "answer": {"type": "number", "minimum": 10},
        },
        "required": ["steps", "answer"],
        "additionalProperties": False,
    }
    asked_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = await spoken(asked("Hi", response_format=asked_format))
    jsonschema_rs.validator_for(schema).validate(json.loads(answer))


async def test_plain_text_may_be_asked_for_by_name() -> None:
    assert "You said" in await spoken(asked("Hi", response_format={"type": "text"}))


async def test_the_token_limit_is_kept() -> None:
    request = asked("Hi", max_completion_tokens=3)
    assert await spoken(request) == "I am rethread's "
    assert await finish_reason(request) == "length"


async def test_the_usage_counts_words() -> None:
    system = ChatMessage(role="system", content="Be brief.")
    usage = (await read(asked(system, "One two three", max_completion_tokens=4)))[-1].usage
    assert msgspec.to_builtins(usage) == {
        "prompt_tokens": 5,
        "completion_tokens": 4,
        "total_tokens": 9,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }
