"""A run becomes the request that asks the model for its answer, with the tools it offers. Pure.

Which messages of the thread go with it is `window.py`'s to say.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from msgspec import UNSET, to_builtins

from rethread.contract.chat import ChatMessage, ChatRequest
from rethread.contract.runs import Run
from rethread.contract.steps import (
    CodeInterpreterCall,
    FileSearchCall,
    SearchRanking,
    Step,
    calls_of,
)
from rethread.contract.tools import (
    CodeInterpreterChoice,
    FileSearchChoice,
    FunctionChoice,
    FunctionTool,
)
from rethread.errors import ModelError
from rethread.runs.calls import Offer
from rethread.tools.code_interpreter import tool as code_interpreter
from rethread.tools.file_search import tool as file_search

# Answers of one run that may search; one that still does not answer is not offered it any more.
MOST_SEARCHING_ANSWERS: Final = 20


def instructions(run: Run, additional: str | None) -> str:
    """What the model is told first: the run's instructions, then the additional ones."""
    return "\n\n".join(text for text in (run.instructions, additional) if text)


class OwnTools(NamedTuple):
    """Which of our own tools the model is offered; code_interpreter as it is told of it."""

    may_search: bool = True
    code: dict[str, Any] | None = None


ALL_BUT_CODE: Final = OwnTools()


def fixed_texts(run: Run, additional: str | None, own: OwnTools = ALL_BUT_CODE) -> list[str]:
    """The texts of a prompt that are there whatever the thread holds, for counting."""
    tools = [str(tool["function"]) for tool in _chat_tools(run, own)]
    return [instructions(run, additional), *tools]


def request(
    run: Run,
    messages: Sequence[ChatMessage],
    *,
    additional_instructions: str | None,
    is_first_turn: bool,
    completion_tokens_left: int | None,
    own: OwnTools = ALL_BUT_CODE,
) -> ChatRequest:
    """The model call that answers the run.

    A forced tool choice holds for the run's first turn; kept up, it would never let the
    model use what the tool gave. Sampling parameters are the run's, as it shows them;
    `top_p` is left out at 1, because some servers refuse it next to a temperature.
    """
    told = instructions(run, additional_instructions)
    system = [ChatMessage(role="system", content=told)] if told else []
    tools = _chat_tools(run, own) or None
    return ChatRequest(
        model=run.model,
        messages=[*system, *messages],
        tools=tools,
        tool_choice=_tool_choice(run, is_first_turn) if tools else None,
        parallel_tool_calls=False if tools and not run.parallel_tool_calls else None,
        response_format=_response_format(run),
        temperature=run.temperature,
        top_p=None if run.top_p == 1 else run.top_p,
        reasoning_effort=run.reasoning_effort,
        max_completion_tokens=completion_tokens_left,
    )


def function_tools(run: Run) -> list[FunctionTool]:
    """The run's functions."""
    return [tool for tool in run.tools if isinstance(tool, FunctionTool)]


def search_name(run: Run) -> str:
    """What file_search is called in this run: the client's own functions keep their names."""
    return file_search.name_beside(_function_names(run))


def code_name(run: Run) -> str:
    """What code_interpreter is called in this run, likewise."""
    return code_interpreter.name_beside(_function_names(run))


def runs_code(run: Run) -> bool:
    """Whether the model may run code."""
    return run.tool_choice != "none" and code_interpreter.is_declared(run.tools)


def searches(run: Run) -> bool:
    """Whether the model may search files."""
    return run.tool_choice != "none" and file_search.declared(run.tools) is not None


def offer(run: Run, steps: Sequence[Step] = (), *, most_code_calls: int = 0) -> Offer:
    """What the model may call, after these steps of the run."""
    if run.tool_choice == "none":
        return Offer()
    offered = Offer(_function_names(run))
    calls = [call for step in steps for call in calls_of(step)]
    if code_interpreter.is_declared(run.tools):
        left = most_code_calls - sum(isinstance(call, CodeInterpreterCall) for call in calls)
        if left > 0:
            offered = offered._replace(code=code_name(run), code_calls_left=left)
    tool = file_search.declared(run.tools)
    searching = [any(isinstance(call, FileSearchCall) for call in calls_of(step)) for step in steps]
    if tool is None or sum(searching) >= MOST_SEARCHING_ANSWERS:
        return offered
    options = tool.file_search and tool.file_search.ranking_options
    ranking = SearchRanking()
    if options:
        ranking = SearchRanking(options.ranker or ranking.ranker, options.score_threshold)
    made = sum(isinstance(call, FileSearchCall) for call in calls)
    return offered._replace(search=search_name(run), ranking=ranking, searches_before=made)


def _function_names(run: Run) -> frozenset[str]:
    return frozenset(tool.function.name for tool in function_tools(run))


def too_long(run: Run, *, window_tokens: int) -> ModelError:
    """What to say where not even the newest message has room."""
    return ModelError(
        "The instructions, the tools and the thread's newest message have more tokens than "
        f"the context window of the model '{run.model}' is said to hold "
        f"({window_tokens}), less room for the answer.",
        code="invalid_prompt",
        reason="prompt too long",
    )


def check_supported(run: Run, *, code_refusal: str | None = None) -> None:
    """ModelError where the run would use what it does not offer, or what this server has not."""
    if run.tool_choice == "none":
        return
    if runs_code(run) and code_refusal is not None:
        raise ModelError(code_refusal, reason="code_interpreter")
    if isinstance(run.tool_choice, CodeInterpreterChoice) and not runs_code(run):
        raise ModelError(
            "The run's tool_choice is 'code_interpreter', and it does not offer that tool.",
            code="invalid_prompt",
            reason="tool not offered",
        )
    if isinstance(run.tool_choice, FileSearchChoice) and not searches(run):
        raise ModelError(
            "The run's tool_choice is 'file_search', and it does not offer that tool.",
            code="invalid_prompt",
            reason="tool not offered",
        )
    if run.tool_choice == "required" and not run.tools:
        raise ModelError(
            "The run's tool_choice is 'required', and it offers no tool.",
            code="invalid_prompt",
            reason="tool not offered",
        )
    if isinstance(run.tool_choice, FunctionChoice):
        name = run.tool_choice.function.name
        if name not in _function_names(run):
            raise ModelError(
                f"The run's tool_choice names the function '{name}', which it does not offer.",
                code="invalid_prompt",
                reason="tool not offered",
            )


def _chat_tools(run: Run, own: OwnTools) -> list[dict[str, Any]]:
    tools = [_chat_tool(tool) for tool in function_tools(run)]
    if own.code is not None:
        tools.append(own.code)
    if own.may_search and file_search.declared(run.tools):
        tools.append(file_search.definition(search_name(run)))
    return tools


def _chat_tool(tool: FunctionTool) -> dict[str, Any]:
    function = to_builtins(tool.function)
    if not function.get("strict"):
        function.pop("strict", None)
    if tool.function.parameters is UNSET:
        function["parameters"] = {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def _tool_choice(run: Run, is_first_turn: bool) -> str | dict[str, Any] | None:
    if run.tool_choice in (None, "auto") or (run.tool_choice != "none" and not is_first_turn):
        return None
    if isinstance(run.tool_choice, FileSearchChoice):
        return {"type": "function", "function": {"name": search_name(run)}}
    if isinstance(run.tool_choice, CodeInterpreterChoice):
        return {"type": "function", "function": {"name": code_name(run)}}
    choice: str | dict[str, Any] = to_builtins(run.tool_choice)
    return choice


def _response_format(run: Run) -> dict[str, Any] | None:
    if run.response_format in (None, "auto"):
        return None
    shape: dict[str, Any] = to_builtins(run.response_format)
    return shape
