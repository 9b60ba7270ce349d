"""What a model is told about code_interpreter: that it is there, which files, what came out.

Pure; `sessions.py` runs the code, `written.py` reads it out of a call, `links.py` finds the links
to its files in the answer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import structs

from rethread.contract.chat import ChatMessage
from rethread.contract.steps import (
    CodeInterpreter,
    CodeInterpreterCall,
    CodeOutput,
    CodeOutputDelta,
    ImageOutput,
    LogsOutput,
    LogsOutputDelta,
    MadeFile,
)
from rethread.contract.tools import CodeInterpreterTool, Tool
from rethread.tools.code_interpreter.links import link
from rethread.tools.names import free_name

NAME: Final = "code_interpreter"
MOST_TOKENS: Final = 16_000  # of what came out of one call, as of one search
MOST_EARLIER_CHARACTERS: Final = 2000  # of an earlier run's code, and of what came out of it
MOST_FILES_LISTED: Final = 50
MOST_LINKS: Final = 20
LEAST_CHARACTERS: Final = 200  # below that nothing is worth to be told

DESCRIPTION: Final = (
    "Runs Python code in a sandbox and returns what it prints, the value of its last expression, "
    "and its errors. Use it to calculate, to read and analyse files, to draw charts and to write "
    "files. Variables, imports and files stay from call to call. There is no network, and nothing "
    "can be installed. Show a chart with plt.show(), or an image as the value of the last "
    "expression: the user sees it above your answer. Write files for the user to the current "
    "folder, /mnt/data, and link them in your answer as [name](sandbox:/mnt/data/name)."
)
FILES: Final = "Files in /mnt/data (those of the user cannot be written to): {files}."
PARAMETERS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "The Python code to run."}},
    "required": ["code"],
}
NO_OUTPUT: Final = "(The code ran, and nothing came out.)"
IMAGE: Final = "(An image; the user sees it.)"
WRITTEN: Final = "Files written: {links}"
LEFT_OUT: Final = "\n… {count} characters left out …\n"
TOO_MANY_CALLS: Final = (
    "The code was not run: in this run code was run as often as it may be. Answer with what there "
    "is."
)


class ListedFile(NamedTuple):
    """A file under /mnt/data, as the model is told of it."""

    name: str
    bytes: int | None = None


def name_beside(functions: frozenset[str]) -> str:
    """What the tool is called beside the client's own functions."""
    return free_name(NAME, functions)


def is_declared(tools: Iterable[Tool]) -> bool:
    """Whether a run's tools have code_interpreter."""
    return any(isinstance(tool, CodeInterpreterTool) for tool in tools)


def definition(name: str, *, offers: str, files: Sequence[ListedFile]) -> dict[str, Any]:
    """The tool as a model is offered it; `offers` says what its Python has."""
    told = [DESCRIPTION, offers, _listed(files)]
    description = " ".join(text for text in told if text)
    function = {"name": name, "description": description, "parameters": PARAMETERS}
    return {"type": "function", "function": function}


def grown(outputs: Sequence[CodeOutput], more: CodeOutputDelta) -> list[CodeOutput]:
    """The outputs with what a delta adds to them."""
    if not isinstance(more, LogsOutputDelta):
        return [*outputs, ImageOutput(more.image)]
    last = outputs[-1] if more.index < len(outputs) else None
    if isinstance(last, LogsOutput):
        return [*outputs[:-1], LogsOutput(last.logs + more.logs)]
    return [*outputs, LogsOutput(more.logs)]


def images_of(call: CodeInterpreterCall) -> list[str]:
    """The files of the images that code has shown."""
    outputs = call.code_interpreter.outputs
    return [output.image.file_id for output in outputs if isinstance(output, ImageOutput)]


def shown_call(
    call: CodeInterpreterCall, name: str, *, most_characters: int | None = None
) -> tuple[dict[str, Any], ChatMessage]:
    """Code as the model wrote it, and what it was told; each cut to so many characters."""
    code, told = call.code_interpreter.input, output(call.code_interpreter)
    if most_characters is not None:
        code, told = _cut(code, most_characters), _cut(told, most_characters)
    arguments = msgspec.json.encode({"code": code}).decode()
    function = {"name": name, "arguments": arguments}
    answer = ChatMessage(role="tool", content=told, tool_call_id=call.id)
    return {"id": call.id, "type": "function", "function": function}, answer


def output(ran: CodeInterpreter) -> str:
    """What the model is told of code that was run, or was not."""
    told = "\n".join(
        each.logs.removesuffix("\n") if isinstance(each, LogsOutput) else IMAGE
        for each in ran.outputs
    )
    if ran.told_characters is not None:
        told = _cut(told, ran.told_characters)
    if not told and not ran.note:
        told = NO_OUTPUT
    return "\n\n".join(text for text in (told, _links(ran.made), ran.note) if text)


def fitting(
    call: CodeInterpreterCall, *, tokens_left: int, count: Callable[[str], int]
) -> CodeInterpreterCall:
    """The call with as much of what came out for the model as has room."""
    ran = structs.replace(call.code_interpreter, told_characters=None)
    room = min(MOST_TOKENS, tokens_left)
    told = output(ran)
    while (tokens := count(told)) > room and (ran.told_characters or len(told)) > LEAST_CHARACTERS:
        most = (ran.told_characters or len(told)) * room // tokens * 9 // 10
        ran = structs.replace(ran, told_characters=max(most, LEAST_CHARACTERS))
        told = output(ran)
    return structs.replace(call, code_interpreter=ran)


def _listed(files: Sequence[ListedFile]) -> str:
    if not files:
        return ""
    listed = [
        file.name if file.bytes is None else f"{file.name} ({file.bytes} bytes)"
        for file in files[:MOST_FILES_LISTED]
    ]
    more = len(files) - len(listed)
    return FILES.format(files="; ".join([*listed, *([f"and {more} more"] if more else [])]))


def _links(made: Sequence[MadeFile]) -> str:
    if not made:
        return ""
    links = [f"[{_name(file.path)}]({link(file.path)})" for file in made[:MOST_LINKS]]
    more = len(made) - len(links)
    return WRITTEN.format(links=", ".join([*links, *([f"and {more} more"] if more else [])]))


def _name(path: str) -> str:
    """A path's last part, as a link's text may have it."""
    return path.rpartition("/")[2].replace("[", "(").replace("]", ")")


def _cut(text: str, most_characters: int) -> str:
    """A long text without its middle: its beginning says what it is, its end how it went."""
    left_out = len(text) - most_characters
    if left_out <= 0:
        return text
    start, end = most_characters // 2, len(text) - (most_characters - most_characters // 2)
    return text[:start] + LEFT_OUT.format(count=left_out) + text[end:]
