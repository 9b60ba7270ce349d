"""uvicorn, stopped by us rather than by its own signals."""

import asyncio
import contextlib
import ctypes
import math
import socket
import sys
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from rethread.http.deliveries import Deliveries
from rethread.http.protocol import KEEP_ALIVE_SECONDS, LINGER_SECONDS, Protocol, protocol_with
from rethread.http.stopping import ARRIVAL_SECONDS, Stop, turn_away

CUT_OFF_SECONDS: Final = 0.2
# What arrives does so in pieces of 256 KiB. By default the allocator gets each of them from the
# system and gives it back, and the system clears it: a body came half as fast as it can.
REUSED_BYTES: Final = {-3: 8 * 2**20, -1: 16 * 2**20}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


class Server(uvicorn.Server):
    """Leaves the process's signals alone: whoever runs it sets `should_exit`.

    Then answers under way may finish for `grace_seconds`, and what is left is cut off.
    """

    def __init__(
        self, config: uvicorn.Config, stop: Stop, *, grace_seconds: float, is_socket_shared: bool
    ) -> None:
        super().__init__(config)
        self._stop = stop
        self._grace_seconds = grace_seconds
        self._is_socket_shared = is_socket_shared
        self._hurrying = asyncio.Event()

    def hurry(self) -> None:
        """Cut off the answers under way now, whatever grace is left."""
        self._hurrying.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish; uvicorn's own way to cut answers off is to log each as an error."""
        self._stop.begin()
        cutting = asyncio.create_task(self._cut_off())
        try:
            if not self._is_socket_shared:  # else others may go on listening
                for listening in sockets or []:
                    turn_away(listening)
            await asyncio.sleep(ARRIVAL_SECONDS)
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    async def _cut_off(self) -> None:
        """End the streams when the grace is over; what has not begun to be answered, a bit later.

        Whoever loses a stream goes on with it elsewhere. Whoever gets no answer at all cannot know
        what has happened.
        """
        await self._hurried(self._grace_seconds)
        self._stop.end_grace()
        for connection in self._connections():
            if connection.is_sending:
                connection.transport.abort()
        await self._hurried(LINGER_SECONDS)
        tasks = list(self.server_state.tasks)
        for connection in self._connections():
            connection.transport.abort()
        await asyncio.sleep(CUT_OFF_SECONDS)  # streams end by themselves where nobody listens
        for task in tasks:
            task.cancel()

    async def _hurried(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurrying.wait(), seconds)

    def _connections(self) -> list[Protocol]:
        return [each for each in self.server_state.connections if isinstance(each, Protocol)]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def new_server(
    application: Any,
    stop: Stop,
    *,
    deliveries: Deliveries,
    grace_seconds: float,
    is_socket_shared: bool = False,
) -> Server:
    """A server for an ASGI application; whose sockets it listens on is given to `serve`."""
    _reuse_memory()
    config = uvicorn.Config(
        application,
        http=protocol_with(deliveries, stop),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a connection is known by its own address, whoever it forwards
        date_header=True,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(grace_seconds) + 5,  # should our own way fail
        backlog=2048,
    )
    return Server(config, stop, grace_seconds=grace_seconds, is_socket_shared=is_socket_shared)


def _reuse_memory() -> None:
    """Have memory used again rather than given back, where the C library is glibc."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if sys.platform == "linux" and set_option is not None:
        for option, value in REUSED_BYTES.items():
            set_option(option, value)
