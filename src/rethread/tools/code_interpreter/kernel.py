"""A Jupyter kernel, as its client sees it: code goes in, outputs come out, one call at a time.

Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html. The kernel may be hostile:
it runs what a model wrote. What arrives is decoded into the few types below, or passed over. The
sockets are connected to once, before any code has run, so they are the kernel's own; its answers
are not checked for their signature, as the code could make that too.
"""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec

from rethread.tools.code_interpreter.zmtp import Channel, Closed, Message, SocketType

__all__ = ["Closed", "Event", "Failed", "Kernel", "Printed", "Shown", "Skipped"]

SHELL: Final = "k-1"  # as boot.py numbers them
IOPUB: Final = "k-4"
DELIMITER: Final = b"<IDS|MSG>"
VERSION: Final = "5.3"
NOTHING: Final = (None,) * 5
WARM_UP: Final = "get_ipython().display_formatter.format(1)"
EXECUTE: Final = {
    "code": "",
    "silent": False,
    "store_history": True,
    "user_expressions": {},
    "allow_stdin": False,
    "stop_on_error": True,
}
LOOK_AGAIN_SECONDS: Final = 0.02  # while the kernel starts
ASK_AGAIN_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 5.0  # of silence behind the reply: then the session is given up


class Printed(NamedTuple):
    """Text on stdout or stderr."""

    text: str


class Shown(NamedTuple):
    """A value that was displayed: as text, and as images in base64, the best one first."""

    text: str
    images: list[str]


class Failed(NamedTuple):
    """The traceback of an error."""

    text: str


class Skipped(NamedTuple):
    """An output that was too long to be taken in."""


Event = Printed | Shown | Failed | Skipped
Take = Callable[[Event | None, int], Awaitable[None]]
"""What is done with each output; the number is the bytes that it came in. None is for others'."""


class _Header(msgspec.Struct):
    msg_type: str


class _Parent(msgspec.Struct):
    msg_id: str = ""


class _Stream(msgspec.Struct):
    text: str


class _Bundle(msgspec.Struct):
    text: str = msgspec.field(default="", name="text/plain")
    png: str = msgspec.field(default="", name="image/png")
    jpeg: str = msgspec.field(default="", name="image/jpeg")
    gif: str = msgspec.field(default="", name="image/gif")
    webp: str = msgspec.field(default="", name="image/webp")


class _Display(msgspec.Struct):
    data: _Bundle


class _Error(msgspec.Struct):
    ename: str = ""
    evalue: str = ""
    traceback: list[str] = []


class _Status(msgspec.Struct):
    execution_state: str


_header: Final = msgspec.json.Decoder(_Header).decode
_parent: Final = msgspec.json.Decoder(_Parent).decode
_stream: Final = msgspec.json.Decoder(_Stream).decode
_display: Final = msgspec.json.Decoder(_Display).decode
_error: Final = msgspec.json.Decoder(_Error).decode
_status: Final = msgspec.json.Decoder(_Status).decode
_encode: Final = msgspec.json.encode

# What a decoder raises at what is not as it should be.
MALFORMED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Heard(NamedTuple):
    """A message of the kernel; without its content where that was too long."""

    kind: str
    parent: str
    content: bytes | None


class Kernel:
    """A kernel that answers."""

    def __init__(self, shell: Channel, iopub: Channel, key: bytes) -> None:
        self._shell, self._iopub, self._key = shell, iopub, key
        self._session = secrets.token_hex(8)
        self._heard = 0  # messages on iopub
        self._is_listening = False  # not so while one is being worked on

    @classmethod
    async def ready(cls, sockets: Path, key: str) -> Self:
        """The kernel that comes up with its sockets there, when it has answered.

        It may never do: whoever calls knows whether its process has gone, and when to give up.
        """
        iopub = await _connected(sockets / IOPUB, "SUB")
        try:
            shell = await _connected(sockets / SHELL, "DEALER")
        except BaseException:
            iopub.close()
            raise
        kernel = cls(shell, iopub, key.encode("ascii"))
        try:
            while not await kernel._is_heard():
                pass
            await kernel._warm_up()
        except BaseException:
            kernel.close()
            raise
        return kernel

    @property
    def is_closed(self) -> bool:
        """Whether it is known to be gone."""
        return self._shell.is_closed

    async def execute(self, code: str, take: Take) -> None:
        """Run the code, to its end or its error; Closed if the kernel goes meanwhile."""
        self._shell.begin()
        self._iopub.begin()
        asked_id = await self._ask("execute_request", {**EXECUTE, "code": code})
        hearing = asyncio.ensure_future(self._hear_out(asked_id, take))
        replying = asyncio.ensure_future(self._reply(asked_id))
        try:
            await asyncio.wait({hearing, replying}, return_when=asyncio.FIRST_COMPLETED)
            while not hearing.done():
                heard = self._heard
                await asyncio.wait({hearing}, timeout=IDLE_SECONDS)
                if heard == self._heard and self._is_listening and not hearing.done():
                    raise Closed("The kernel has replied, and does not say that it is idle.")
            hearing.result()
        finally:
            await _ended(hearing, replying)

    def close(self) -> None:
        """Let go of the sockets."""
        self._shell.close()
        self._iopub.close()

    async def _is_heard(self) -> bool:
        """Whether the kernel answers, and what it says to all arrives here."""
        asked_id = await self._ask("kernel_info_request", {})
        both = [
            asyncio.ensure_future(each)
            for each in (self._reply(asked_id), self._hear_out(asked_id, _pass_over))
        ]
        try:
            await asyncio.wait(both, timeout=ASK_AGAIN_SECONDS)
            return all(each.done() and each.result() is None for each in both)
        finally:
            await _ended(*both)

    async def _warm_up(self) -> None:
        """Have it load what it needs for its first answer."""
        asked = {**EXECUTE, "code": WARM_UP, "silent": True, "store_history": False}
        await self._reply(await self._ask("execute_request", asked))

    async def _ask(self, kind: str, content: Mapping[str, Any]) -> str:
        asked_id = secrets.token_hex(16)
        header = {
            "msg_id": asked_id,
            "msg_type": kind,
            "session": self._session,
            "username": "",
            "date": datetime.now(UTC),
            "version": VERSION,
        }
        parts = [_encode(header), b"{}", b"{}", _encode(content)]
        signature = hmac.new(self._key, b"".join(parts), "sha256").hexdigest().encode()
        await self._shell.send([DELIMITER, signature, *parts])
        return asked_id

    async def _reply(self, asked_id: str) -> None:
        """Return when the kernel has replied to that."""
        while True:
            heard = _understood(await self._shell.receive())
            if heard is not None and heard.parent == asked_id:
                return

    async def _hear_out(self, asked_id: str, take: Take) -> None:
        """Give away what comes of a request, until the kernel is idle again."""
        while True:
            self._is_listening = True
            message = await self._iopub.receive()
            self._is_listening = False
            self._heard += 1
            heard = _understood(message)
            if heard is None or heard.parent != asked_id:
                await take(None, message.size)
                continue
            if _is_idle(heard):
                return
            await take(_event(heard), message.size)


async def _connected(path: Path, kind: SocketType) -> Channel:
    while True:
        try:
            return await Channel.opened(path, kind)
        except (FileNotFoundError, ConnectionRefusedError):  # not there yet, or not heard yet
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def _ended(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_over(event: Event | None, size: int) -> None:
    """Take nothing."""


def _understood(message: Message) -> _Heard | None:
    """What a message is, or None: `[topics] <IDS|MSG> signature header parent metadata content`."""
    parts = message.parts
    if DELIMITER not in parts:
        return None
    _, header, parent, _, content = (*parts[parts.index(DELIMITER) + 1 :], *NOTHING)[:5]
    if header is None or parent is None:
        return None
    try:
        return _Heard(_header(header).msg_type, _parent(parent).msg_id, content)
    except MALFORMED:
        return None


def _is_idle(heard: _Heard) -> bool:
    if heard.kind != "status" or heard.content is None:
        return False
    try:
        return _status(heard.content).execution_state == "idle"
    except MALFORMED:
        return False


def _event(heard: _Heard) -> Event | None:
    """An output that anybody wants to see; None for all else."""
    if heard.kind not in OUTPUTS:
        return None
    if heard.content is None:
        return Skipped()
    try:
        return OUTPUTS[heard.kind](heard.content)
    except MALFORMED:
        return None


def _printed(content: bytes) -> Event:
    return Printed(_stream(content).text)


def _shown(content: bytes) -> Event:
    seen = _display(content).data
    images = [seen.png, seen.jpeg, seen.gif, seen.webp]
    return Shown(seen.text, [each for each in images if each])


def _failed(content: bytes) -> Event:
    error = _error(content)
    return Failed("\n".join(error.traceback) or f"{error.ename}: {error.evalue}")


OUTPUTS: Final[Mapping[str, Callable[[bytes], Event]]] = {
    "stream": _printed,
    "execute_result": _shown,
    "display_data": _shown,
    "error": _failed,
}
