"""Assistants through the stock SDK: created, read, changed, listed, deleted; all keys there."""

from typing import Any

import pytest
from openai import AsyncOpenAI, NotFoundError, OpenAI

from tests.sdk.clients import WEATHER


async def test_a_new_assistant_has_every_key_with_its_default(client: AsyncOpenAI) -> None:
    raw = await client.beta.assistants.with_raw_response.create(model="demo")
    shown = raw.http_response.json()
    assert shown == {
        "id": shown["id"],
        "object": "assistant",
        "created_at": shown["created_at"],
        "name": None,
        "description": None,
        "model": "demo",
        "instructions": None,
        "tools": [],
        "top_p": 1.0,
        "temperature": 1.0,
        "reasoning_effort": None,
        "tool_resources": {},
        "metadata": {},
        "response_format": "auto",
    }
    assert shown["id"].startswith("asst_")
    assert len(shown["id"]) == len("asst_") + 24
    assert raw.parse().id == shown["id"]


async def test_an_assistant_is_read_as_it_was_made(client: AsyncOpenAI) -> None:
    made = await client.beta.assistants.create(
        model="demo",
        name="Müller",
        description="Counts",
        instructions="Count to ten.",
        tools=[WEATHER],
        metadata={"team": "blue"},
        temperature=0.3,
        top_p=0.9,
        reasoning_effort="low",
        response_format={"type": "json_object"},
    )
    assert await client.beta.assistants.retrieve(made.id) == made
    assert made.name == "Müller"
    assert made.metadata == {"team": "blue"}
    assert (made.temperature, made.top_p) == (0.3, 0.9)
    assert made.to_dict()["reasoning_effort"] == "low"
    assert made.to_dict()["response_format"] == {"type": "json_object"}
    assert made.to_dict()["tools"] == [
        {"type": "function", "function": {**WEATHER["function"], "strict": False}}
    ]


async def test_what_a_change_leaves_out_stays(client: AsyncOpenAI) -> None:
    made = await client.beta.assistants.create(
        model="demo", name="Old", instructions="Stay.", metadata={"a": "1", "b": "2"}
    )
    changed = await client.beta.assistants.update(made.id, name="New", metadata={"c": "3"})
    assert (changed.name, changed.instructions) == ("New", "Stay.")
    assert changed.metadata == {"c": "3"}
    assert changed.created_at == made.created_at
    assert await client.beta.assistants.retrieve(made.id) == changed


async def test_a_deleted_assistant_is_gone(client: AsyncOpenAI) -> None:
    made = await client.beta.assistants.create(model="demo")
    deleted = await client.beta.assistants.delete(made.id)
    assert deleted.to_dict() == {"id": made.id, "object": "assistant.deleted", "deleted": True}
    with pytest.raises(NotFoundError, match=f"No assistant found with id '{made.id}'"):
        await client.beta.assistants.retrieve(made.id)


async def test_a_new_assistant_is_the_first_of_the_list(client: AsyncOpenAI) -> None:
    made = await client.beta.assistants.create(model="demo", name="Newest")
    page = await client.beta.assistants.list(limit=1)
    assert page.data == [made]


@pytest.mark.parametrize(
    ("tools", "shown_tools", "shown_resources"),
    [
        (
            [{"type": "code_interpreter"}],
            [{"type": "code_interpreter"}],
            {"code_interpreter": {"file_ids": []}},
        ),
        (
            [{"type": "file_search"}],
            [
                {
                    "type": "file_search",
                    "file_search": {
                        "ranking_options": {
                            "ranker": "default_2024_08_21",
                            "score_threshold": 0.0,
                            "hybrid_search": None,
                        }
                    },
                }
            ],
            {},
        ),
    ],
    ids=["code_interpreter", "file_search"],
)
def test_built_in_tools_are_declared_with_their_defaults(
    one_client: OpenAI, tools: Any, shown_tools: Any, shown_resources: Any
) -> None:
    made = one_client.beta.assistants.create(model="demo", tools=tools).to_dict()
    assert made["tools"] == shown_tools
    assert made["tool_resources"] == shown_resources
