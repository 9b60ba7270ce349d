"""What the model says in the crash tests: slowly, and to the same question always the same.

So an answer that stands twice is seen, and so is one that has lost or repeated a piece.
"""

import json
import re
from typing import Any, Final

from tests.fakes.replies import Call, Reply, text, tool_calls

PIECES: Final = 30
NAME: Final = re.compile(r"about <([\w-]+)>")
FUNCTION: Final[Any] = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}


def question(name: str) -> str:
    """A user's message; the name is its own."""
    return f"Tell me about <{name}>."


def pieces_about(name: str) -> list[str]:
    """The answer to that question, as it is streamed."""
    return [f"{name}:{number} " for number in range(PIECES)]


def answering(*, seconds: float) -> Any:
    """How the model answers, in about so many seconds: first with a call, if it has a function."""

    def answer(body: Any) -> Reply:
        *_, name = NAME.findall(json.dumps(body["messages"]))
        if body.get("tools") and body["messages"][-1]["role"] != "tool":
            call = Call(f"call_{name}", "look_up", json.dumps({"name": name}))
            return tool_calls(call).paced(seconds / 15)
        return text(*pieces_about(name), seconds_between=seconds / PIECES)

    return answer
