"""The demo model searches where that is offered, and quotes what fits with its mark."""

import json
from typing import Any

from rethread.contract.chat import ChatMessage, ChatRequest
from rethread.providers.demo import answer
from rethread.tools.file_search import tool

PASSAGES = (
    "Passages.\n\n【0:0†a.md】 (page 3)\n# Kettle\n\nThe kettle has a warranty. It whistles.\n\n"
    "【0:1†b.md】\nThe toaster is warranted for a year.\n"
)


def asked(said: str, *answered: str, **fields: Any) -> Any:
    """What the demo answers: the arguments of its calls, and its words."""
    messages = [ChatMessage(role="user", content=said)]
    for place, output in enumerate(answered):
        function = {"name": "file_search", "arguments": "{}"}
        call = {"id": f"call_{place}", "type": "function", "function": function}
        messages.append(ChatMessage(role="assistant", tool_calls=[call]))
        messages.append(ChatMessage(role="tool", content=output, tool_call_id=f"call_{place}"))
    tools = [tool.definition("file_search"), {"type": "function", "function": {"name": "other"}}]
    deltas = answer(ChatRequest(model="demo", messages=messages, tools=tools, **fields)).deltas
    calls = [piece for delta in deltas for piece in delta.tool_calls or []]
    arguments = "".join((piece.function and piece.function.arguments) or "" for piece in calls)
    return (json.loads(arguments) if calls else None), "".join(d.content or "" for d in deltas)


def test_it_searches_with_the_users_words_once() -> None:
    assert asked("Which whistles?") == ({"queries": ["Which whistles?"]}, "")
    calls, said = asked("Which whistles?", PASSAGES)
    assert calls is None
    assert said.startswith("It whistles. 【0:0†a.md】 To get real answers")


def test_it_quotes_the_sentence_that_has_most_of_the_words_with_its_own_mark() -> None:
    assert "The toaster is warranted for a year. 【0:1†b.md】" in asked("My toaster?", PASSAGES)[1]
    assert "# Kettle 【0:0†a.md】" in asked("x", PASSAGES)[1]


def test_a_line_without_an_end_is_read_once_not_from_each_of_its_characters() -> None:
    output = f"Passages.\n\n【0:0†a.csv】\n{'word ' * 100_000}3.14 The end."
    assert asked("x", output)[1].startswith("word word")


def test_it_says_what_it_was_told_where_nothing_was_found() -> None:
    assert f"file_search answered: «{tool.NO_FILES}»." in asked("x", tool.NO_FILES)[1]


def test_it_does_not_search_where_that_is_ruled_out() -> None:
    assert asked("Which whistles?", tool_choice="none")[0] is None
    named = {"type": "function", "function": {"name": "other"}}
    assert "queries" not in (asked("Which whistles?", tool_choice=named)[0] or {})
