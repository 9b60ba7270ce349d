"""A message that the context window cannot hold is refused in words, never left out in silence."""

from typing import Any

import pytest
from openai import OpenAI

from tests.conftest import StartServer


def test_a_newest_message_beyond_the_window_fails_the_run_and_says_how_wide_it_is(
    start_server: StartServer,
) -> None:
    server = start_server("--context-window", "300")
    with OpenAI(base_url=server.url, api_key="any") as client:
        assistant = client.beta.assistants.create(model="demo")
        run = client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id,
            thread={"messages": [{"role": "user", "content": "word " * 1000}]},
        )
        written = client.beta.threads.messages.list(run.thread_id, run_id=run.id).data
    assert run.status == "failed"
    assert run.last_error is not None
    assert run.last_error.code == "invalid_prompt"
    assert "context window" in run.last_error.message
    assert "(300)" in run.last_error.message
    assert written == []


@pytest.mark.parametrize(
    ("words", "options", "status"),
    [
        (1600, {}, "completed"),
        (1900, {}, "failed"),  # an eighth is the answer's
        (1600, {"max_completion_tokens": 800}, "failed"),
        (900, {"max_completion_tokens": 10_000}, "completed"),  # half is the prompt's in any case
    ],
)
def test_a_prompt_leaves_room_for_the_answer(
    start_server: StartServer, words: int, options: dict[str, Any], status: str
) -> None:
    server = start_server("--context-window", "2000")
    with OpenAI(base_url=server.url, api_key="any") as client:
        assistant = client.beta.assistants.create(model="demo")
        run = client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id,
            thread={"messages": [{"role": "user", "content": "word " * words}]},
            **options,
        )
    assert run.status == status
