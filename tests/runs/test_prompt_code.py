"""What the model is shown of code: its own run's whole, and images of answers in words."""

from typing import Any

from rethread.contract.messages import ImageFileInput, ImageFilePart, TextPart, TextValue
from rethread.contract.steps import (
    CodeInterpreter,
    CodeInterpreterCall,
    LogsOutput,
    Step,
    ToolCallsDetails,
)
from rethread.contract.tools import (
    CodeInterpreterChoice,
    CodeInterpreterTool,
    FileSearchTool,
    FunctionDefinition,
    FunctionTool,
)
from rethread.runs import prompt
from rethread.runs.lifecycle import end_step, new_step
from rethread.runs.prompt import OwnTools
from rethread.runs.window import OWN_IMAGE, Window
from rethread.tools.code_interpreter import tool
from tests.objects import NOW, a_message, a_run

RUN = a_run(status="in_progress")


def ran(logs: str, run: Any = RUN) -> Step:
    code = CodeInterpreter(input="x", outputs=[LogsOutput(logs)])
    calls = ToolCallsDetails([CodeInterpreterCall(id="call_c", code_interpreter=code)])
    step = new_step(run, ToolCallsDetails(), now=NOW)
    return end_step(step, "completed", now=NOW, details=calls)


def filled(*newest_first: Any, budget: int = 10_000, name: str | None = tool.NAME) -> Window:
    window = Window(
        budget_tokens=budget,
        last_messages=None,
        count=lambda text: len(text.split()),
        fixed=(),
        run_id=RUN.id,
        code_name=name,
    )
    for item in newest_first:
        window.take(item)
    return window


def test_what_came_out_takes_its_share_of_the_window() -> None:
    question = a_message("thread_a", "one two three")
    assert len(filled(ran("word " * 50), question, budget=100).messages()) == 3
    assert filled(ran("word " * 50), question, budget=40).lacks_newest
    earlier = ran("word " * 50, a_run(status="in_progress"))
    assert len(filled(question, earlier, budget=100).messages()) == 3
    assert len(filled(question, earlier, budget=40).messages()) == 1
    said = a_message("thread_a", "What was said before.")
    shown = filled(question, earlier, said, budget=40).messages()
    assert [message.content for message in shown] == ["What was said before.", "one two three"]
    assert len(filled(question, earlier, name=None).messages()) == 1


def test_an_image_of_an_answer_is_words_to_the_model_and_a_users_is_an_image() -> None:
    parts: list[Any] = [
        ImageFilePart(ImageFileInput("file-i", "auto")),
        TextPart(TextValue("See.")),
    ]
    asked, answered = a_message("thread_a"), a_message("thread_a", role="assistant", run_id="run_1")
    asked.content[:] = answered.content[:] = parts
    told, shown = (message.content for message in filled(asked, answered).messages())
    assert told == f"{OWN_IMAGE}\nSee."
    assert isinstance(shown, list)
    assert [part["type"] for part in shown] == ["image_file", "text"]


def test_code_is_offered_under_a_name_that_no_function_has_and_can_be_forced() -> None:
    own = FunctionTool(function=FunctionDefinition(name="code_interpreter"))
    tools = [own, CodeInterpreterTool(), FileSearchTool()]
    run = a_run(tools=tools, tool_choice=CodeInterpreterChoice())
    offer = prompt.offer(run, most_code_calls=1)
    assert (offer.code, offer.search) == ("code_interpreter_2", "file_search")
    code = tool.definition(prompt.code_name(run), offers="", files=[])

    def asked(*, is_first_turn: bool) -> Any:
        return prompt.request(
            run,
            [],
            additional_instructions=None,
            is_first_turn=is_first_turn,
            completion_tokens_left=None,
            own=OwnTools(code=code),
        )

    named = {"type": "function", "function": {"name": "code_interpreter_2"}}
    assert asked(is_first_turn=True).tool_choice == named
    assert asked(is_first_turn=False).tool_choice is None
    names = [each["function"]["name"] for each in asked(is_first_turn=True).tools]
    assert names == ["code_interpreter", "code_interpreter_2", "file_search"]
    assert str(code["function"]) in prompt.fixed_texts(run, None, OwnTools(code=code))
