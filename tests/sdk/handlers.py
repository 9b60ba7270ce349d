"""Handlers of streams, sync and async, that note whatever the stock SDK tells them."""

from typing import Any

from openai import AssistantEventHandler, AsyncAssistantEventHandler


def text_callbacks(heard: "Heard") -> list[str]:
    """What is heard of a step that writes one text, in as many deltas as came."""
    deltas = ["text_delta", "message_delta"] * heard.callbacks.count("text_delta")
    return [
        *("run_step_created", "message_created", "text_created", *deltas),
        *("text_done", "message_done", "run_step_done"),
    ]


def call_callbacks(heard: "Heard") -> list[str]:
    """What is heard of a step that makes one call, up to where its output is wanted."""
    deltas = ["tool_call_delta", "run_step_delta"] * heard.callbacks.count("tool_call_delta")
    return ["run_step_created", "tool_call_created", "run_step_delta", *deltas, "tool_call_done"]


class Heard:
    """What a handler was told: every callback's name, and the snapshots of what was done."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.callbacks: list[str] = []
        self.written = ""
        self.done: dict[str, Any] = {}
        self.last_snapshots: dict[str, Any] = {}

    def note(self, callback: str, *told: Any) -> None:
        """A callback and what it was given: the thing done, or a delta and its snapshot."""
        self.callbacks.append(callback)
        if callback == "text_delta":
            self.written += told[0].value or ""
            assert told[1].value == self.written
        if callback.endswith("_delta"):
            self.last_snapshots[callback] = told[1].model_copy(deep=True)
        if callback.endswith("_done"):
            self.done[callback] = told[0]


class Handler(AssistantEventHandler):
    """Hears everything."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = Heard()

    def on_event(self, event: Any) -> None:
        self.heard.events.append(event.event)

    def on_end(self) -> None:
        self.heard.note("end")

    def on_run_step_created(self, run_step: Any) -> None:
        self.heard.note("run_step_created", run_step)

    def on_run_step_delta(self, delta: Any, snapshot: Any) -> None:
        self.heard.note("run_step_delta", delta, snapshot)

    def on_run_step_done(self, run_step: Any) -> None:
        self.heard.note("run_step_done", run_step)

    def on_tool_call_created(self, tool_call: Any) -> None:
        self.heard.note("tool_call_created", tool_call)

    def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.heard.note("tool_call_delta", delta, snapshot)

    def on_tool_call_done(self, tool_call: Any) -> None:
        self.heard.note("tool_call_done", tool_call)

    def on_message_created(self, message: Any) -> None:
        self.heard.note("message_created", message)

    def on_message_delta(self, delta: Any, snapshot: Any) -> None:
        self.heard.note("message_delta", delta, snapshot)

    def on_message_done(self, message: Any) -> None:
        self.heard.note("message_done", message)

    def on_text_created(self, text: Any) -> None:
        self.heard.note("text_created", text)

    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.heard.note("text_delta", delta, snapshot)

    def on_text_done(self, text: Any) -> None:
        self.heard.note("text_done", text)


class AsyncHandler(AsyncAssistantEventHandler):
    """The same, async."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = Heard()

    async def on_event(self, event: Any) -> None:
        self.heard.events.append(event.event)

    async def on_end(self) -> None:
        self.heard.note("end")

    async def on_run_step_created(self, run_step: Any) -> None:
        self.heard.note("run_step_created", run_step)

    async def on_run_step_delta(self, delta: Any, snapshot: Any) -> None:
        self.heard.note("run_step_delta", delta, snapshot)

    async def on_run_step_done(self, run_step: Any) -> None:
        self.heard.note("run_step_done", run_step)

    async def on_tool_call_created(self, tool_call: Any) -> None:
        self.heard.note("tool_call_created", tool_call)

    async def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.heard.note("tool_call_delta", delta, snapshot)

    async def on_tool_call_done(self, tool_call: Any) -> None:
        self.heard.note("tool_call_done", tool_call)

    async def on_message_created(self, message: Any) -> None:
        self.heard.note("message_created", message)

    async def on_message_delta(self, delta: Any, snapshot: Any) -> None:
        self.heard.note("message_delta", delta, snapshot)

    async def on_message_done(self, message: Any) -> None:
        self.heard.note("message_done", message)

    async def on_text_created(self, text: Any) -> None:
        self.heard.note("text_created", text)

    async def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.heard.note("text_delta", delta, snapshot)

    async def on_text_done(self, text: Any) -> None:
        self.heard.note("text_done", text)
