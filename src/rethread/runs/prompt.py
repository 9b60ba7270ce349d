"""A thread becomes the model's messages, and a run the request that asks for its answer. Pure.

A `Window` is filled with the newest items of the thread first, until its budget is spent or
it has all that the run wants; so the cost is that of the window, not of the thread.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from msgspec import UNSET, structs, to_builtins

from rethread.contract.chat import ChatMessage, ChatRequest
from rethread.contract.messages import (
    FileCitationAnnotation,
    ImageFilePart,
    ImageUrlPart,
    Message,
    Part,
    TextPart,
)
from rethread.contract.runs import Run
from rethread.contract.steps import (
    FileSearchCall,
    FunctionCall,
    SearchRanking,
    Step,
    ToolCall,
    calls_of,
)
from rethread.contract.tools import (
    CodeInterpreterChoice,
    CodeInterpreterTool,
    FileSearchChoice,
    FunctionChoice,
    FunctionTool,
)
from rethread.errors import ModelError
from rethread.runs.calls import Offer
from rethread.tools.file_search import tool as file_search

MESSAGE_OVERHEAD_TOKENS: Final = 4  # what a chat template adds around a message, about
COUNTED_AT_ONCE: Final = 32 * 1024  # characters; everybody waits while they are counted
# OpenAI's own prices for an image of up to 1024 x 1024: low detail, and everything else.
LOW_DETAIL_IMAGE_TOKENS: Final = 85
IMAGE_TOKENS: Final = 765
ANSWER_SHARE: Final = 8  # one in so many of a window's tokens is left for the answer
MOST_ANSWER_TOKENS: Final = 4096  # where the run does not say how many
# The share of the window that the thread's first message may have: it often sets the task.
FIRST_MESSAGE_SHARE: Final = 0.25

# Answers of one run that may search; one that still does not answer is not offered it any more.
MOST_SEARCHING_ANSWERS: Final = 20

Count = Callable[[str], int]


class _Item(NamedTuple):
    """A piece of the prompt that is taken or left as a whole."""

    messages: list[ChatMessage]
    tokens: int


def beside_answer(window_tokens: int, *, answer_tokens: int | None) -> int:
    """The tokens of a context window that a prompt may have: the answer goes into it too."""
    answer = answer_tokens or min(window_tokens // ANSWER_SHARE, MOST_ANSWER_TOKENS)
    return window_tokens - min(answer, window_tokens // 2)


class Window:
    """The part of a thread that fits, filled from its newest end."""

    def __init__(
        self,
        *,
        budget_tokens: int,
        last_messages: int | None,
        count: Count,
        fixed: Sequence[str],
        run_id: str = "",
        search_name: str = file_search.NAME,
    ) -> None:
        self._left = budget_tokens - sum(count(text) for text in fixed)
        self._room = self._left
        self._messages_left = last_messages
        self._run_id = run_id
        self._search_name = search_name
        self._count = count
        self._items: list[_Item] = []
        self._has_others = False  # an item that is not the run's own
        self._first: _Item | None = None
        self._first_id: str | None = None
        self.is_full = False
        self.lacks_newest = False  # not even the newest item fits
        self.cited: dict[str, str] = {}  # the marks that the model is shown, and their files

    def keep_first(self, message: Message) -> None:
        """Reserve room for the thread's first message; what is dropped, is dropped behind it."""
        if self._messages_left is not None or not _is_shown(message):
            return
        item = self._message_item(message)
        if item.tokens <= self._left * FIRST_MESSAGE_SHARE:
            self._first = item
            self._first_id = message.id
            self._left -= item.tokens

    @property
    def room_for_passages(self) -> int:
        """The tokens that what a search finds may have: the older messages give way to it.

        What remains beside the run's own calls and what they answer, and the half of that: the
        model may search again.
        """
        return max(0, self._room // 2)

    def take(self, item: Message | Step) -> None:
        """Put the next older item in front, or close the window if it does not fit."""
        if self.is_full or item.id == self._first_id or not self._is_taken(item):
            return
        # What the run itself has said and called so far always goes with what it answers.
        if self._messages_left is not None and item.run_id != self._run_id:
            if self._messages_left == 0:
                self.is_full = True
                return
            self._messages_left -= int(isinstance(item, Message))
        taken = self._message_item(item) if isinstance(item, Message) else self._step_item(item)
        if taken.tokens > self._left and self._first and not self._items:
            # Before the newest is refused, the first gives its room back.
            self._left += self._first.tokens
            self._first = self._first_id = None
        if taken.tokens > self._left:
            self.is_full = True
            self.lacks_newest = not self._items
            return
        self._left -= taken.tokens
        if item.run_id == self._run_id or not self._has_others:
            self._room -= taken.tokens
        self._has_others = self._has_others or item.run_id != self._run_id
        self._items.append(taken)
        self._learn_marks(item)

    def messages(self) -> list[ChatMessage]:
        """The thread's part of the prompt, oldest first."""
        items = [*self._items, *([self._first] if self._first else [])]
        return _joined([message for item in reversed(items) for message in item.messages])

    def _message_item(self, message: Message) -> _Item:
        shown = ChatMessage(role=message.role, content=_content(message))
        tokens = sum(self._part_tokens(part) for part in message.content)
        return _Item([shown], tokens + MESSAGE_OVERHEAD_TOKENS)

    def _part_tokens(self, part: Part) -> int:
        match part:
            case TextPart(text=text):
                return self._tokens(text.value)
            case ImageUrlPart(image_url=image) | ImageFilePart(image_file=image):
                return LOW_DETAIL_IMAGE_TOKENS if image.detail == "low" else IMAGE_TOKENS
            case _:
                return self._tokens(part.refusal)

    def _tokens(self, text: str) -> int:
        """A text's tokens, or so many that it is known not to fit: the rest is not counted."""
        tokens = 0
        for start in range(0, len(text), COUNTED_AT_ONCE):
            tokens += self._count(text[start : start + COUNTED_AT_ONCE])
            if tokens > self._left:
                break
        return tokens

    def _is_taken(self, item: Message | Step) -> bool:
        return _is_shown(item) and (isinstance(item, Message) or bool(self._calls_of(item)))

    def _calls_of(self, step: Step) -> list[ToolCall]:
        """The calls that are shown: what earlier runs have found, their answers say."""
        calls = calls_of(step)
        if step.run_id == self._run_id:
            return calls
        return [call for call in calls if isinstance(call, FunctionCall)]

    def _learn_marks(self, item: Message | Step) -> None:
        """Newer ones come first, and so does what the run itself has found."""
        if isinstance(item, Step):
            for call in self._calls_of(item):
                if isinstance(call, FileSearchCall):
                    for mark, file_id in file_search.marks_of(call.file_search).items():
                        self.cited.setdefault(mark, file_id)
            return
        for part in item.content:
            for annotation in part.text.annotations if isinstance(part, TextPart) else []:
                if isinstance(annotation, FileCitationAnnotation):
                    self.cited.setdefault(annotation.text, annotation.file_citation.file_id)

    def _step_item(self, step: Step) -> _Item:
        asked: list[dict[str, Any]] = []
        given: list[ChatMessage] = []
        for call in self._calls_of(step):
            if isinstance(call, FileSearchCall):
                made, answer = file_search.shown_call(call, self._search_name)
            else:
                made, answer = _chat_call(call)
            asked.append(made)
            given.append(answer)
        tokens = sum(
            self._tokens(made["function"]["name"])
            + self._tokens(made["function"]["arguments"])
            + self._tokens(str(answer.content))
            + 2 * MESSAGE_OVERHEAD_TOKENS
            for made, answer in zip(asked, given, strict=True)
        )
        return _Item([ChatMessage(role="assistant", tool_calls=asked), *given], tokens)


def instructions(run: Run, additional: str | None) -> str:
    """What the model is told first: the run's instructions, then the additional ones."""
    return "\n\n".join(text for text in (run.instructions, additional) if text)


def fixed_texts(run: Run, additional: str | None) -> list[str]:
    """The texts of a prompt that are there whatever the thread holds, for counting."""
    tools = [str(tool["function"]) for tool in _chat_tools(run, may_search=True)]
    return [instructions(run, additional), *tools]


def request(
    run: Run,
    messages: Sequence[ChatMessage],
    *,
    additional_instructions: str | None,
    is_first_turn: bool,
    completion_tokens_left: int | None,
    may_search: bool = True,
) -> ChatRequest:
    """The model call that answers the run.

    A forced tool choice holds for the run's first turn; kept up, it would never let the
    model use what the tool gave. Sampling parameters are the run's, as it shows them;
    `top_p` is left out at 1, because some servers refuse it next to a temperature.
    """
    told = instructions(run, additional_instructions)
    system = [ChatMessage(role="system", content=told)] if told else []
    tools = _chat_tools(run, may_search=may_search) or None
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


def searches(run: Run) -> bool:
    """Whether the model may search files."""
    return run.tool_choice != "none" and file_search.declared(run.tools) is not None


def offer(run: Run, steps: Sequence[Step] = ()) -> Offer:
    """What the model may call, after these steps of the run."""
    if run.tool_choice == "none":
        return Offer()
    functions = _function_names(run)
    tool = file_search.declared(run.tools)
    made = [[call for call in calls_of(step) if isinstance(call, FileSearchCall)] for step in steps]
    if tool is None or sum(map(bool, made)) >= MOST_SEARCHING_ANSWERS:
        return Offer(functions)
    options = tool.file_search and tool.file_search.ranking_options
    ranking = SearchRanking()
    if options:
        ranking = SearchRanking(options.ranker or ranking.ranker, options.score_threshold)
    return Offer(functions, search_name(run), ranking, sum(map(len, made)))


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


def check_supported(run: Run) -> None:
    """ModelError where the run would use what this version does not have."""
    if run.tool_choice == "none":
        return
    needs_code = any(isinstance(tool, CodeInterpreterTool) for tool in run.tools)
    if needs_code or isinstance(run.tool_choice, CodeInterpreterChoice):
        raise ModelError(
            "This version of rethread cannot run the tool 'code_interpreter' yet. "
            "Take it off the assistant, or create the run with tool_choice 'none'.",
            reason="tool not supported",
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


def _is_shown(item: Message | Step) -> bool:
    """Whether the model should see it: what was said, and calls whose outputs are known."""
    if isinstance(item, Step):
        return item.status == "completed"
    details = item.incomplete_details
    broken_off = details is not None and details.reason == "run_failed"
    return item.status != "in_progress" and not broken_off and not _is_empty(item)


def _is_empty(message: Message) -> bool:
    return all(isinstance(part, TextPart) and not part.text.value for part in message.content)


def _content(message: Message) -> str | list[dict[str, Any]]:
    """A message's content: plain text where it can be, as every server takes that."""
    texts = [
        part.text.value if isinstance(part, TextPart) else getattr(part, "refusal", None)
        for part in message.content
    ]
    if None not in texts:
        return "\n".join(text for text in texts if text)
    return [_chat_part(part) for part in message.content]


def _chat_part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text.value}
        case ImageUrlPart(image_url=image):
            return {"type": "image_url", "image_url": {"url": image.url, "detail": image.detail}}
        case ImageFilePart(image_file=image):
            # `images.py` puts the file in its place.
            shown = {"file_id": image.file_id, "detail": image.detail}
            return {"type": "image_file", "image_file": shown}
        case _:
            return {"type": "text", "text": part.refusal}


def _chat_call(call: FunctionCall) -> tuple[dict[str, Any], ChatMessage]:
    """A call as the model made it, and what it gave."""
    function = {"name": call.function.name, "arguments": call.function.arguments}
    given = ChatMessage(role="tool", content=call.function.output or "", tool_call_id=call.id)
    return {"id": call.id, "type": "function", "function": function}, given


def _chat_tools(run: Run, *, may_search: bool) -> list[dict[str, Any]]:
    tools = [_chat_tool(tool) for tool in function_tools(run)]
    if may_search and file_search.declared(run.tools):
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
    choice: str | dict[str, Any] = to_builtins(run.tool_choice)
    return choice


def _response_format(run: Run) -> dict[str, Any] | None:
    if run.response_format in (None, "auto"):
        return None
    shape: dict[str, Any] = to_builtins(run.response_format)
    return shape


def _joined(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Text and the calls that came with it were one answer of the model; they are so again."""
    joined: list[ChatMessage] = []
    for message in messages:
        earlier = joined[-1] if joined else None
        if earlier and message.tool_calls and _is_plain_answer(earlier):
            joined[-1] = structs.replace(message, content=earlier.content)
        else:
            joined.append(message)
    return joined


def _is_plain_answer(message: ChatMessage) -> bool:
    return message.role == "assistant" and not message.tool_calls
