"""A thread becomes a prompt: the newest items that fit, the first message, calls with outputs."""

from typing import Any

import msgspec
import pytest
from msgspec import structs

from rethread.contract.chat import ChatMessage
from rethread.contract.messages import (
    IncompleteDetails,
    Message,
    RefusalPart,
    TextPart,
    TextValue,
)
from rethread.contract.runs import Run
from rethread.contract.steps import (
    FunctionCall,
    FunctionResult,
    Step,
    ToolCall,
    ToolCallsDetails,
)
from rethread.contract.tools import (
    CodeInterpreterChoice,
    CodeInterpreterTool,
    FunctionChoice,
    FunctionDefinition,
    FunctionTool,
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    NamedFunction,
)
from rethread.errors import ModelError
from rethread.runs import prompt
from rethread.runs.lifecycle import end_step, new_step
from rethread.runs.window import (
    IMAGE_TOKENS,
    LOW_DETAIL_IMAGE_TOKENS,
    MESSAGE_OVERHEAD_TOKENS,
    Window,
)
from tests.objects import NOW, WEATHER, a_message, a_run, an_assistant

RUN = a_run()


def said(text: str, role: str = "user", **fields: Any) -> Message:
    """A message with one text."""
    return a_message("thread_a", text, role=role, **fields)


def called(*outputs: str, run: Run = RUN, name: str = "weather") -> Step:
    """A step whose calls have these outputs."""
    calls: list[ToolCall] = [
        FunctionCall(id=f"call_{place}", function=FunctionResult(name, '{"n": 1}', output))
        for place, output in enumerate(outputs)
    ]
    step = new_step(run, ToolCallsDetails(), now=NOW)
    return end_step(step, "completed", now=NOW, details=ToolCallsDetails(calls))


def words(text: str) -> int:
    """A tokenizer that can be counted with by hand."""
    return len(text.split())


def a_window(
    budget: int = 1000, *, last_messages: int | None = None, fixed: tuple[str, ...] = ()
) -> Window:
    return Window(
        budget_tokens=budget, last_messages=last_messages, count=words, fixed=fixed, run_id=RUN.id
    )


def shown(window: Window, *items: Message | Step) -> list[ChatMessage]:
    """The prompt's messages, once the items were taken: the oldest is given first."""
    for item in reversed(items):
        window.take(item)
    return window.messages()


def texts(window: Window, *items: Message | Step) -> list[Any]:
    return [message.content for message in shown(window, *items)]


def a_request(run: Run, **fields: Any) -> Any:
    options = {
        "additional_instructions": None,
        "is_first_turn": True,
        "completion_tokens_left": None,
        **fields,
    }
    return prompt.request(run, [ChatMessage("user", "Hi")], **options)


def test_messages_are_shown_in_their_order_with_their_roles() -> None:
    got = shown(a_window(), said("a"), said("b", "assistant"), said("c"))
    assert [(m.role, m.content) for m in got] == [("user", "a"), ("assistant", "b"), ("user", "c")]


def test_the_newest_that_fit_are_kept_without_a_gap() -> None:
    each = 2 + MESSAGE_OVERHEAD_TOKENS
    items = [said(f"w {n}") for n in range(5)]
    long = said("w " * 100)
    assert texts(a_window(3 * each), *items) == ["w 2", "w 3", "w 4"]
    assert texts(a_window(3 * each - 1), *items) == ["w 3", "w 4"]
    assert texts(a_window(5 * each), *items[:3], long, *items[3:]) == ["w 3", "w 4"]


def test_fixed_texts_take_their_share_of_the_budget() -> None:
    each = 1 + MESSAGE_OVERHEAD_TOKENS
    items = [said("a"), said("b")]
    assert texts(a_window(2 * each + 3, fixed=("x y z",)), *items) == ["a", "b"]
    assert texts(a_window(2 * each + 2, fixed=("x y z",)), *items) == ["b"]


def test_where_not_even_the_newest_fits_the_window_says_so() -> None:
    window = a_window(5)
    assert texts(window, said("short"), said("w " * 100)) == []
    assert window.lacks_newest
    window = a_window(10)
    assert texts(window, said("w " * 100), said("short")) == ["short"]
    assert not window.lacks_newest


def test_the_first_message_is_kept_where_it_takes_a_quarter_at_most() -> None:
    each = 1 + MESSAGE_OVERHEAD_TOKENS
    items = [said(name) for name in "abcdef"]
    window = a_window(4 * each)
    window.keep_first(items[0])
    assert texts(window, *items) == ["a", "d", "e", "f"]
    window = a_window(4 * each - 1)
    window.keep_first(items[0])
    assert texts(window, *items) == ["d", "e", "f"]


def test_the_newest_message_has_more_right_to_the_window_than_the_first() -> None:
    newest = said("w " * (40 - MESSAGE_OVERHEAD_TOKENS))
    first = said("a")
    window = a_window(40)
    window.keep_first(first)
    assert texts(window, first, said("b"), newest) == [f"{'w ' * 36}"]
    assert not window.lacks_newest


def test_a_text_that_cannot_fit_is_not_counted_to_its_end() -> None:
    counted = 0

    def count(text: str) -> int:
        nonlocal counted
        counted += len(text)
        return len(text.split())

    window = Window(budget_tokens=100, last_messages=None, count=count, fixed=())
    window.take(said("w " * 1_000_000))
    assert window.lacks_newest
    assert counted < 100_000


def test_a_kept_first_message_is_shown_once() -> None:
    items = [said(name) for name in "abc"]
    window = a_window()
    window.keep_first(items[0])
    assert texts(window, *items) == ["a", "b", "c"]


def test_last_messages_counts_messages_and_not_what_the_run_has_done() -> None:
    items = [said(name) for name in "abc"]
    window = a_window(last_messages=2)
    window.keep_first(items[0])
    assert texts(window, *items) == ["b", "c"]
    assert window.is_full
    own = said("looking", "assistant", run_id=RUN.id)
    got = shown(a_window(last_messages=1), *items, own, called("sunny"))
    assert [(m.role, m.content) for m in got] == [
        ("user", "c"),
        ("assistant", "looking"),
        ("tool", "sunny"),
    ]


def test_last_messages_does_not_reach_calls_in_front_of_them() -> None:
    earlier = a_run()
    answer = said("It is sunny.", "assistant", run_id=earlier.id)
    items = (said("a"), called("sunny", run=earlier), answer, said("b"))
    assert texts(a_window(last_messages=1), *items) == ["b"]
    assert texts(a_window(last_messages=2), *items) == ["It is sunny.", "b"]
    assert texts(a_window(last_messages=3), *items) == ["a", None, "sunny", "It is sunny.", "b"]


def test_an_image_of_the_first_message_is_no_matter_where_it_is_not_shown() -> None:
    first = with_parts({"type": "image_file", "image_file": {"file_id": "file-a"}})
    window = a_window(last_messages=1)
    window.keep_first(first)
    assert texts(window, said("b")) == ["b"]


def test_calls_and_their_outputs_are_taken_together_or_not_at_all() -> None:
    step = called("sunny", "rainy")
    got = shown(a_window(), said("a"), step, said("c", "assistant"))
    assert [m.role for m in got] == ["user", "assistant", "tool", "tool", "assistant"]
    assert got[1].tool_calls == [
        {
            "id": f"call_{place}",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"n": 1}'},
        }
        for place in range(2)
    ]
    assert [(m.tool_call_id, m.content) for m in got[2:4]] == [
        ("call_0", "sunny"),
        ("call_1", "rainy"),
    ]
    tokens = 2 * (1 + 2 + 1 + 2 * MESSAGE_OVERHEAD_TOKENS)
    assert len(shown(a_window(tokens), step)) == 3
    assert shown(a_window(tokens - 1), step) == []


def test_words_and_the_calls_that_came_with_them_are_one_answer_again() -> None:
    looking = said("Let me look.", "assistant", run_id=RUN.id)
    got = shown(a_window(), said("a"), looking, called("sunny"), said("c"))
    assert [m.role for m in got] == ["user", "assistant", "tool", "user"]
    assert (got[1].content, len(got[1].tool_calls or ())) == ("Let me look.", 1)


def test_calls_behind_a_question_are_an_answer_of_their_own() -> None:
    got = shown(a_window(), said("a"), called("sunny"), called("rainy"))
    assert [m.role for m in got] == ["user", "assistant", "tool", "assistant", "tool"]


def cut(reason: Any) -> Message:
    return said(
        "half", "assistant", status="incomplete", incomplete_details=IncompleteDetails(reason)
    )


def test_the_model_sees_what_was_said_and_not_what_broke() -> None:
    assert texts(a_window(), cut("max_tokens"), cut("run_cancelled")) == ["half", "half"]
    unfinished = said("hal", "assistant", status="in_progress")
    open_step = new_step(RUN, ToolCallsDetails([]), now=NOW)
    failed_step = end_step(open_step, "failed", now=NOW)
    hidden = (cut("run_failed"), unfinished, said(""), open_step, failed_step)
    assert texts(a_window(), said("a"), *hidden) == ["a"]


def with_parts(*parts: Any) -> Message:
    """A user's message with these parts, as JSON has them."""
    return msgspec.convert({**msgspec.to_builtins(said("")), "content": list(parts)}, type=Message)


def image(detail: str = "auto") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": detail}}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value}}


def test_images_are_shown_as_parts_and_cost_what_they_cost() -> None:
    message = with_parts(text("see"), image("low"), image())
    assert texts(a_window(), message) == [
        [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "auto"}},
        ]
    ]
    cost = 1 + LOW_DETAIL_IMAGE_TOKENS + IMAGE_TOKENS + MESSAGE_OVERHEAD_TOKENS
    assert len(texts(a_window(cost), message)) == 1
    assert texts(a_window(cost - 1), message) == []


def test_texts_alone_are_plain_text_which_every_server_takes() -> None:
    assert texts(a_window(), with_parts(text("a"), text("b"))) == ["a\nb"]
    refused = said("", "assistant")
    parts = [RefusalPart("No."), TextPart(TextValue("Sorry."))]
    assert texts(a_window(), structs.replace(refused, content=parts)) == ["No.\nSorry."]


def test_an_image_file_is_passed_on_for_its_content_to_be_put_in() -> None:
    part = {"type": "image_file", "image_file": {"file_id": "file-abc", "detail": "low"}}
    assert shown(a_window(), with_parts(part))[0].content == [part]


def test_the_runs_instructions_come_first_then_the_additional_ones() -> None:
    run = a_run("thread_a", an_assistant(instructions="A"))
    for additional, told in ((None, "A"), ("B", "A\n\nB")):
        first = a_request(run, additional_instructions=additional).messages[0]
        assert (first.role, first.content) == ("system", told)
    nothing = a_request(a_run())
    assert [message.role for message in nothing.messages] == ["user"]
    assert prompt.fixed_texts(run, "B")[0] == "A\n\nB"
    assert "weather" in prompt.fixed_texts(run, "B")[1]


def test_sampling_parameters_are_the_runs() -> None:
    run = a_run(temperature=0.0, top_p=0.5, reasoning_effort="low", model="gpt")
    asked = a_request(run, completion_tokens_left=7)
    assert (asked.model, asked.temperature, asked.top_p) == ("gpt", 0.0, 0.5)
    assert (asked.reasoning_effort, asked.max_completion_tokens) == ("low", 7)
    assert a_request(a_run()).top_p is None


def test_tools_are_told_as_the_wire_wants_them() -> None:
    bare = FunctionTool(function=FunctionDefinition(name="bare"))
    strict = FunctionTool(
        function=FunctionDefinition(
            name="strict", strict=True, description="d", parameters={"type": "object"}
        )
    )
    tools = a_request(a_run(tools=[bare, strict])).tools
    assert [tool["function"] for tool in tools] == [
        {"name": "bare", "parameters": {"type": "object", "properties": {}}},
        {
            "name": "strict",
            "strict": True,
            "description": "d",
            "parameters": {"type": "object"},
        },
    ]
    assert a_request(a_run(tools=[])).tools is None


def test_a_forced_choice_holds_for_the_first_turn_only_and_none_for_all() -> None:
    named = FunctionChoice(function=NamedFunction(name="weather"))
    as_sent = {"type": "function", "function": {"name": "weather"}}
    for choice, first, later in (
        (None, None, None),
        ("auto", None, None),
        ("none", "none", "none"),
        ("required", "required", None),
        (named, as_sent, None),
    ):
        run = a_run(tool_choice=choice)
        assert a_request(run).tool_choice == first
        assert a_request(run, is_first_turn=False).tool_choice == later


def test_parallel_calls_are_mentioned_where_they_are_forbidden() -> None:
    assert a_request(a_run()).parallel_tool_calls is None
    assert a_request(a_run(parallel_tool_calls=False)).parallel_tool_calls is False
    assert a_request(a_run(parallel_tool_calls=False, tools=[])).parallel_tool_calls is None


def test_a_response_format_is_passed_on() -> None:
    schema = JsonSchemaFormat(json_schema=JsonSchema(name="n", schema={"type": "object"}))
    for asked, sent in (
        ("auto", None),
        (JsonObjectFormat(), {"type": "json_object"}),
        (
            schema,
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        ),
    ):
        assert a_request(a_run(response_format=asked)).response_format == sent


def test_code_that_cannot_be_run_fails_the_run_in_words_unless_it_is_not_used() -> None:
    with pytest.raises(ModelError, match="Install it") as refused:
        prompt.check_supported(
            a_run(tools=[WEATHER, CodeInterpreterTool()]), code_refusal="Install it."
        )
    assert refused.value.code == "server_error"
    unused = a_run(tools=[CodeInterpreterTool()], tool_choice="none")
    prompt.check_supported(unused, code_refusal="Install it.")
    with pytest.raises(ModelError, match="'code_interpreter', and it does not offer") as refused:
        prompt.check_supported(a_run(tool_choice=CodeInterpreterChoice()))
    assert refused.value.code == "invalid_prompt"


def test_a_choice_of_a_function_that_is_not_offered_is_an_invalid_prompt() -> None:
    named = FunctionChoice(function=NamedFunction(name="other"))
    with pytest.raises(ModelError, match="names the function 'other'") as refused:
        prompt.check_supported(a_run(tool_choice=named))
    assert refused.value.code == "invalid_prompt"
    assert prompt.offer(a_run()).functions == {"weather"}
    assert not prompt.offer(a_run(tool_choice="none"))


def test_a_tool_that_must_be_called_has_to_be_there() -> None:
    with pytest.raises(ModelError, match="'required', and it offers no tool") as refused:
        prompt.check_supported(a_run(tool_choice="required", tools=[]))
    assert refused.value.code == "invalid_prompt"
