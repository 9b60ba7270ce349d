"""Several processes of one program on one socket: starts them, replaces what dies, stops them.

Knows nothing of what they do. A process that has died comes back; where one dies again and
again as soon as it has come, all are stopped. They see to it that they end with the supervisor,
however that ends.
"""

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

logger = logging.getLogger("rethread")

REST_SECONDS: Final = 1.0
SOON_SECONDS: Final = 10.0
MOST_EARLY_DEATHS: Final = 5


def supervise(count: int, work: Callable[..., int], *arguments: Any) -> int:
    """Run `work(*arguments, index)` in that many processes until told to stop; the exit code.

    SIGTERM and SIGINT are passed on, once for each time that they come.
    """
    processes: dict[int, SpawnProcess] = {}
    started: dict[int, float] = {}
    early_deaths = code = 0
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for process in processes.values():
            process.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while True:
        for index in range(count):
            if index not in processes and not stopping:
                processes[index] = _start(work, *arguments, index)
                started[index] = time.monotonic()
        wait([process.sentinel for process in processes.values()], timeout=REST_SECONDS)
        for index, process in list(processes.items()):
            if process.exitcode is None:
                continue
            del processes[index]
            if stopping:
                code = max(code, abs(process.exitcode))
                continue
            fields = {"worker": index, "code": process.exitcode}
            logger.error("process died", extra={"fields": fields})
            is_early = time.monotonic() - started[index] < SOON_SECONDS
            early_deaths = early_deaths + 1 if is_early else 0
            if early_deaths == MOST_EARLY_DEATHS:
                code = 1
                stop()
        if stopping and not processes:
            return code


def _start(work: Callable[..., int], *arguments: Any) -> "SpawnProcess":
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(work, *arguments))
    process.start()
    return process


def _work(work: Callable[..., int], *arguments: Any) -> None:
    # A Ctrl-C reaches the whole group; the supervisor passes it on, so it shall count once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(work(*arguments))
