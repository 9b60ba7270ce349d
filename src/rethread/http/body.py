"""Reads a request's body, within its limit and without waiting for ever."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final

from rethread.errors import RethreadError, TooLarge, TooSlow
from rethread.http.request import Receive, Scope

SILENCE_SECONDS: Final = 30.0  # longest wait for the next piece of a body
DRAIN_BYTES: Final = 8 * 1024 * 1024  # read past a refusal, so that its answer can be read
DRAIN_SECONDS: Final = 2.0


class ClientGone(RethreadError):
    """The client went away in the middle of its request; nobody waits for an answer."""


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The whole body; TooLarge as soon as it is known to be past the limit, or TooSlow."""
    _check_declared(scope, limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await _next(receive)
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else bytes(chunk)
        chunks.append(chunk)


class Arriving:
    """A body that is read while it arrives: no more of it comes than is asked for."""

    def __init__(self, scope: Scope, receive: Receive, *, limit: int) -> None:
        self._scope = scope
        self._receive = receive
        self._limit = limit
        self.is_whole = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes; TooLarge, TooSlow or ClientGone where it does not."""
        _check_declared(self._scope, self._limit)
        size = 0
        while not self.is_whole:
            message = await _next(self._receive)
            piece = message.get("body", b"")
            size += len(piece)
            if size > self._limit:
                raise _too_large(self._limit)
            self.is_whole = not message.get("more_body", False)
            yield piece


async def drain(receive: Receive) -> None:
    """Read a little of what a refused client goes on sending.

    Closing at once would reset the connection, and the client could lose the answer unread.
    """
    read = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while read < DRAIN_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                read += len(message.get("body", b""))


async def _next(receive: Receive) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            message = await receive()
    except TimeoutError:
        raise TooSlow(f"The request's body stopped coming for {SILENCE_SECONDS:g} s.") from None
    if message["type"] == "http.disconnect":
        raise ClientGone("The client went away in the middle of its request.")
    return message


def _check_declared(scope: Scope, limit: int) -> None:
    declared = dict(scope["headers"]).get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request is too large: its body may have {limit} bytes at most.")
