"""The end of serving, so that no client notices it that can reach another server.

Whoever waits in a request for something to happen is answered at once with what is so. And a
listening socket is closed only when nobody stands before it.
"""

import ctypes
import socket
import struct
import sys
from contextlib import suppress
from typing import Final

from rethread.store.wakeups import Wakeup

ARRIVAL_SECONDS: Final = 0.05  # for the last packet of a connection that is being made
SO_ATTACH_FILTER: Final = 26
# A program for the kernel's packet filter. It sees TCP segments from their header on: drops
# those that would begin a connection (SYN without ACK in byte 13), and lets all others pass.
SYN_DROPPED: Final = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of flags
        (0x54, 0, 0, 0x12),  # keep SYN and ACK
        (0x15, 0, 1, 0x02),  # only SYN?
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFF),  # pass
    )
)


class Stop:
    """Whether the server is stopping; those who wait in a request wait through this."""

    def __init__(self) -> None:
        self.has_begun = False
        self.is_grace_over = False
        self._waiting: set[Wakeup] = set()

    def begin(self) -> None:
        """Have those who wait look whether they can be answered as it is."""
        self.has_begun = True
        self._wake()

    def end_grace(self) -> None:
        """Have those who still wait give up."""
        self.is_grace_over = True
        self._wake()

    def _wake(self) -> None:
        for wakeup in self._waiting:
            wakeup.wake(from_afar=False)

    async def wait(self, wakeup: Wakeup, *, timeout_seconds: float) -> None:
        """Return when the topic was notified, time ran out, or the stop has come a step on."""
        if self.is_grace_over:
            return
        self._waiting.add(wakeup)
        try:
            await wakeup.wait(timeout_seconds=timeout_seconds)
        finally:
            self._waiting.discard(wakeup)


def turn_away(listening: socket.socket) -> None:
    """Let no connection begin any more, for whichever process listens; one half made is finished.

    The kernel resets what has connected to a socket that closes before it was accepted, and such
    a client cannot know whether its request was read. A connection whose first packet is lost is
    tried again by the client's kernel a second later, and then refused. Those that were begun are
    there `ARRIVAL_SECONDS` later. (Linux; elsewhere a client may meet that reset.)
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(SYN_DROPPED, len(SYN_DROPPED))
    length = len(SYN_DROPPED) // 8
    attached = struct.pack("@HP", length, ctypes.addressof(program))
    with suppress(OSError):  # a kernel without such filters
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
