"""Several processes of one program on one socket: starts them, replaces what dies, stops them.

Knows nothing of what they do. A process that has died comes back; where one dies again and
again as soon as it has come, all are stopped. They see to it that they end with the supervisor,
however that ends.
"""

import logging
import multiprocessing
import os
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
STOPS: Final = (signal.SIGTERM, signal.SIGINT)
HURRY: Final = signal.SIGUSR1  # what processes are told at a second signal


def supervise(
    count: int, work: Callable[..., int], *arguments: Any, on_stop: Callable[[], None]
) -> int:
    """Run `work(*arguments, index)` in that many processes until told to stop; the exit code.

    SIGTERM and SIGINT are passed on as SIGTERM, after `on_stop`; a second one as `HURRY`.
    """
    return _Supervisor(count, work, *arguments, on_stop=on_stop).run()


class _Supervisor:
    def __init__(
        self, count: int, work: Callable[..., int], *arguments: Any, on_stop: Callable[[], None]
    ) -> None:
        self._count = count
        self._work = work
        self._arguments = arguments
        self._on_stop = on_stop
        self._processes: dict[int, SpawnProcess] = {}
        self._started: dict[int, float] = {}
        self._early_deaths = 0
        self._is_stopping = False
        self._code = 0

    def run(self) -> int:
        for number in STOPS:
            signal.signal(number, self._stop)
        while True:
            self._fill()
            sentinels = [process.sentinel for process in self._processes.values()]
            wait(sentinels, timeout=REST_SECONDS)
            for index, process in list(self._processes.items()):
                if process.exitcode is not None:
                    del self._processes[index]
                    self._has_ended(index, process.exitcode)
            if self._is_stopping and not self._processes:
                return self._code

    def _fill(self) -> None:
        for index in range(self._count):
            # A signal waits until the process is known that it is to be passed on to. And the
            # process inherits that wait: it is deaf until it has said how it takes a Ctrl-C.
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
            try:
                if index not in self._processes and not self._is_stopping:
                    self._processes[index] = _start(self._work, *self._arguments, index)
                    self._started[index] = time.monotonic()
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def _has_ended(self, index: int, code: int) -> None:
        if self._is_stopping:
            # One that was told before it could listen has ended as it should.
            is_told = -code in (signal.SIGTERM, HURRY)
            self._code = max(self._code, 0 if is_told else abs(code))
            return
        logger.error("process died", extra={"fields": {"worker": index, "code": code}})
        is_early = time.monotonic() - self._started[index] < SOON_SECONDS
        self._early_deaths = self._early_deaths + 1 if is_early else 0
        if self._early_deaths == MOST_EARLY_DEATHS:
            self._code = 1
            self._stop()

    def _stop(self, *_: object) -> None:
        number = HURRY if self._is_stopping else signal.SIGTERM
        if not self._is_stopping:
            self._is_stopping = True
            self._on_stop()
        for process in self._processes.values():
            if process.exitcode is None and process.pid is not None:
                os.kill(process.pid, number)


def _start(work: Callable[..., int], *arguments: Any) -> "SpawnProcess":
    process = multiprocessing.get_context("spawn").Process(target=_begin, args=(work, *arguments))
    process.start()
    return process


def _begin(work: Callable[..., int], *arguments: Any) -> None:
    # A Ctrl-C reaches the whole group; the supervisor passes it on, so it shall count once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    raise SystemExit(work(*arguments))
