"""Which answers may never have reached their client: what a stock SDK's retry is told by.

After a lost answer an SDK sends the same bytes again, with `x-stainless-retry-count` and no key
of its own. An answer counts as delivered when its connection stayed open or asked for more;
one whose connection closed behind it may be lost. Known for a minute, in this process.
Behind a proxy that keeps its connections to us open, "delivered" means: to the proxy.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from contextlib import suppress
from typing import Final, NamedTuple

from rethread.store.answers import AnswerKind

KEPT_SECONDS: Final = 60.0
MOST_KEPT: Final = 10_000
MOST_BYTES_KEPT: Final = 32 * 1024 * 1024
# The end of the old connection and the first bytes of the new one may be read in either order.
CLOSING_SECONDS: Final = 0.25

Connection = tuple[str, int]


class Given(NamedTuple):
    """An answer that was given to a POST."""

    fingerprint: bytes
    kind: AnswerKind
    body: bytes
    at: float


class Deliveries:
    """The last answer on every connection, and those whose connection has closed since."""

    def __init__(self) -> None:
        self._connections: set[Connection] = set()
        self._answering: Counter[bytes] = Counter()
        self._unread: dict[Connection, Given] = {}  # on an open connection that asked for no more
        self._lost: OrderedDict[bytes, Given] = OrderedDict()
        self._lost_bytes = 0
        self._waiting: dict[asyncio.Event, bytes] = {}

    def opened(self, connection: Connection) -> None:
        """A connection has come."""
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """A connection has closed; nobody knows whether its last answer was read."""
        self._connections.discard(connection)
        if given := self._unread.pop(connection, None):
            self._keep(given)

    def asked(self, connection: Connection) -> None:
        """A request came on a connection: its last answer has arrived."""
        self._unread.pop(connection, None)

    def begin(self, fingerprint: bytes) -> None:
        """A POST is being answered."""
        self._answering[fingerprint] += 1

    def end(self, fingerprint: bytes) -> None:
        """A POST has been answered, or has failed."""
        self._answering[fingerprint] -= 1
        if not self._answering[fingerprint]:
            del self._answering[fingerprint]
        self._tell(fingerprint)

    def gave(
        self, connection: Connection, fingerprint: bytes, kind: AnswerKind, body: bytes
    ) -> None:
        """An answer was handed to a connection; if that has closed before, nobody read it."""
        given = Given(fingerprint, kind, body, time.monotonic())
        if connection in self._connections:
            self._unread[connection] = given
        else:
            self._keep(given)

    def is_open(self, connection: Connection) -> bool:
        """Whether somebody is there to read an answer."""
        return connection in self._connections

    async def lost(self, fingerprint: bytes) -> Given | None:
        """The answer to the same bytes that may never have arrived; waits for one under way.

        It is taken out: whoever gives it again says so with `gave`, as of any answer.
        """
        news = asyncio.Event()
        self._waiting[news] = fingerprint
        try:
            while fingerprint not in self._lost and self._answering[fingerprint]:
                await news.wait()
                news.clear()
            if fingerprint not in self._lost and self._is_unread(fingerprint):
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), CLOSING_SECONDS)
        finally:
            del self._waiting[news]
        given = self._lost.pop(fingerprint, None)
        if given is None:
            return None
        self._lost_bytes -= len(given.body)
        return given if given.at > time.monotonic() - KEPT_SECONDS else None

    def _is_unread(self, fingerprint: bytes) -> bool:
        return any(given.fingerprint == fingerprint for given in self._unread.values())

    def _keep(self, given: Given) -> None:
        if earlier := self._lost.pop(given.fingerprint, None):
            self._lost_bytes -= len(earlier.body)
        self._lost[given.fingerprint] = given
        self._lost_bytes += len(given.body)
        oldest = time.monotonic() - KEPT_SECONDS
        while self._lost:
            first = next(iter(self._lost.values()))
            is_room = len(self._lost) <= MOST_KEPT and self._lost_bytes <= MOST_BYTES_KEPT
            if is_room and first.at > oldest:
                break
            self._lost.popitem(last=False)
            self._lost_bytes -= len(first.body)
        self._tell(given.fingerprint)

    def _tell(self, fingerprint: bytes) -> None:
        for news, awaited in self._waiting.items():
            if awaited == fingerprint:
                news.set()
