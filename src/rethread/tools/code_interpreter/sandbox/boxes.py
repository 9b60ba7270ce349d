"""The server's side of the warden: what a box is to those who use it. No limit is watched here."""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from rethread.tools.code_interpreter.sandbox import Limit, Limits, NoSandbox, Place, StartFailed
from rethread.tools.code_interpreter.sandbox.bubblewrap import CommandLine

logger = logging.getLogger("rethread")

MODULE: Final = "rethread.tools.code_interpreter.sandbox.warden"
LONGEST_LINE: Final = 1024 * 1024
LETTING_GO_SECONDS: Final = 30.0  # of a box that comes up, on a machine that is very busy
PASSED_ON: Final = ("LANG", "LD_LIBRARY_PATH", "PYTHONHOME")


class News(msgspec.Struct, rename={"word": "is"}):
    """What the warden says of a box; 0 is itself."""

    id: int
    word: str
    over: Limit | None = None
    why: str | None = None
    output: str = ""


_news: Final = msgspec.json.Decoder(News)


class Watched:
    """A `Box` that the warden has started."""

    def __init__(self, warden: "Warden", number: int, place: Place) -> None:
        self.place = place
        self._warden, self._number = warden, number
        self._is_watched = 0
        self._ended: asyncio.Future[News] = asyncio.get_running_loop().create_future()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def over(self) -> Limit | None:
        """The limit that has ended it."""
        return self._ended.result().over if self._ended.done() else None

    @property
    def stderr(self) -> str:
        """The end of what it wrote, once it has ended."""
        return self._ended.result().output if self._ended.done() else ""

    @property
    def why(self) -> str | None:
        """What the warden found wrong with it."""
        return self._ended.result().why if self._ended.done() else None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Have its limits looked at more often."""
        self._is_watched += 1
        self._say("watch")
        try:
            yield
        finally:
            self._is_watched -= 1
            if not self._is_watched:
                self._say("rest")

    def interrupt(self) -> None:
        """SIGINT for its Python."""
        self._say("interrupt")

    def kill(self) -> None:
        """End all of it."""
        self._say("kill")

    async def closed(self) -> None:
        """Wait until nothing of it runs."""
        await asyncio.shield(self._ended)

    async def is_started(self) -> bool:
        """Whether it has come up; otherwise it has ended."""
        await asyncio.shield(self._started)
        return not self._ended.done()

    def hear(self, news: News) -> None:
        """Take note of what the warden says."""
        if news.word == "ended" and not self._ended.done():
            self._ended.set_result(news)
        if not self._started.done():
            self._started.set_result(None)

    def _say(self, word: str) -> None:
        if not self._ended.done():
            self._warden.say({"do": word, "id": self._number})


class Warden:
    """The process that has the boxes of this server; when it dies, so do they."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._questions, self._answers = process.stdin, process.stdout
        self._numbers = itertools.count(1)
        self._boxes: dict[int, Watched] = {}
        self._itself: asyncio.Future[News] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def started(cls, root: Path) -> Self:
        """A warden for the places below a folder; NoSandbox if it can't be had."""
        path = os.pathsep.join(map(os.path.abspath, sys.path))
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", MODULE, str(root)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**passed_on, "PYTHONPATH": path, "PYTHONUTF8": "1"},
                limit=LONGEST_LINE,
                start_new_session=True,  # a Ctrl-C is the server's to answer
            )
        except OSError as error:
            raise NoSandbox(f"No process for code sessions can be started: {error}") from error
        return cls(process)

    @property
    def is_alive(self) -> bool:
        """Whether it can start boxes."""
        return not self._listening.done()

    async def show(self, folders: list[Path]) -> str | None:
        """Have folders appear below `root`/shown, by their number; what went wrong, if it did."""
        self.say({"do": "show", "folders": [str(each) for each in folders]})
        return (await self._itself).why

    async def start(
        self,
        place: Place,
        line: CommandLine,
        limits: Limits,
        *,
        filter: Path,
        cores: list[int],
    ) -> Watched:
        """A box that was looked at and runs; StartFailed with what it wrote if it can't be."""
        number = next(self._numbers)
        box = Watched(self, number, place)
        self._boxes[number] = box
        self.say(
            {
                "do": "start",
                "id": number,
                **line._asdict(),
                "folder": str(place.root),
                "filter": str(filter),
                "owner": place.owner,
                "cores": cores,
                "limits": limits._asdict(),
            }
        )
        is_started = False
        try:
            async with asyncio.timeout(LETTING_GO_SECONDS):
                is_started = await box.is_started()
        except TimeoutError:
            raise StartFailed("the sandbox does not come up") from None
        finally:
            if not is_started:
                box.kill()
        if not is_started:
            raise StartFailed(box.why or box.stderr.strip() or "the sandbox ended at once")
        return box

    def say(self, asked: Mapping[str, Any]) -> None:
        """Ask it for something; where it is dead, its boxes know it."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._questions.write(json.dumps(asked).encode() + b"\n")

    async def aclose(self) -> None:
        """End all boxes, and the process."""
        self._questions.close()
        await self._listening

    async def _listen(self) -> None:
        try:
            async for line in self._answers:
                self._hear(_news.decode(line))
        finally:
            self._questions.close()
            await self._process.wait()
            for number in list(self._boxes):
                self._hear(News(number, "ended", why="the warden has ended"))
            if not self._itself.done():
                self._itself.set_result(News(0, "shown", why="the warden has ended"))

    def _hear(self, news: News) -> None:
        if news.id == 0:
            self._itself.set_result(news)
        elif box := self._boxes.get(news.id):
            box.hear(news)
            if news.word == "ended":
                del self._boxes[news.id]
