"""The explicit nulls that frameworks send mean that the field is absent."""

from typing import Any

from openai import OpenAI

RUN_NULLS: Any = dict.fromkeys(
    [
        "instructions",
        "additional_instructions",
        "additional_messages",
        "model",
        "tools",
        "metadata",
        "max_prompt_tokens",
        "max_completion_tokens",
        "response_format",
        "temperature",
        "top_p",
        "tool_choice",
        "truncation_strategy",
        "parallel_tool_calls",
        "reasoning_effort",
        "stream",
    ]
)
ASSISTANT_NULLS: Any = dict.fromkeys(
    [
        "name",
        "description",
        "instructions",
        "tools",
        "tool_resources",
        "metadata",
        "temperature",
        "top_p",
        "response_format",
        "reasoning_effort",
    ]
)


def test_nulls_are_absent_everywhere(one_client: OpenAI) -> None:
    beta = one_client.beta
    assistant = beta.assistants.create(model="demo", extra_body=ASSISTANT_NULLS)
    assert (assistant.temperature, assistant.tools, assistant.metadata) == (1.0, [], {})
    named = beta.assistants.update(assistant.id, name="Named", instructions="Be kind.")
    same = beta.assistants.update(assistant.id, extra_body={**ASSISTANT_NULLS, "model": None})
    assert same == named  # null leaves a field as it is
    thread = beta.threads.create(
        extra_body={"messages": None, "metadata": None, "tool_resources": None}
    )
    message = beta.threads.messages.create(
        thread.id, role="user", content="Hi", extra_body={"attachments": None, "metadata": None}
    )
    assert (message.attachments, message.metadata) == ([], {})
    run = beta.threads.runs.create(thread.id, assistant_id=assistant.id, extra_body=RUN_NULLS)
    assert (run.instructions, run.model, run.temperature) == ("Be kind.", "demo", 1.0)
    assert beta.threads.runs.poll(run.id, thread_id=thread.id).status == "completed"
    both = beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        extra_body={"thread": None, "tool_resources": None, "metadata": None, "tools": None},
    )
    assert both.status == "completed"
