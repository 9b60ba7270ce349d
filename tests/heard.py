"""What a turn's events make of themselves in the stock SDK, and answers to make them of."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import msgspec
from openai import AssistantEventHandler, Stream
from openai._models import construct_type
from openai.types.beta import AssistantStreamEvent

from rethread.contract.chat import Chunk
from rethread.contract.events import Event
from rethread.contract.runs import Usage
from rethread.runs.turn import Turn
from tests.fakes.replies import Call, Reply
from tests.objects import NOW

USAGE: Final = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
PARIS: Final = Call("call_1", "weather", '{"city": "Paris"}')
ROME: Final = Call("call_2", "weather", '{"city": "Rome"}')


class Heard(AssistantEventHandler):
    """The stock handler, and what it called us with."""

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__()
        self.said = ""
        self.steps: list[Any] = []
        self.calls: list[Any] = []
        self._init(cast(Stream[AssistantStreamEvent], self._parsed(events)))
        self.until_done()

    @staticmethod
    def _parsed(events: Sequence[Event]) -> Iterator[Any]:
        for event in events:
            data = json.loads(msgspec.json.encode(event.payload))
            yield construct_type(
                type_=cast(Any, AssistantStreamEvent), value={"event": event.name, "data": data}
            )

    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        """Collect the text."""
        self.said += delta.value

    def on_run_step_delta(self, delta: Any, snapshot: Any) -> None:
        """Keep the last snapshot of each step that calls tools."""
        self.calls = snapshot.step_details.tool_calls

    def on_run_step_done(self, run_step: Any) -> None:
        """Keep the finished steps."""
        self.steps.append(run_step)


def chunks_of(reply: Reply) -> list[Chunk]:
    """The chunks of a fake server's answer."""
    lines = [step[len(b"data: ") :] for step in reply.steps if isinstance(step, bytes)]
    return [msgspec.json.decode(line, type=Chunk) for line in lines if line.strip() != b"[DONE]"]


def feed(turn: Turn, *answers: Reply) -> list[Event]:
    """The events of all their chunks."""
    chunks = [chunk for reply in answers for chunk in chunks_of(reply)]
    return [event for chunk in chunks for event in turn.feed(chunk, now=NOW)]


def names(events: Sequence[Event]) -> list[str]:
    """The events' names, without the part that all have."""
    return [event.name.removeprefix("thread.") for event in events]
