"""Boxes for sessions: without a sandbox, as what they hold is another suite's (`tests/escape`)."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from rethread.tools.code_interpreter.kernel import Event, Failed, Printed, Shown
from rethread.tools.code_interpreter.sandbox import Limits, Sandbox
from rethread.tools.code_interpreter.sandbox.bare import Bare
from rethread.tools.code_interpreter.sandbox.runtime import Runtime, find_runtime
from rethread.tools.code_interpreter.session import Ended, Session


class Bench:
    """A session, made anew when it is over, and what its code puts out."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._session: Session | None = None
        self.texts: list[str] = []
        self.images: list[str] = []

    async def session(self) -> Session:
        """One whose kernel runs."""
        if self._session is None or self._session.is_over:
            await self.end()
            self._session = await Session.started(self.sandbox, Limits())
        return self._session

    async def run(
        self, code: str, *, seconds: float = 60, on_text: Callable[[str], object] = len
    ) -> Ended:
        """What became of the code; its outputs are in `texts` and `images`."""
        self.texts, self.images = [], []

        async def take(event: Event) -> None:
            match event:
                case Printed(text) | Failed(text):
                    self.texts.append(text)
                    on_text(text)
                case Shown(text, images):
                    self.texts.append(text)
                    self.images += images
                case _:
                    self.texts.append(repr(event))

        return await (await self.session()).run(code, take, seconds=seconds)

    @property
    def text(self) -> str:
        """All that was put out."""
        return "".join(self.texts)

    async def end(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.aclose()


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    """The Python of these tests, with what it has."""
    return asyncio.run(find_runtime(None))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(runtime: Runtime) -> AsyncIterator[Bench]:
    """Shared by a module's tests: a kernel takes its time to start."""
    sandbox = Bare(runtime)
    bench = Bench(sandbox)
    yield bench
    await bench.end()
    await sandbox.aclose()
