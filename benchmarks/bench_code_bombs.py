"""How long others wait for the server while code tries to hurt it.

A client lists assistants all the time; meanwhile a session does its worst, within the limits that
sessions have by default, time excepted. The ceiling is the same client's p99 just before.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Final

from benchmarks.measure import Connection, get, percentile, report, run
from tests.escape.scene import Scene, Terms, running_scene
from tests.escape.texts import within

SECONDS: Final = 6.0
PAUSE_SECONDS: Final = 0.002  # between two requests of the client: it is no load itself
TERMS: Final = Terms(call_seconds=SECONDS, memory_mb=1024, disk_mb=1024, processes=64)
BOMBS: Final = (
    "fork_bomb",
    "time_without_end",
    "time_in_the_background",
    "memory_of_one_process",
    "memory_of_many_processes",
    "memory_behind_a_crowd",
    "memory_in_folders",
    "disk_by_one_file",
    "disk_by_some_files",
    "disk_by_empty_files",
    "output_without_end",
)


async def benchmark() -> None:
    """One bomb after the other, each in a session of its own."""
    with running_scene("bubblewrap", terms=TERMS) as scene:
        scene.server.log.clear()
        for bomb in BOMBS:
            normal = await _waits(scene.server.port, asyncio.sleep(SECONDS))
            under = await _waits(scene.server.port, asyncio.to_thread(_explode, scene, bomb))
            ceiling, value = (percentile(each, 99) * 1000 for each in (normal, under))
            what = f"GET /v1/assistants, p99, {bomb.replace('_', ' ')}"
            report(what, value, ceiling, unit="ms", goal="<= 3.00")
        scene.server.log.clear()


def _explode(scene: Scene, bomb: str) -> None:
    scene.run(within("bombs", [bomb]), thread_id=scene.new_thread())


async def _waits(port: int, meanwhile: Awaitable[None]) -> list[float]:
    """How long each request of one client took, in seconds."""
    going = asyncio.ensure_future(meanwhile)
    connection = await Connection.open(port)
    request, times = get("/v1/assistants?limit=5"), []
    while not going.done():
        started = time.perf_counter()
        await connection.ask(request)
        times.append(time.perf_counter() - started)
        await asyncio.sleep(PAUSE_SECONDS)
    connection.close()
    await going
    return times


if __name__ == "__main__":
    run(benchmark)
