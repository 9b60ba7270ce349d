"""Code is stopped at its limits, and its session goes on, or is said to be over."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from rethread.tools.code_interpreter import session
from rethread.tools.code_interpreter.sandbox import Command, Limits, Place, StartFailed
from rethread.tools.code_interpreter.sandbox.bare import Bare
from rethread.tools.code_interpreter.sandbox.runtime import Runtime
from rethread.tools.code_interpreter.session import Ended, Session
from tests.tools.code_interpreter.conftest import Bench

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"


async def test_code_past_its_time_is_interrupted_and_its_variables_stay(bench: Bench) -> None:
    assert await bench.run("x = 5\nwhile True: pass", seconds=0.3) == Ended("time", is_over=False)
    assert await bench.run("x") == Ended(None, is_over=False)
    assert bench.text == "5"


async def test_code_finds_its_folder_by_its_name_without_a_sandbox_too(bench: Bench) -> None:
    await bench.run(
        "open('/mnt/data/a.txt', 'w').write('/mnt/database'); print(open('a.txt').read())"
    )
    assert bench.text == "/mnt/database\n"


async def test_a_kernel_that_neither_comes_up_nor_goes_is_given_up(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Bare):
        async def start(self, place: Place, command: Command, limits: Limits) -> Any:
            async def closed() -> None:
                await asyncio.get_running_loop().create_future()

            return SimpleNamespace(closed=closed, kill=lambda: None, stderr="Why not.")

    monkeypatch.setattr(session, "START_SECONDS", 0)
    monkeypatch.setattr(session, "GONE_SECONDS", 0)
    async with asyncio.timeout(20):
        with pytest.raises(StartFailed, match="Why not"):
            await Session.started(Stuck(runtime), Limits())


async def test_code_that_ignores_interrupts_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "HEED_SECONDS", 0.2)
    ended = await bench.run(f"{DEAF}while True: pass", seconds=0.3)
    assert ended == Ended("time", is_over=True)
    assert (await bench.session()).is_over is False


@pytest.mark.parametrize("code", ["import os; os._exit(3)", "import os; os.kill(0, 9)"])
async def test_code_that_ends_its_kernel_ends_its_session(bench: Bench, code: str) -> None:
    assert await bench.run(code) == Ended("exit", is_over=True)


async def test_code_that_says_exit_ends_and_its_session_goes_on(bench: Bench) -> None:
    assert await bench.run("x = 5; exit(); x = 6") == Ended(None, is_over=False)
    await bench.run("x")
    assert bench.text == "5"


async def test_code_that_never_stops_printing_is_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MOST_BYTES", 1_000_000)
    ended = await bench.run("while True: print('x' * 1000)")
    assert ended == Ended("output", is_over=False)
    assert len(bench.text) <= 1_000_000
    assert (await bench.run("print('on')")).stop is None
    assert bench.text == "on\n"


@pytest.mark.parametrize("deaf", [False, True])
async def test_code_whose_run_is_cancelled_has_ended_within_a_second(
    bench: Bench, deaf: bool
) -> None:
    session = await bench.session()
    has_begun = asyncio.Event()
    running = asyncio.create_task(
        bench.run(
            f"{DEAF if deaf else ''}print('going', flush=True)\nwhile True: pass",
            on_text=lambda _: has_begun.set(),
        )
    )
    await has_begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(1.5):
            await running
    assert session.is_over == deaf
