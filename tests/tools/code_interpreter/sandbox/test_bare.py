"""Code without a sandbox: what little is promised holds."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest_asyncio

from rethread.tools.code_interpreter.sandbox import DATA, Command, Limits, Sandbox
from rethread.tools.code_interpreter.sandbox.choosing import find_sandbox
from rethread.tools.code_interpreter.session import ENVIRONMENT

SERVE = """
import asyncio, time
from rethread.tools.code_interpreter.sandbox import Command, Limits
from rethread.tools.code_interpreter.sandbox.choosing import find_sandbox

async def main():
    sandbox = await find_sandbox("none")
    source = "import os, time; print(os.getpid()); open('ready', 'w').close(); time.sleep(60)"
    place = sandbox.new_place()
    await sandbox.start(place, Command(("-c", source), {}), Limits())
    while not (place.data / "ready").exists():
        await asyncio.sleep(0.02)
    print("ready", flush=True)
    time.sleep(60)

asyncio.run(main())
"""


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = await find_sandbox("none")
    yield sandbox
    await sandbox.aclose()


async def test_paths_are_those_of_this_machine_and_an_interrupt_arrives(sandbox: Sandbox) -> None:
    code = (
        "import os, signal, sys\n"
        f"assert os.path.realpath('{DATA}') == os.getcwd()\n"
        "try: print('here', flush=True); os.kill(os.getppid(), signal.SIGINT); signal.pause()\n"
        "except KeyboardInterrupt: print('interrupted', os.environ.get('OPENAI_API_KEY'))\n"
    )
    place = sandbox.new_place()
    box = await sandbox.start(place, Command(("-c", code), {}), Limits())
    await box.closed()
    assert box.stderr == "here\ninterrupted None\n"


async def test_a_kernel_runs_no_settings_that_another_user_may_have_written(
    sandbox: Sandbox,
) -> None:
    code = "from IPython.paths import get_ipython_dir; print(get_ipython_dir())"
    place = sandbox.new_place()
    box = await sandbox.start(place, Command(("-c", code), ENVIRONMENT), Limits())
    await box.closed()
    assert Path(box.stderr.strip()).is_relative_to(place.root)


def test_when_the_server_is_killed_its_code_ends() -> None:
    line = [sys.executable, "-c", SERVE]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        its_own = psutil.Process(server.pid).children(recursive=True)
        server.kill()
    assert len(its_own) == 2
    assert not psutil.wait_procs(its_own, timeout=60)[1]
