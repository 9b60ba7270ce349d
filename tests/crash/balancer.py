"""A load balancer of one class: each request goes to the next server, past those that are down.

It tries nothing a second time that a server may have got; whether to do that is the SDK's choice.
"""

from collections.abc import Sequence
from itertools import cycle
from typing import Final

import httpx2

MOST_CONNECTIONS: Final = httpx2.Limits(max_connections=1000, max_keepalive_connections=200)


class Balancer(httpx2.AsyncBaseTransport):
    """A client's transport to several servers on this machine."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._count = len(ports)
        self._ports = cycle(ports)
        self._transport = httpx2.AsyncHTTPTransport(limits=MOST_CONNECTIONS)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of the next server that takes the connection."""
        for others in reversed(range(self._count)):
            request.url = request.url.copy_with(port=next(self._ports))
            try:
                return await self._transport.handle_async_request(request)
            except httpx2.ConnectError:
                if not others:
                    raise
        raise AssertionError("no server was named")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()
