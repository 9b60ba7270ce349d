"""A kernel is asked and answers; what else comes over its sockets does no harm."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from rethread.tools.code_interpreter import zmtp
from rethread.tools.code_interpreter.kernel import Closed, Event, Kernel, Printed
from rethread.tools.code_interpreter.zmtp import Channel
from tests.tools.code_interpreter.conftest import Bench

pytestmark = pytest.mark.asyncio(loop_scope="module")

READY = b"\x04\x06\x05READY"


async def test_what_code_puts_out_comes_in_its_order(bench: Bench) -> None:
    await bench.run(
        "import sys, subprocess\n"
        "print('out')\n"
        "sys.stdout.flush(); print('err', file=sys.stderr); sys.stderr.flush()\n"
        "display(1); x = 6\n"
        "subprocess.run(['echo', 'below'])\n"
        "x * 7"
    )
    assert bench.texts[:3] == ["out\n", "err\n", "1"]
    assert bench.texts[-1] == "42"
    assert "below\n" in bench.texts


async def test_what_forked_processes_print_is_heard(bench: Bench) -> None:
    is_heard = asyncio.Event()
    running = asyncio.create_task(
        bench.run(
            "import multiprocessing, time\n"
            "child = multiprocessing.get_context('fork').Process(target=print, args=('child',))\n"
            "child.start()\n"
            "while True: time.sleep(0.01)",
            on_text=lambda _: is_heard.set(),
        )
    )
    await is_heard.wait()
    running.cancel()
    await asyncio.wait({running})
    assert bench.text.startswith("child")


async def test_an_error_is_a_traceback_without_colours(bench: Bench) -> None:
    await bench.run("1 / 0")
    assert "ZeroDivisionError: division by zero" in bench.text
    assert "\x1b" not in bench.text


async def test_text_that_is_no_utf8_is_shown_all_the_same(bench: Bench) -> None:
    await bench.run("print('a\\ud800b')\nprint('c\\udcff')")
    assert bench.text == "a?b\nc?\n"
    await bench.run("raise ValueError('\\ud800')")
    assert bench.text.endswith("ValueError: ?")


async def test_a_figure_is_shown_at_the_end_of_the_code_that_drew_it(bench: Bench) -> None:
    await bench.run("import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert [image[:8] for image in bench.images] == ["iVBORw0K"]


async def test_an_output_too_long_is_passed_over_and_the_next_one_comes(bench: Bench) -> None:
    await bench.run("display('z' * 13_000_000)\nprint('next')")
    assert bench.texts == ["Skipped()", "next\n"]


async def test_a_long_text_that_was_printed_at_once_comes_in_pieces(bench: Bench) -> None:
    await bench.run("print('x' * 20_000_000)")
    assert len(bench.text) == 20_000_001


class FakeSocket:
    """A socket of a kernel that was taken over: it sends what the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *parts: bytes) -> None:
        for index, part in enumerate(parts):
            more = index < len(parts) - 1
            self.writer.write(bytes((2 | more,)) + len(part).to_bytes(8) + part)


@asynccontextmanager
async def fake_sockets(folder: Path, *names: str) -> AsyncIterator[Callable[[str], FakeSocket]]:
    """Sockets at `folder`; each takes one connection, and has shaken hands then."""
    taken: dict[str, FakeSocket] = {}
    servers = []
    for name in names:

        async def take(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str = name
        ) -> None:
            writer.write(zmtp.GREETING + READY)
            await reader.readexactly(len(zmtp.GREETING))
            taken[name] = FakeSocket(reader, writer)

        servers.append(await asyncio.start_unix_server(take, folder / name))
    yield taken.__getitem__
    for each in taken.values():
        each.writer.close()
    for server in servers:
        server.close()


def message(kind: str, parent: str, content: object) -> list[bytes]:
    """The parts of a message of Jupyter's."""
    parts: list[object] = [{"msg_type": kind}, {"msg_id": parent}, {}, content]
    return [b"topic", b"<IDS|MSG>", b"", *(msgspec.json.encode(each) for each in parts)]


HOSTILE: dict[str, list[bytes]] = {
    "nothing": [b""],
    "no JSON": [b"<IDS|MSG>", b"", b"{", b"{", b"{", b"{"],
    "another kind": [b"<IDS|MSG>", b"", b"[]", b"7", b"null", b'"x"'],
    "too few parts": [b"<IDS|MSG>", b""],
    "too many parts": [b"<IDS|MSG>"] * 5000,
    "no text": message("stream", "ID", {"text": 7}),
    "half a character": [*message("stream", "ID", {})[:-1], b'{"text": "\xff"}'],
    "deep": [*message("stream", "ID", {})[:-1], b"[" * 100_000],
    "a pickle": [b"<IDS|MSG>", b"", b"cos\nsystem\n(S'true'\ntR."],
    "of another call": message("stream", "another", {"text": "theirs"}),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
async def test_what_is_no_output_of_the_call_is_passed_over(
    hostile: list[bytes], tmp_path: Path
) -> None:
    texts: list[str] = []

    async def take(event: Event | None, _: int) -> None:
        if isinstance(event, Printed):
            texts.append(event.text)

    async with fake_sockets(tmp_path, "shell", "iopub") as taken:
        ends = (
            await Channel.opened(tmp_path / "shell", "DEALER"),
            await Channel.opened(tmp_path / "iopub", "SUB"),
        )
        kernel = Kernel(*ends, b"key")
        running = asyncio.create_task(kernel.execute("", take))
        shell, iopub = taken("shell"), taken("iopub")
        sent = await shell.reader.readuntil(b'"msg_id":"')
        asked_id = (await shell.reader.readexactly(32)).decode()
        assert b"<IDS|MSG>" in sent
        for socket in (iopub, shell):
            socket.send(*(part.replace(b"ID", asked_id.encode()) for part in hostile))
        iopub.send(*message("stream", asked_id, {"text": "ours"}))
        iopub.send(*message("status", asked_id, {"execution_state": "idle"}))
        await running
        kernel.close()
    assert texts == ["ours"]


async def test_reading_that_was_cancelled_goes_on_where_it_was(tmp_path: Path) -> None:
    async with fake_sockets(tmp_path, "iopub") as taken:
        channel = await Channel.opened(tmp_path / "iopub", "SUB")
        socket = taken("iopub")
        whole = b"\x03" + (5).to_bytes(8) + b"first" + b"\x00\x06second"
        for byte in whole:
            reading = asyncio.create_task(channel.receive())
            await asyncio.sleep(0)
            socket.writer.write(bytes((byte,)))
            await asyncio.sleep(0.001)
            reading.cancel()
            done, _ = await asyncio.wait({reading})
        message = done.pop().result()
        channel.close()
    assert message.parts == [b"first", b"second"]


async def test_a_kernel_that_goes_is_noticed(tmp_path: Path) -> None:
    async with fake_sockets(tmp_path, "shell", "iopub") as taken:
        shell = await Channel.opened(tmp_path / "shell", "DEALER")
        iopub = await Channel.opened(tmp_path / "iopub", "SUB")
        for name in ("shell", "iopub"):
            taken(name).writer.close()
        with pytest.raises(Closed):
            await Kernel(shell, iopub, b"key").execute("", _take_nothing)


async def test_what_speaks_no_zmtp_is_no_kernel(tmp_path: Path) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + bytes(100))
        writer.close()

    async with await asyncio.start_unix_server(greet, tmp_path / "iopub"):
        with pytest.raises(Closed):
            await Channel.opened(tmp_path / "iopub", "SUB")


async def _take_nothing(event: Event | None, size: int) -> None:
    """Nothing."""
