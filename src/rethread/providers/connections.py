"""HTTP clients to one model server, each with a connection of its own; the warmest is lent first.

httpx2's pool looks at every connection whenever any call begins or ends, and asks the socket of
every idle one: with 256 streams that cost 10 ms a call. So each client here has one connection,
and a stack of idle clients is the pool. Nothing here knows what is asked.
"""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import httpx2

# A proxy from the environment is for the way out, and none for the machine that we are on.
LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
DIRECT: Final = {f"all://{host}": None for host in LOOPBACK}

MOST_IDLE_CLIENTS: Final = 256
# uvicorn, and with it vLLM, closes an idle connection after 5 s: be the first to.
IDLE_SECONDS: Final = 4.0


class Connections:
    """Clients for `base_url`, as many as there are calls at once."""

    def __init__(
        self,
        *,
        base_url: str,
        headers: dict[str, str],
        parameters: dict[str, str],
        timeout: httpx2.Timeout,
    ) -> None:
        self.url = httpx2.URL(base_url)
        self._headers = headers
        self._parameters = parameters
        self._timeout = timeout
        self._tls = _tls(base_url)
        self._clients: set[httpx2.AsyncClient] = set()
        self._idle: list[httpx2.AsyncClient] = []

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[httpx2.AsyncClient]:
        """A client for one call at a time."""
        client = self._idle.pop() if self._idle else self._opened()
        try:
            yield client
        finally:
            if client in self._clients and len(self._idle) < MOST_IDLE_CLIENTS:
                self._idle.append(client)
            else:
                self._clients.discard(client)
                await client.aclose()

    async def aclose(self) -> None:
        """Close all connections; calls that are under way fail."""
        clients, self._clients = self._clients, set()
        self._idle.clear()
        for client in clients:
            await client.aclose()

    def _opened(self) -> httpx2.AsyncClient:
        client = httpx2.AsyncClient(
            base_url=self.url,
            headers=self._headers,
            params=self._parameters,
            timeout=self._timeout,
            # Not 1: a call that was left may still be closing when the next one comes.
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=1, keepalive_expiry=IDLE_SECONDS
            ),
            mounts=DIRECT,
            verify=self._tls,
        )
        self._clients.add(client)
        return client


def _tls(base_url: str) -> ssl.SSLContext:
    """Certificates to trust, loaded once; none for plain HTTP on loopback, as loading takes time.

    Such an empty context refuses every certificate: it can never let one through unchecked.
    """
    if base_url.startswith(tuple(f"http://{host}" for host in LOOPBACK)):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx2.create_ssl_context()
