"""What a model is told of code_interpreter, and how much of what came out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from rethread.contract.steps import (
    CodeInterpreter,
    CodeInterpreterCall,
    CodeOutput,
    ImageOutput,
    LogsOutput,
    MadeFile,
    OutputImage,
)
from rethread.tools.code_interpreter import tool
from rethread.tools.code_interpreter.tool import ListedFile

IMAGE = ImageOutput(OutputImage("file-i"))


def a_call(*outputs: CodeOutput, code: str = "x", **fields: Any) -> CodeInterpreterCall:
    ran = CodeInterpreter(input=code, outputs=list(outputs))
    return CodeInterpreterCall(id="call_1", code_interpreter=structs.replace(ran, **fields))


def told(*outputs: CodeOutput, **fields: Any) -> str:
    return tool.output(a_call(*outputs, **fields).code_interpreter)


def test_the_files_are_listed_as_far_as_there_is_room() -> None:
    files = [ListedFile("a b.csv", 12), ListedFile("c.csv")]
    offered = tool.definition("code_interpreter_2", offers="Python 3.99.", files=files)["function"]
    assert offered["name"] == "code_interpreter_2"
    assert offered["description"].endswith(
        "Python 3.99. Files in /mnt/data (those of the user cannot be written to): "
        "a b.csv (12 bytes); c.csv."
    )
    many = [ListedFile(f"{place}.csv", 1) for place in range(1000)]
    told = tool.definition("c", offers="", files=many)["function"]["description"]
    assert told.endswith("; 49.csv (1 bytes); and 950 more.")
    assert "Files in" not in str(tool.definition("c", offers="", files=[]))


@pytest.mark.parametrize(
    ("outputs", "fields", "seen"),
    [
        ([], {}, tool.NO_OUTPUT),
        ([LogsOutput("1\n")], {}, "1"),
        ([LogsOutput("1\n"), IMAGE, LogsOutput("2\n")], {}, f"1\n{tool.IMAGE}\n2"),
        ([], {"note": "Why."}, "Why."),
        (
            [LogsOutput("1")],
            {"made": [MadeFile("d/x [1].csv", "file-x")], "note": "Why."},
            "1\n\nFiles written: [x (1).csv](sandbox:/mnt/data/d/x%20%5B1%5D.csv)\n\nWhy.",
        ),
    ],
)
def test_what_came_out_is_told_in_words(
    outputs: list[CodeOutput], fields: dict[str, Any], seen: str
) -> None:
    assert told(*outputs, **fields) == seen


def test_a_call_is_shown_as_it_was_made_and_cut_where_it_is_old() -> None:
    call = a_call(LogsOutput("z" * 5000), code="y" * 5000)
    made, answer = tool.shown_call(call, "code_interpreter_2")
    assert (made["id"], made["function"]["name"]) == ("call_1", "code_interpreter_2")
    assert json.loads(made["function"]["arguments"]) == {"code": "y" * 5000}
    assert (answer.role, answer.tool_call_id, answer.content) == ("tool", "call_1", "z" * 5000)
    made, answer = tool.shown_call(call, "c", most_characters=100)
    left_out = "\n… 4900 characters left out …\n"
    assert answer.content == "z" * 50 + left_out + "z" * 50
    assert json.loads(made["function"]["arguments"]) == {"code": "y" * 50 + left_out + "y" * 50}


@given(
    lines=st.lists(st.text("abc \n🎉", max_size=300), max_size=30),
    room=st.integers(-5, 3000),
)
def test_as_much_is_told_as_has_room_from_both_ends(lines: list[str], room: int) -> None:
    logs = "begin " + "".join(lines) + " end"
    call = a_call(LogsOutput(logs))
    fitted = tool.fitting(call, tokens_left=room, count=len)
    told = tool.output(fitted.code_interpreter)
    assert fitted.code_interpreter.outputs == call.code_interpreter.outputs
    if len(logs) <= room:
        assert told == logs
    else:
        assert len(told) <= max(room, tool.LEAST_CHARACTERS + len(tool.LEFT_OUT) + 10)
        assert (told[:5], told[-4:]) == ("begin", " end")
