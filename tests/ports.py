"""A port that is a test's own for as long as it likes, also while nothing listens there.

A port that the system gave (0) is one that it also gives to outgoing connections: what listened
there cannot be sure to listen there again.
"""

import random
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

OUTGOING: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST: Final = 10_000  # what is below belongs to services
# Every system's range of outgoing connections begins here or higher, if nobody has changed it.
USUAL_BEGINNING: Final = 32_768


@contextmanager
def kept_port() -> Iterator[int]:
    """A free port of 127.0.0.1 that nobody else is given until this is left."""
    with socket.socket() as keeping:
        port = _bind(keeping)
        if sys.platform == "linux":
            # Bound, and not listening: whoever names the port with the same option may listen
            # there, and the system gives it to nobody.
            keeping.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            keeping.close()
        yield port


def _bind(keeping: socket.socket) -> int:
    """The port, on which nothing listens, and which no other test keeps."""
    ports = _ports()
    while True:
        port = random.choice(ports)
        try:
            keeping.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port


def _ports() -> range:
    """Those that no outgoing connection gets; where it may get all, any."""
    beginning = int(OUTGOING.read_text().split()[0]) if OUTGOING.exists() else USUAL_BEGINNING
    return range(LOWEST, beginning if beginning > 2 * LOWEST else 65_536)
