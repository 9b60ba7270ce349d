"""The demo model runs what the user has fenced, and says what came out and where it is."""

import json
from typing import Any

from rethread.contract.chat import ChatMessage, ChatRequest
from rethread.contract.steps import CodeInterpreter, LogsOutput, MadeFile
from rethread.providers import demo_coding
from rethread.providers.demo import answer
from rethread.tools.code_interpreter import tool

CODE = "x = 6\nprint(x * 7)"
FENCED = (
    f"Not this:\n```js\nlet x\n```\nPlease run\n```python\n{CODE}\n```\nand then\n\n"
    "```\nprint('and this')\n```\nThanks."
)
OTHER = {"type": "function", "function": {"name": "other"}}


def asked(said: str, *answered: str, **fields: Any) -> Any:
    """What the demo answers: the arguments of its calls by name, and its words."""
    messages = [ChatMessage(role="user", content=said)]
    for place, output in enumerate(answered):
        function = {"name": "code_interpreter", "arguments": "{}"}
        call = {"id": f"call_{place}", "type": "function", "function": function}
        messages.append(ChatMessage(role="assistant", tool_calls=[call]))
        messages.append(ChatMessage(role="tool", content=output, tool_call_id=f"call_{place}"))
    tools = [tool.definition("code_interpreter", offers="", files=[]), OTHER]
    deltas = answer(ChatRequest(model="demo", messages=messages, tools=tools, **fields)).deltas
    calls: dict[int, list[str]] = {}
    for piece in (piece for delta in deltas for piece in delta.tool_calls or []):
        assert piece.function
        said_now = [piece.function.name or "", piece.function.arguments or ""]
        calls.setdefault(piece.index or 0, []).extend(said_now)
    made = {parts[0]: json.loads("".join(parts[1:])) for parts in calls.values()}
    return made, "".join(delta.content or "" for delta in deltas)


def test_it_runs_the_fenced_python_once() -> None:
    code = {"code": f"{CODE}\nprint('and this')"}
    assert asked(FENCED) == ({"code_interpreter": code}, "")
    calls, said = asked(FENCED, "42")
    assert calls == {}
    assert said.startswith("I ran your code, and this came out:\n\n```\n42\n```\n")


def test_it_links_the_files_that_were_written() -> None:
    made = [MadeFile("a b.csv", "file-a"), MadeFile("c/d.png", "file-d")]
    output = tool.output(CodeInterpreter(input=CODE, outputs=[LogsOutput("42\n")], made=made))
    said = asked(FENCED, output)[1]
    assert "```\n42\n```" in said
    assert (
        "It wrote [a b.csv](sandbox:/mnt/data/a%20b.csv), [d.png](sandbox:/mnt/data/c/d.png)."
    ) in said


def test_without_a_fence_it_says_how_to() -> None:
    for said in ("Hello", "Use your code interpreter", "```javascript\nx\n```", "```python x```"):
        calls, words = asked(said)
        assert calls == {}
        assert demo_coding.HOW_TO in words


def test_a_long_line_behind_a_fence_is_read_once() -> None:
    assert demo_coding.fenced("```" + "x" * 256_000) == ""  # it took minutes


def test_it_runs_code_where_it_must_and_none_where_it_may_not() -> None:
    assert asked(FENCED, tool_choice="none")[0] == {}
    named = {"type": "function", "function": {"name": "code_interpreter"}}
    assert set(asked("Hello", tool_choice=named)[0]) == {"code_interpreter"}
    assert set(asked(f"other {FENCED}")[0]) == {"code_interpreter", "other"}
