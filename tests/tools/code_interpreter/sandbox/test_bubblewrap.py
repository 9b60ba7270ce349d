"""Boxes by bubblewrap, real ones. What tries to get out of them is in `tests/escape`."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from rethread.tools.code_interpreter.sandbox import (
    DATA,
    SOCKETS,
    Box,
    Command,
    Limits,
    NoSandbox,
    Sandbox,
    StartFailed,
    hand_in,
)
from rethread.tools.code_interpreter.sandbox.choosing import find_sandbox
from rethread.tools.code_interpreter.sandbox.confining import NotConfined, check_confined
from tests.sandboxes import need_sandbox

in_module = pytest.mark.asyncio(loop_scope="module")

SMALL = Limits(memory_bytes=200 * 2**20, processes=40, disk_bytes=8 * 2**20)
READY = f"open('{SOCKETS}/ready', 'w').close()\n"
WAIT = f"import time\n{READY}time.sleep(60)\n"
SECONDS = 60

SERVE = """
import asyncio, sys, time
from rethread.tools.code_interpreter.sandbox import Command, Limits
from rethread.tools.code_interpreter.sandbox.choosing import find_sandbox

async def main():
    sandbox = await find_sandbox("bubblewrap")
    place = sandbox.new_place()
    await sandbox.start(place, Command(("-c", sys.argv[1]), {}), Limits())
    print(place.root.parent, flush=True)
    time.sleep(60)

asyncio.run(main())
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    need_sandbox()
    sandbox = await find_sandbox("bubblewrap")
    yield sandbox
    await sandbox.aclose()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def started(sandbox: Sandbox, source: str, limits: Limits = SMALL) -> Box:
    return await sandbox.start(sandbox.new_place(), Command(("-c", source), {}), limits)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110 - processes outside of this one's control
            await asyncio.sleep(0.02)


def running(mark: str) -> list[psutil.Process]:
    """The processes of this machine that have this among their arguments."""
    return [
        each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or [])
    ]


async def ready(box: Box) -> None:
    """Wait until its code says so."""
    await until((box.place.sockets / "ready").exists)


async def said(sandbox: Sandbox, source: str, limits: Limits = SMALL) -> str:
    """What a piece of code prints."""
    box = await started(sandbox, source, limits)
    async with asyncio.timeout(SECONDS):
        await box.closed()
    sandbox.remove_place(box.place)
    return box.stderr.strip()


@in_module
async def test_code_has_its_folder_the_runtime_and_what_was_handed_in(sandbox: Sandbox) -> None:
    place = sandbox.new_place()
    hand_in(place, "key", b"the key")
    code = (
        "import os, sys, numpy\n"
        f"open('here', 'w').write(open('{SOCKETS}/key').read())\n"
        "print(os.getcwd(), sys.prefix, os.environ['ONE'], len(os.sched_getaffinity(0)))"
    )
    box = await sandbox.start(place, Command(("-c", code), {"ONE": "1"}), Limits())
    await box.closed()
    assert (box.stderr, box.over) == (f"{DATA} /opt/venv 1 1\n", None)
    assert (place.data / "here").read_text() == "the key"
    sandbox.remove_place(place)
    assert not place.root.exists()


@in_module
async def test_a_socket_in_its_folder_is_answered_from_inside(sandbox: Sandbox) -> None:
    code = (
        "import socket\n"
        f"server = socket.socket(socket.AF_UNIX); server.bind('{SOCKETS}/s'); server.listen()\n"
        f"{READY}"
        "server.accept()[0].send(b'from inside')\n"
    )
    box = await started(sandbox, code)
    await ready(box)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(box.place.sockets / "s"))
        assert await asyncio.to_thread(client.recv, 100) == b"from inside"
    await box.closed()


@in_module
async def test_an_interrupt_is_one_for_the_python_alone(sandbox: Sandbox) -> None:
    code = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"try:\n    open('{SOCKETS}/ready', 'w').close(); time.sleep(60)\n"
        "except KeyboardInterrupt: print('interrupted', child.poll())\n"
    )
    box = await started(sandbox, code)
    await ready(box)
    box.interrupt()
    await box.closed()
    assert box.stderr == "interrupted None\n"


@in_module
async def test_when_a_box_is_closed_nothing_of_it_runs(sandbox: Sandbox) -> None:
    mark = "3141592"
    code = (
        "import subprocess\n"
        f"subprocess.Popen(['sleep', '{mark}'], start_new_session=True)\n"
        f"subprocess.Popen(['sh', '-c', 'trap \"\" TERM HUP INT; sleep {mark}; sleep {mark}'])\n"
    )
    box = await started(sandbox, code + WAIT)
    await ready(box)
    await until(lambda: len(running(mark)) == 2)
    box.kill()
    box.kill()
    await box.closed()
    assert box.over is None
    assert not running(mark)


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        (
            "memory",  # of many, none of which takes too much
            "import os, time\nfor _ in range(3): os.fork()\nx = b'x' * (50 << 20)\ntime.sleep(60)",
        ),
        ("processes", "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"),
        ("disk", "for n in range(60): open(f'{n}', 'wb').write(bytes(1 << 20))\n" + WAIT),
    ],
)
@in_module
async def test_a_limit_ends_a_box_also_while_nobody_watches(
    sandbox: Sandbox, limit: str, code: str
) -> None:
    box = await started(sandbox, code)
    async with asyncio.timeout(SECONDS):
        await box.closed()
    assert box.over == limit
    sandbox.remove_place(box.place)


@in_module
async def test_a_single_allocation_that_is_too_large_is_an_error_in_the_code(
    sandbox: Sandbox,
) -> None:
    code = "try: bytearray(1 << 30)\nexcept MemoryError: print('too large')"
    assert await said(sandbox, code) == "too large"


@in_module
async def test_a_box_that_can_t_start_says_why(sandbox: Sandbox) -> None:
    place = sandbox.new_place()
    place.data.rmdir()
    with pytest.raises(StartFailed, match=r"Can't find source path .*/data"):
        await sandbox.start(place, Command(("-c", ""), {}), Limits())


@in_module
async def test_a_process_of_this_machine_is_found_not_to_be_confined() -> None:
    with pytest.raises(NotConfined, match="user namespace"):
        check_confined(Path("/proc/self"))


def test_when_the_server_is_killed_its_boxes_and_their_folders_go(open_folder: Path) -> None:
    need_sandbox()
    line = [sys.executable, "-c", SERVE, "import time; time.sleep(60)"]
    apart = {**os.environ, "TMPDIR": str(open_folder)}  # else another server cleans up, too
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=apart) as server:
        assert server.stdout is not None
        root = Path(server.stdout.readline().strip())
        its_own = psutil.Process(server.pid).children(recursive=True)
        server.kill()
    assert len(its_own) > 2
    assert not psutil.wait_procs(its_own, timeout=SECONDS)[1]
    assert not [each for each in root.iterdir() if each.name.isdigit()]


@in_module
async def test_when_the_warden_dies_so_do_the_boxes_and_the_next_one_has_a_new_warden(
    sandbox: Sandbox,
) -> None:
    box = await started(sandbox, WAIT)
    await ready(box)
    wardens = [
        each
        for each in psutil.Process().children()
        if str(box.place.root.parent) in " ".join(each.cmdline())
    ]
    assert len(wardens) == 1
    os.kill(wardens[0].pid, signal.SIGKILL)
    async with asyncio.timeout(SECONDS):
        await box.closed()
    assert await said(sandbox, "print('again')") == "again"


async def test_where_bubblewrap_can_t_make_a_box_that_is_said(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = open_folder / "bwrap"
    program.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --help ] && echo "--size --args" && exit\n'
        "echo 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{open_folder}:{os.environ['PATH']}")
    with pytest.raises(NoSandbox, match=r"No permissions to create.*rethread doctor"):
        await find_sandbox("auto")
