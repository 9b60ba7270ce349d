"""What the demo model does with files: it searches with the user's words, and quotes what it found.

It knows the tool by its parameters and a passage by its mark, as any model would: nothing else
is agreed between it and the tool. Pure.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

PASSAGE: Final = re.compile(r"^(【\d+:\d+†[^】\n]*】)[^\n]*\n", re.MULTILINE)
# What divides sentences, not what they are: a long line without an end is then passed once.
SENTENCES_END: Final = re.compile(r"(?<=[.!?])\s+|\n+")
WORD: Final = re.compile(r"\w{4,}")  # shorter ones say little
LONGEST_QUERY: Final = 1000
LONGEST_QUOTE: Final = 500


def is_search(schema: Any) -> bool:
    """Whether the parameters are those of a search in files."""
    match schema:
        case {"properties": {"queries": {"type": "array", "items": {"type": "string"}}}}:
            return True
        case _:
            return False


def searches(functions: Mapping[str, Any]) -> list[str]:
    """The names of the functions that search in files."""
    return [
        name
        for name, schema in functions.items()
        if name.startswith("file_search") and is_search(schema)
    ]


def asked(said: str) -> dict[str, Any]:
    """The arguments of a search for what the user said."""
    return {"queries": [said[:LONGEST_QUERY]] if said.strip() else []}


def answer(output: str, said: str) -> str | None:
    """The sentence that has most of the user's words, the best passage's first, and its mark.

    None where the output shows no passages.
    """
    found = list(PASSAGE.finditer(output))
    if not found:
        return None
    ends = [*(each.start() for each in found[1:]), len(output)]
    wanted = _words(said)
    sentences = [
        (len(wanted & _words(sentence)), sentence.strip(), mark[1])
        for mark, end in zip(found, ends, strict=True)
        for sentence in SENTENCES_END.split(output[mark.end() : end])
        if sentence.strip()
    ]
    _, best, mark = max(sentences, key=lambda each: each[0], default=(0, "", found[0][1]))
    return f"{best[:LONGEST_QUOTE]} {mark}".strip()


def _words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)}
