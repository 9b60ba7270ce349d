"""What a client has heard of one run, over all the connections that it took."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from rethread.contract.events import KEEP_ALIVE, RESTING

TERMINAL: Final = RESTING - {"thread.run.requires_action"}


class Heard:
    """The events' bytes, without `done`; `faults` says what a client should not have met.

    A record that a break has cut off counts as not heard.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self.begun = asyncio.Event()
        self.raw = bytearray()
        self.last = 0
        self.last_name = ""
        self.is_done = False  # by the newest stream
        self.calls: list[str] = []  # that wait for their outputs
        self.ended_at: float | None = None
        self.faults: list[str] = []

    @property
    def is_terminal(self) -> bool:
        """Whether the run's end was heard."""
        return self.last_name in TERMINAL

    @property
    def waits_for_outputs(self) -> bool:
        """Whether it is the client's turn."""
        return self.is_done and self.last_name == "thread.run.requires_action"

    def found(self, run_id: str) -> None:
        """The run is known."""
        self.run_id = run_id
        self.begun.set()

    async def read(self, pieces: AsyncIterator[bytes]) -> None:
        """Read a stream to its end; whatever breaks it is raised."""
        self.is_done = False
        waiting = b""
        async for piece in pieces:
            *records, waiting = (waiting + piece).split(b"\n\n")
            for record in records:
                self._take(record + b"\n\n")
        if not self.is_done:
            self.faults.append(f"a stream ended as if whole after event {self.last}")

    def _take(self, record: bytes) -> None:
        while record.startswith(KEEP_ALIVE):
            record = record[len(KEEP_ALIVE) :]
        identity, event, payload = record.decode().split("\n", 2)
        number, name = int(identity.removeprefix("id: ")), event.removeprefix("event: ")
        if name == "done":
            self.is_done = True
            if number != self.last or self.last_name not in RESTING:
                self.faults.append(f"done {number} came after {self.last_name} {self.last}")
            return
        if number != self.last + 1:
            self.faults.append(f"event {number} came after event {self.last}")
        self.raw += record
        self.last, self.last_name = number, name
        if not self.run_id or name == "thread.run.requires_action":
            self._look_at(json.loads(payload.removeprefix("data: ")))
        if self.is_terminal:
            self.ended_at = asyncio.get_running_loop().time()

    def _look_at(self, run: Any) -> None:
        self.found(run["id"])
        if action := run["required_action"]:
            self.calls = [call["id"] for call in action["submit_tool_outputs"]["tool_calls"]]
