"""Which answers may never have reached their client: what a stock SDK's retry is told by.

After a lost answer an SDK sends the same bytes again, with `x-stainless-retry-count` and no key
of its own. An answer counts as delivered when its connection stayed open or asked for more;
one whose connection closed behind it may be lost. Known for a minute, in this process.
"""

import asyncio
import time
from collections import OrderedDict
from typing import Final, NamedTuple

from rethread.store.answers import AnswerKind

KEPT_SECONDS: Final = 60.0
MOST_KEPT: Final = 10_000
MOST_BYTES_OF_ONE: Final = 256 * 1024  # a longer answer is not kept; those have no twin

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
        self._answering: dict[bytes, asyncio.Event] = {}
        self._open: dict[Connection, Given] = {}
        self._closed: OrderedDict[bytes, Given] = OrderedDict()
        self._busy: set[Connection] = set()

    def asked(self, connection: Connection) -> None:
        """A request came on a connection: its last answer has arrived."""
        self._open.pop(connection, None)
        self._busy.add(connection)

    def begin(self, fingerprint: bytes) -> asyncio.Event:
        """A POST is being answered; set the event when that is over."""
        return self._answering.setdefault(fingerprint, asyncio.Event())

    def end(self, fingerprint: bytes, event: asyncio.Event) -> None:
        """A POST has been answered, or has failed."""
        event.set()
        if self._answering.get(fingerprint) is event:
            del self._answering[fingerprint]

    def gave(
        self, connection: Connection, fingerprint: bytes, kind: AnswerKind, body: bytes
    ) -> None:
        """An answer was handed to a connection; if that has closed before, nobody read it."""
        if len(body) > MOST_BYTES_OF_ONE:
            return
        given = Given(fingerprint, kind, body, time.monotonic())
        if connection in self._busy:
            self._open[connection] = given
        else:
            self._keep(given)

    def closed(self, connection: Connection) -> None:
        """A connection has closed; nobody knows whether its last answer was read."""
        self._busy.discard(connection)
        if given := self._open.pop(connection, None):
            self._keep(given)

    async def lost(self, fingerprint: bytes) -> Given | None:
        """The answer to the same bytes that may never have arrived; waits for one under way.

        It is given once: who asks a third time has lost two answers, and is told again.
        """
        if event := self._answering.get(fingerprint):
            await event.wait()
        given = self._closed.pop(fingerprint, None)
        return given if given and given.at > time.monotonic() - KEPT_SECONDS else None

    def _keep(self, given: Given) -> None:
        self._closed[given.fingerprint] = given
        self._closed.move_to_end(given.fingerprint)
        oldest = time.monotonic() - KEPT_SECONDS
        while self._closed:
            first = next(iter(self._closed.values()))
            if len(self._closed) <= MOST_KEPT and first.at > oldest:
                break
            self._closed.popitem(last=False)
