"""An application on the stock SDK, that notes what was acknowledged to it.

It does what a careful one does: what the SDK has given up it looks up, or asks for anew under
another name, so that nothing of its own making stands twice.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI

from tests.crash.balancer import Balancer
from tests.crash.heard import Heard
from tests.crash.model import FUNCTION, question
from tests.fakes.replies import MODEL

TIMEOUT_SECONDS: Final = 30.0
PAUSE_SECONDS: Final = 0.25
WRITE_EVERY_SECONDS: Final = 0.03

Given = TypeVar("Given")


class Application:
    """The client that all conversations share; `given_up` counts what the SDK has raised."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.http = httpx2.AsyncClient(
            transport=Balancer(ports),
            base_url=f"http://127.0.0.1:{ports[0]}/v1",
            timeout=TIMEOUT_SECONDS,
        )
        # As everybody has it: two retries.
        self.openai = AsyncOpenAI(
            base_url=f"http://127.0.0.1:{ports[0]}/v1",
            api_key="any",
            http_client=self.http,
            timeout=TIMEOUT_SECONDS,
        )
        self.threads = self.openai.beta.threads
        self.given_up: Counter[str] = Counter()
        self.refusals: list[str] = []
        self.assistants: dict[bool, str] = {}

    async def prepare(self) -> None:
        """Make the two assistants, one of them with a function."""
        for has_function in (False, True):
            tools = [FUNCTION] if has_function else []
            made = await self.openai.beta.assistants.create(model=MODEL, tools=tools)
            self.assistants[has_function] = made.id

    async def ask(self, call: Callable[[], Awaitable[Given]]) -> Given | None:
        """The answer, or None if the SDK has given up; a refusal is raised."""
        try:
            return await call()
        except APIConnectionError as problem:
            self.given_up[type(problem).__name__] += 1
        except APIStatusError as problem:
            self.given_up[str(problem.status_code)] += 1
            if problem.status_code < 500:
                self.refusals.append(problem.message)
                raise
        await asyncio.sleep(PAUSE_SECONDS)
        return None

    async def insist(self, call: Callable[[], Awaitable[Given]]) -> Given:
        """The answer, however often it has to be asked for; only where that does no harm."""
        while True:
            answer = await self.ask(call)
            if answer is not None:
                return answer

    async def close(self) -> None:
        """Close its connections."""
        await self.openai.close()


@dataclass
class Notes:
    """What was acknowledged of one thread."""

    thread_id: str = ""
    messages: dict[str, str] = field(default_factory=dict)  # id → text
    deleted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)  # asked to be deleted, without an answer
    metadata: int = 0
    outputs: dict[str, str] = field(default_factory=dict)  # call → output
    count: int = 0


class Thread:
    """One thread and what a client does with it."""

    def __init__(self, application: Application, name: str) -> None:
        self.name = name
        self.notes = Notes()
        self._application = application
        self._threads = application.threads
        self._asked = 0

    async def open(self) -> None:
        """Make the thread, with one message in it."""
        text = self._new_text()
        made = await self._application.insist(
            lambda: self._threads.create(
                messages=[{"role": "user", "content": text}], metadata={"number": "0"}
            )
        )
        self.notes.thread_id = made.id
        self.notes.count += 1

    async def add_message(self) -> str:
        """Add a message; its id. One that the SDK gave up may stand there, once."""
        while True:
            text = self._new_text()
            made = await self._application.ask(
                partial(
                    self._threads.messages.create, self.notes.thread_id, role="user", content=text
                )
            )
            if made is not None:
                self.notes.messages[made.id] = text
                self.notes.count += 1
                return made.id

    @property
    def newest_name(self) -> str:
        """What the newest message asks about."""
        return f"{self.name}-{self._asked}"

    def _new_text(self) -> str:
        self._asked += 1
        return question(self.newest_name)


class Writer(Thread):
    """Writes as quickly as it is answered: messages, and now and then a change or a deletion."""

    async def write_until(self, is_over: asyncio.Event) -> None:
        """Open the thread and write until then."""
        await self.open()
        while not is_over.is_set():
            message_id = await self.add_message()
            match len(self.notes.messages) % 8:
                case 3:
                    await self._modify()
                case 7:
                    await self._delete(message_id)
            with suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), WRITE_EVERY_SECONDS)

    async def _modify(self) -> None:
        number = len(self.notes.messages)
        await self._application.insist(
            lambda: self._threads.update(self.notes.thread_id, metadata={"number": str(number)})
        )
        self.notes.metadata = number
        self.notes.count += 1

    async def _delete(self, message_id: str) -> None:
        notes = self.notes
        notes.unsure.add(message_id)
        # A deletion that is sent again after a lost answer finds nothing: a 404.
        with suppress(APIStatusError):
            if await self._application.ask(
                lambda: self._threads.messages.delete(message_id, thread_id=notes.thread_id)
            ):
                notes.deleted.add(message_id)
                notes.count += 1


class Conversation(Thread):
    """Two messages and a streamed run, heard to its end whatever breaks on the way."""

    def __init__(self, application: Application, name: str, *, has_function: bool) -> None:
        super().__init__(application, name)
        self.has_function = has_function
        self.heard = Heard()
        self.breaks = 0
        self._runs = application.threads.runs

    @property
    def is_under_way(self) -> bool:
        """Whether the run has begun and not ended."""
        return bool(self.heard.run_id) and not self.heard.is_terminal

    async def hold(self) -> None:
        """From the thread's creation to the run's end."""
        await self.open()
        await self.add_message()
        while not self.heard.run_id:
            await self._start()
        self.notes.count += 1
        while not self.heard.is_terminal:
            if self.heard.waits_for_outputs:
                await self._submit()
            else:
                await self._resume()

    async def _start(self) -> None:
        """Start the run and listen; one whose answer was lost is looked for."""
        await self._listen(
            lambda: self._runs.with_streaming_response.create(
                self.notes.thread_id,
                assistant_id=self._application.assistants[self.has_function],
                stream=True,
            )
        )
        if not self.heard.run_id:
            found = await self._application.insist(lambda: self._runs.list(self.notes.thread_id))
            if found.data:
                self.heard.found(found.data[0].id)

    async def _submit(self) -> None:
        """Give the output and listen; if it is not clear what came of it, the log tells."""
        before = self.heard.last
        outputs = {call_id: f"Output of {call_id}." for call_id in self.heard.calls}
        await self._listen(
            lambda: self._runs.with_streaming_response.submit_tool_outputs(
                self.heard.run_id,
                thread_id=self.notes.thread_id,
                tool_outputs=[
                    {"tool_call_id": call_id, "output": output}
                    for call_id, output in outputs.items()
                ],
                stream=True,
            )
        )
        if self.heard.last > before:
            self.notes.outputs |= outputs
            self.notes.count += 1
        else:
            await self._resume()

    async def _listen(self, opens: Callable[[], Any]) -> None:
        with suppress(APIStatusError):  # counted
            await self._application.ask(lambda: self._read(opens()))

    async def _read(self, opening: Any) -> bool:
        async with opening as response:
            await self._hear(response.iter_bytes())
        return True

    async def _resume(self) -> None:
        """Go on behind the last event that was heard, on whichever server's turn it is."""
        path = f"/threads/{self.notes.thread_id}/runs/{self.heard.run_id}/events"
        parameters = {"starting_after": self.heard.last}
        try:
            async with self._application.http.stream("GET", path, params=parameters) as response:
                if response.status_code == 200:
                    await self._hear(response.aiter_bytes())
                    return
        except httpx2.TransportError:
            pass
        await asyncio.sleep(PAUSE_SECONDS)

    async def _hear(self, pieces: Any) -> None:
        try:
            await self.heard.read(pieces)
        except httpx2.TransportError:
            self.breaks += 1
