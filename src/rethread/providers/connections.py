"""The connections to one model server: addresses, headers, timeouts, certificates and the proxy.

One aiohttp session, made at the first call, as it belongs to the loop that is running then.
Nothing here knows what is asked, and no answer is followed anywhere: a redirect is a refusal.
"""

import asyncio
import io
import os
import ssl
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import aiohttp
from yarl import URL

from rethread.errors import ModelError
from rethread.providers.upstream_errors import AttemptError
from rethread.proxies import proxy_to

# uvicorn, and with it vLLM, closes an idle connection after 5 s: be the first to.
IDLE_SECONDS: Final = 4.0
# aiohttp writes bytes in one go; a file in pieces, so that a large prompt holds nobody up.
LARGEST_PLAIN_BODY_BYTES: Final = 256 * 1024


class Connections:
    """Calls to `base_url`, as many at once as there are; a connection serves one after another."""

    def __init__(
        self,
        *,
        base_url: str,
        headers: dict[str, str],
        parameters: dict[str, str],
        connect_timeout_seconds: float,
        stall_timeout_seconds: float,
    ) -> None:
        self._url = URL(base_url.rstrip("/"))
        self._headers = headers
        self._parameters = parameters
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_seconds, sock_read=stall_timeout_seconds
        )
        # aiohttp waits for ever for a server that does not take the request.
        self._head_seconds = connect_timeout_seconds + 2 * stall_timeout_seconds
        self._session: aiohttp.ClientSession | None = None
        self._answering: set[aiohttp.ClientResponse] = set()
        self._is_closed = False

    @property
    def address(self) -> str:
        """The server's host and port, without a user and password that a URL may hold."""
        return self._url.host_port_subcomponent or ""

    @asynccontextmanager
    async def call(
        self, method: str, path: str, body: bytes | None = None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """An answer, as soon as its head is there; left before its end, its connection is closed.

        Raises what aiohttp does, and TimeoutError.
        """
        async with asyncio.timeout(self._head_seconds):
            response = await self._opened().request(
                method,
                self._url.joinpath(path).with_query(self._parameters),
                data=_payload(body),
                allow_redirects=False,
            )
        self._answering.add(response)
        try:
            with _told_of_loss(response):
                yield response
        finally:
            self._answering.discard(response)
            # After a body's end this does nothing, and the next call gets the connection.
            response.close()

    async def aclose(self) -> None:
        """Close all connections; calls that are under way fail."""
        self._is_closed = True
        for response in list(self._answering):
            response.close()
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise AttemptError(ModelError("The connections to the model server are closed."))
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=IDLE_SECONDS, ssl=_certificates()
                ),
                headers=self._headers,
                timeout=self._timeout,
                # One run's cookies are no business of another's.
                cookie_jar=aiohttp.DummyCookieJar(),
                # Not `trust_env`: it asks .netrc and the environment in a thread at every call.
                proxy=proxy_to(str(self._url)),
            )
        return self._session


def headers_for(api_key: str | None, *, is_azure: bool) -> dict[str, str]:
    """What every call to a model server begins with."""
    headers = {
        "content-type": "application/json",
        # Compressed tokens arrive late: they wait in the compressor for company.
        "accept-encoding": "identity",
        "user-agent": "rethread",
    }
    if api_key is not None and is_azure:
        headers["api-key"] = api_key
    elif api_key is not None:
        headers["authorization"] = f"Bearer {api_key}"
    return headers


@contextmanager
def _told_of_loss(response: aiohttp.ClientResponse) -> Iterator[None]:
    """Whoever reads the body hears that its connection is gone, whatever the reason.

    aiohttp leaves the reader waiting for ever where it closes the connection for broken framing.
    """

    def tell(_: object = None) -> None:
        if not response.content.is_eof() and response.content.exception() is None:
            response.content.set_exception(aiohttp.ClientPayloadError("The connection is gone."))

    connection = response.connection
    if connection is None or connection.protocol is None:
        yield
        return
    lost = connection.protocol.closed
    if lost is None:
        tell()
        yield
        return
    # Once a connection: a loss that nobody asks about would be logged.
    lost.remove_done_callback(_take_note)
    lost.add_done_callback(_take_note)
    lost.add_done_callback(tell)
    try:
        yield
    finally:
        lost.remove_done_callback(tell)


def _take_note(lost: asyncio.Future[None]) -> None:
    if not lost.cancelled():
        lost.exception()


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    if body is None or len(body) <= LARGEST_PLAIN_BODY_BYTES:
        return body
    return io.BytesIO(body)


def _certificates() -> ssl.SSLContext | bool:
    """What the system trusts: OpenSSL finds that by itself, but not on macOS."""
    if sys.platform == "darwin" and not os.environ.keys() & {"SSL_CERT_FILE", "SSL_CERT_DIR"}:
        import truststore  # noqa: PLC0415 - only macOS has it

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return True
