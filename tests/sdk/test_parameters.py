"""Every parameter of a run has its effect: on what the model server is asked, or on the run."""

import json
from typing import Any

from tests.fakes.replies import Call, text, tool_calls
from tests.sdk.clients import WEATHER, Scripted


def asked_by(scripted: Scripted, thread_id: str, **parameters: Any) -> Any:
    """The model call of a run that has completed."""
    runs = scripted.client.beta.threads.runs
    parameters = {"assistant_id": "", **parameters}
    parameters["assistant_id"] = parameters["assistant_id"] or scripted.assistant()
    run = runs.create_and_poll(thread_id=thread_id, **parameters)
    assert run.status == "completed", run.last_error
    return scripted.asked()


def said(body: Any) -> list[tuple[str, Any]]:
    return [(message["role"], message.get("content")) for message in body["messages"]]


def test_the_model_is_asked_with_what_the_assistant_has(scripted: Scripted) -> None:
    assistant_id = scripted.assistant(
        model="other-model",
        instructions="Be brief.",
        tools=[WEATHER],
        temperature=0.3,
        top_p=0.5,
        reasoning_effort="low",
        response_format={"type": "json_object"},
    )
    body = asked_by(scripted, scripted.thread("JSON, please"), assistant_id=assistant_id)
    assert said(body) == [("system", "Be brief."), ("user", "JSON, please")]
    assert (body["model"], body["temperature"], body["top_p"]) == ("other-model", 0.3, 0.5)
    assert body["reasoning_effort"] == "low"
    assert body["response_format"] == {"type": "json_object"}
    assert [tool["function"]["name"] for tool in body["tools"]] == ["get_weather"]
    assert body["stream"] is True


def test_a_run_says_it_over_its_assistant(scripted: Scripted) -> None:
    assistant_id = scripted.assistant(instructions="Be brief.", temperature=0.3)
    clock = {"type": "function", "function": {"name": "clock"}}
    schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    body = asked_by(
        scripted,
        scripted.thread("Hello"),
        assistant_id=assistant_id,
        model="other-model",
        instructions="Be long.",
        additional_instructions="In verse.",
        additional_messages=[{"role": "assistant", "content": "Yes?"}],
        tools=[clock],
        temperature=1.5,
        top_p=0.1,
        reasoning_effort="high",
        response_format={"type": "json_schema", "json_schema": schema},
    )
    assert said(body) == [
        ("system", "Be long.\n\nIn verse."),
        ("user", "Hello"),
        ("assistant", "Yes?"),
    ]
    assert (body["model"], body["temperature"], body["top_p"]) == ("other-model", 1.5, 0.1)
    assert body["reasoning_effort"] == "high"
    assert body["response_format"] == {"type": "json_schema", "json_schema": schema}
    assert [tool["function"]["name"] for tool in body["tools"]] == ["clock"]


def test_tool_choice_and_parallel_calls_are_passed_on(scripted: Scripted) -> None:
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("none", "required", named):
        body = asked_by(
            scripted,
            scripted.thread("Hello"),
            assistant_id=scripted.assistant(tools=[WEATHER]),
            tool_choice=choice,
            parallel_tool_calls=False,
        )
        assert body["tool_choice"] == choice
        assert body["parallel_tool_calls"] is False


def test_a_budget_of_tokens_bounds_the_answer(scripted: Scripted) -> None:
    body = asked_by(scripted, scripted.thread("Hello"), max_completion_tokens=300)
    assert body["max_tokens"] == 300


def test_only_the_last_messages_are_shown_where_the_run_says_so(scripted: Scripted) -> None:
    thread_id = scripted.thread("One", "Two", "Three", "Four")
    body = asked_by(
        scripted, thread_id, truncation_strategy={"type": "last_messages", "last_messages": 2}
    )
    assert said(body) == [("user", "Three"), ("user", "Four")]


def test_a_prompt_budget_drops_the_middle_of_the_thread(scripted: Scripted) -> None:
    thread_id = scripted.thread("First.", *(f"Filler {number} " * 40 for number in range(60)), "?")
    body = asked_by(scripted, thread_id, max_prompt_tokens=400)
    shown = [content for _, content in said(body)]
    assert shown[0] == "First."
    assert shown[-1] == "?"
    assert len(shown) < 10


def test_a_prompt_budget_that_leaves_no_room_for_the_question_ends_the_run(
    scripted: Scripted,
) -> None:
    runs = scripted.client.beta.threads.runs
    scripted.model.replies.append(tool_calls(Call("call_1", "get_weather", "{}")))
    calls = len(scripted.model.requests)
    run = runs.create_and_poll(
        thread_id=scripted.thread("word " * 300),
        assistant_id=scripted.assistant(tools=[WEATHER]),
        max_prompt_tokens=500,
    )
    run = runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=run.thread_id,
        tool_outputs=[{"tool_call_id": "call_1", "output": "rain " * 300}],
    )
    assert (run.status, len(scripted.model.requests) - calls) == ("incomplete", 1)
    assert run.incomplete_details is not None
    assert run.incomplete_details.reason == "max_prompt_tokens"


def test_images_are_shown_to_the_model(scripted: Scripted) -> None:
    thread = scripted.client.beta.threads.create()
    scripted.client.beta.threads.messages.create(
        thread.id,
        role="user",
        content=[
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        ],
    )
    body = asked_by(scripted, thread.id)
    image = {"url": "https://example.com/a.png", "detail": "auto"}
    assert said(body) == [
        (
            "user",
            [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": image},
            ],
        )
    ]


def test_calls_and_outputs_of_earlier_runs_are_shown_again(scripted: Scripted) -> None:
    assistant_id = scripted.assistant(tools=[WEATHER])
    thread_id = scripted.thread("Weather in Paris?")
    arguments = json.dumps({"city": "Paris"})
    scripted.model.replies.extend(
        [tool_calls(Call("call_1", "get_weather", arguments)), text("It is sunny.")]
    )
    runs = scripted.client.beta.threads.runs
    run = runs.create_and_poll(thread_id=thread_id, assistant_id=assistant_id)
    runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=thread_id,
        tool_outputs=[{"tool_call_id": "call_1", "output": "sun"}],
    )
    scripted.client.beta.threads.messages.create(thread_id, role="user", content="And Rome?")
    body = asked_by(scripted, thread_id, assistant_id=assistant_id)
    assert said(body) == [
        ("user", "Weather in Paris?"),
        ("assistant", None),
        ("tool", "sun"),
        ("assistant", "It is sunny."),
        ("user", "And Rome?"),
    ]
    call = {"id": "call_1", "type": "function"}
    called = body["messages"][1]["tool_calls"]
    assert called == [{**call, "function": {"name": "get_weather", "arguments": arguments}}]
    assert body["messages"][2]["tool_call_id"] == "call_1"


def test_metadata_stands_on_the_run(scripted: Scripted) -> None:
    runs = scripted.client.beta.threads.runs
    run = runs.create_and_poll(
        thread_id=scripted.thread("Hello"),
        assistant_id=scripted.assistant(),
        metadata={"ticket": "7"},
    )
    assert run.metadata == {"ticket": "7"}
