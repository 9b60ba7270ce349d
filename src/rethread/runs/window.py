"""The part of a thread that a prompt has room for, as the model's messages. Pure.

A `Window` is filled with the newest items of the thread first, until its budget is spent or
it has all that the run wants; so the cost is that of the window, not of the thread.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from msgspec import structs

from rethread.contract.chat import ChatMessage
from rethread.contract.messages import (
    FileCitationAnnotation,
    ImageFilePart,
    ImageUrlPart,
    Message,
    Part,
    TextPart,
    TextValue,
)
from rethread.contract.steps import (
    CodeInterpreterCall,
    FileSearchCall,
    FunctionCall,
    Step,
    ToolCall,
    calls_of,
)
from rethread.tools.code_interpreter import tool as code_interpreter
from rethread.tools.file_search import tool as file_search

MESSAGE_OVERHEAD_TOKENS: Final = 4  # what a chat template adds around a message, about
COUNTED_AT_ONCE: Final = 32 * 1024  # characters; everybody waits while they are counted
# OpenAI's own prices for an image of up to 1024 x 1024: low detail, and everything else.
LOW_DETAIL_IMAGE_TOKENS: Final = 85
IMAGE_TOKENS: Final = 765
ANSWER_SHARE: Final = 8  # one in so many of a window's tokens is left for the answer
MOST_ANSWER_TOKENS: Final = 4096  # where the run does not say how many
OWN_IMAGE: Final = "(An image that your code has made.)"  # no server takes one from an assistant
# The share of the window that the thread's first message may have: it often sets the task.
FIRST_MESSAGE_SHARE: Final = 0.25

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
        code_name: str | None = None,
    ) -> None:
        self._left = budget_tokens - sum(count(text) for text in fixed)
        self._room = self._left
        self._messages_left = last_messages
        self._run_id = run_id
        self._search_name = search_name
        self._code_name = code_name  # None: it is not offered, and what it has done not shown
        self._count = count
        self._items: list[_Item] = []
        self._has_others = False  # an item that is not the run's own
        self._first: _Item | None = None
        self._first_id: str | None = None
        self.is_full = False
        self.lacks_newest = False  # not even the newest item fits
        self.lacks_question = False  # or not the newest message, beside what the run has called
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
        if taken.tokens > self._left and self._is_earlier_code(item):
            return  # what was said before it is worth more
        if taken.tokens > self._left and self._first and not self._items:
            # Before the newest is refused, the first gives its room back.
            self._left += self._first.tokens
            self._first = self._first_id = None
        if taken.tokens > self._left:
            self.is_full = True
            self.lacks_newest = not self._items
            self.lacks_question = not self._has_others
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
        tokens = sum(self._part_tokens(part) for part in _shown_parts(message))
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

    def _is_earlier_code(self, item: Message | Step) -> bool:
        """Whether it is nothing but code of an earlier run."""
        if isinstance(item, Message) or item.run_id == self._run_id:
            return False
        return all(isinstance(call, CodeInterpreterCall) for call in self._calls_of(item))

    def _calls_of(self, step: Step) -> list[ToolCall]:
        """The calls that are shown: what earlier runs have found, their answers say.

        Their code is shown, as its variables are there still.
        """
        calls = calls_of(step)
        if step.run_id == self._run_id:
            return calls
        runs_code = self._code_name is not None
        return [
            call
            for call in calls
            if isinstance(call, FunctionCall)
            or (runs_code and isinstance(call, CodeInterpreterCall))
        ]

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
        shown = [
            self._shown_call(call, is_own=step.run_id == self._run_id)
            for call in self._calls_of(step)
        ]
        asked, given = [made for made, _ in shown], [answer for _, answer in shown]
        tokens = sum(
            self._tokens(made["function"]["name"])
            + self._tokens(made["function"]["arguments"])
            + self._tokens(str(answer.content))
            + 2 * MESSAGE_OVERHEAD_TOKENS
            for made, answer in zip(asked, given, strict=True)
        )
        return _Item([ChatMessage(role="assistant", tool_calls=asked), *given], tokens)

    def _shown_call(self, call: ToolCall, *, is_own: bool) -> tuple[dict[str, Any], ChatMessage]:
        """A call as the model made it, and what it gave."""
        match call:
            case FileSearchCall():
                return file_search.shown_call(call, self._search_name)
            case CodeInterpreterCall():
                name = self._code_name or code_interpreter.NAME
                most = None if is_own else code_interpreter.MOST_EARLIER_CHARACTERS
                return code_interpreter.shown_call(call, name, most_characters=most)
            case FunctionCall():
                return _chat_call(call)


def _is_shown(item: Message | Step) -> bool:
    """Whether the model should see it: what was said, and calls whose outputs are known."""
    if isinstance(item, Step):
        return item.status == "completed"
    details = item.incomplete_details
    broken_off = details is not None and details.reason == "run_failed"
    return item.status != "in_progress" and not broken_off and not _is_empty(item)


def _is_empty(message: Message) -> bool:
    return all(isinstance(part, TextPart) and not part.text.value for part in message.content)


def _shown_parts(message: Message) -> list[Part]:
    """A message's parts as the model sees them: an answer's images are words to it."""
    if message.run_id is None:
        return message.content
    return [
        TextPart(TextValue(OWN_IMAGE)) if isinstance(part, ImageFilePart) else part
        for part in message.content
    ]


def _content(message: Message) -> str | list[dict[str, Any]]:
    """A message's content: plain text where it can be, as every server takes that."""
    parts = _shown_parts(message)
    texts = [
        part.text.value if isinstance(part, TextPart) else getattr(part, "refusal", None)
        for part in parts
    ]
    if None not in texts:
        return "\n".join(text for text in texts if text)
    return [_chat_part(part) for part in parts]


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
