"""What the demo model does with code: it runs the fenced Python of the user's newest message.

It knows the tool by its parameters, and the files that were written by their links, as any model
would: nothing else is agreed between it and the tool. Pure.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

FENCED: Final = re.compile(
    # Possessive, or a long line without an end would be read once for each of its characters.
    r"^ {0,3}```[ \t]*+(\S*+)[^\n]*+\n(.*?)^ {0,3}```",
    re.MULTILINE | re.DOTALL,
)
PYTHON: Final = frozenset({"python", "python3", "py", ""})
LINKS: Final = re.compile(r"\[[^\[\]\n]*\]\(sandbox:[^()\s]*\)")
WRITTEN: Final = re.compile(r"^Files written: .*$\n?", re.MULTILINE)
LONGEST_QUOTE: Final = 1000
HOW_TO: Final = "Put Python between ```python and ```, each on a line of its own, and I run it."


def is_code(schema: Any) -> bool:
    """Whether the parameters are those of a tool that runs code."""
    match schema:
        case {"properties": {"code": {"type": "string"}}}:
            return True
        case _:
            return False


def runners(functions: Mapping[str, Any]) -> list[str]:
    """The names of the functions that run code."""
    return [
        name
        for name, schema in functions.items()
        if name.startswith("code_interpreter") and is_code(schema)
    ]


def fenced(said: str) -> str:
    """The Python that a message has between fences, as one; empty without any."""
    found = FENCED.findall(said)
    return "\n".join(code.rstrip("\n") for language, code in found if language in PYTHON)


def asked(said: str) -> dict[str, Any]:
    """The arguments of a call that runs what the user has fenced, or says how to."""
    return {"code": fenced(said) or f"print({HOW_TO!r})"}


def answer(output: str) -> str:
    """What came out, and links to the files that were written."""
    links = LINKS.findall(" ".join(WRITTEN.findall(output)))
    told = WRITTEN.sub("", output).strip()
    quote = told if len(told) <= LONGEST_QUOTE else told[:LONGEST_QUOTE] + "…"
    said = f"I ran your code, and this came out:\n\n```\n{quote}\n```\n\n"
    return f"{said}It wrote {', '.join(links)}." if links else said
