"""Any server that speaks chat completions, over HTTP: one streamed call, and the list of models.

The socket and the clock are here; what the bytes say is in `chat_stream`, what a failure means
in `upstream_errors`. The rule: a call is tried again only while nobody has heard any of it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final, Literal

import httpx2
import msgspec
from msgspec import Struct

from rethread.contract.chat import ChatRequest, Chunk
from rethread.errors import ModelError, Unavailable
from rethread.providers import upstream_errors
from rethread.providers.chat_stream import Records, chunks_of_completion
from rethread.providers.connections import Connections
from rethread.providers.upstream_errors import LONGEST_OBEYED_WAIT_SECONDS, AttemptError

TokenLimitField = Literal["max_tokens", "max_completion_tokens"]

# With the answer complete only the usage and [DONE] are missing: not worth a run's time.
AFTER_FINISH_SECONDS: Final = 2.0
# The body's end follows [DONE] at once; read, it lets the connection serve the next call.
AFTER_DONE_SECONDS: Final = 0.1
CUT: Final = "The model server's stream stopped in the middle of the answer."
MODELS_TIMEOUT_SECONDS: Final = 10.0
LONGEST_ERROR_BODY_BYTES: Final = 64 * 1024
LONGEST_ANSWER_BYTES: Final = 16 * 1024 * 1024


class _Model(Struct, frozen=True):
    id: str


class _Models(Struct, frozen=True):
    data: list[_Model]


_MODELS: Final = msgspec.json.Decoder(_Models)


class ChatCompletions:
    """A provider over HTTP. One for the whole process: it keeps the connections.

    `stall_timeout_seconds` is the longest silence between two bytes, also before the first;
    comment lines count as life. With `api_version` the server is spoken to as Azure: the version
    in the query, the key in `api-key`.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None = None,
        connect_timeout_seconds: float = 10.0,
        stall_timeout_seconds: float = 60.0,
        max_attempts: int = 4,
        backoff_seconds: float = 0.5,
        token_limit_field: TokenLimitField = "max_tokens",  # noqa: S107 - not that kind of token
        api_version: str | None = None,
    ) -> None:
        self._api_key = api_key
        self._stall_timeout_seconds = stall_timeout_seconds
        self._max_attempts = max_attempts
        self._backoff_seconds = backoff_seconds
        self._token_limit_field = token_limit_field
        self._connections = Connections(
            base_url=base_url,
            headers=_headers(api_key, is_azure=api_version is not None),
            parameters={"api-version": api_version} if api_version is not None else {},
            timeout=httpx2.Timeout(stall_timeout_seconds, connect=connect_timeout_seconds),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        """One model call's chunks, in order; ModelError once trying again has no sense."""
        body = self._body(request)
        attempt = 1
        while True:
            is_heard = False
            try:
                async with aclosing(self._call(body)) as chunks:
                    async for chunk in chunks:
                        is_heard = True
                        yield chunk
                return
            except (AttemptError, httpx2.RequestError) as error:
                failure = self._failure(error, is_heard=is_heard)
                wait_seconds = None if is_heard else self._wait_seconds(failure, attempt)
                if wait_seconds is None:
                    raise self._told(failure.error) from error
            await asyncio.sleep(wait_seconds)
            attempt += 1

    async def models(self) -> list[str]:
        """The ids that the server lists; Unavailable where it can't say."""
        try:
            async with self._connections.lend() as client:
                response = await client.get("models", timeout=MODELS_TIMEOUT_SECONDS)
            if not response.is_success:
                raise _refusal(response, response.content)
            return [model.id for model in _MODELS.decode(response.content).data]
        except AttemptError as failure:
            raise Unavailable(self._told(failure.error).message) from failure
        except httpx2.TimeoutException as error:
            raise Unavailable(
                f"The model server did not list its models in {MODELS_TIMEOUT_SECONDS:g} s."
            ) from error
        except httpx2.RequestError as error:
            message = self._failure(error, is_heard=False).error.message
            raise Unavailable(message) from error
        except msgspec.DecodeError as error:
            raise Unavailable("The model server's list of models can't be read.") from error

    async def aclose(self) -> None:
        """Close all connections; streams that are under way fail."""
        await self._connections.aclose()

    def _body(self, request: ChatRequest) -> bytes:
        fields: dict[str, Any] = {
            name: value
            for name, value in msgspec.structs.asdict(request).items()
            if value is not None
        }
        if request.max_completion_tokens is not None:
            fields[self._token_limit_field] = fields.pop("max_completion_tokens")
        fields["stream"] = True
        fields["stream_options"] = {"include_usage": True}
        return msgspec.json.encode(fields)

    async def _call(self, body: bytes) -> AsyncGenerator[Chunk]:
        """One attempt; leaving it early closes the connection."""
        async with (
            self._connections.lend() as client,
            client.stream("POST", "chat/completions", content=body) as response,
        ):
            if not response.is_success:
                raise _refusal(response, await _error_body(response))
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "application/json":
                for chunk in chunks_of_completion(await _whole_answer(response)):
                    yield chunk
                return
            if kind == "text/html":
                raise AttemptError(
                    ModelError("The model server answered with a web page: wrong address?")
                )
            async with aclosing(response.aiter_bytes()) as pieces:
                records = Records()
                while not records.is_done:
                    piece = await _next_piece(pieces, is_finished=records.is_finished)
                    for chunk in records.end() if piece is None else records.feed(piece):
                        yield chunk
                    if piece is None:
                        break
                _check_ended(records)
                await _drain(pieces)

    def _wait_seconds(self, failure: AttemptError, attempt: int) -> float | None:
        """How long to wait before the next attempt; None if there shall be none."""
        if not failure.is_retryable or attempt >= self._max_attempts:
            return None
        if failure.asked_wait_seconds is None:
            return upstream_errors.backoff_seconds(attempt, base_seconds=self._backoff_seconds)
        if failure.asked_wait_seconds > LONGEST_OBEYED_WAIT_SECONDS:
            return None
        return failure.asked_wait_seconds

    def _failure(
        self, error: AttemptError | httpx2.RequestError, *, is_heard: bool
    ) -> AttemptError:
        """A failed attempt in our words; those of the HTTP client would not help anyone."""
        match error:
            case AttemptError():
                return error
            case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
                # Without the user and password that a URL may hold.
                address = self._connections.url.netloc.decode()
                message = f"The model server at {address} can't be reached."
            case httpx2.TimeoutException():
                message = f"The model server sent nothing for {self._stall_timeout_seconds:g} s."
            case httpx2.TransportError() if is_heard:
                message = CUT
            case httpx2.TransportError():
                message = "The model server closed the connection without an answer."
            case _:
                message = "The model server's answer can't be read."
        return AttemptError(
            ModelError(message), is_retryable=isinstance(error, httpx2.TransportError)
        )

    def _told(self, error: ModelError) -> ModelError:
        """The error as it may be shown: without the key."""
        return ModelError(upstream_errors.redacted(error.message, self._api_key), code=error.code)


def _headers(api_key: str | None, *, is_azure: bool) -> dict[str, str]:
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


def _refusal(response: httpx2.Response, body: bytes) -> AttemptError:
    return upstream_errors.of_status(
        response.status_code, response.headers, body, now=datetime.now(UTC)
    )


async def _error_body(response: httpx2.Response) -> bytes:
    """An error's words, as far as they arrive: the status says the most already."""
    body = bytearray()
    try:
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > LONGEST_ERROR_BODY_BYTES:
                break
    except httpx2.RequestError:
        pass
    return bytes(body[:LONGEST_ERROR_BODY_BYTES])


async def _whole_answer(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > LONGEST_ANSWER_BYTES:
            raise AttemptError(
                ModelError(f"The model server's answer has more than {LONGEST_ANSWER_BYTES} bytes.")
            )
    return bytes(body)


async def _next_piece(pieces: AsyncGenerator[bytes], *, is_finished: bool) -> bytes | None:
    """The next bytes; None at the end, or once a finished answer breaks off or falls silent."""
    if not is_finished:
        return await anext(pieces, None)
    try:
        async with asyncio.timeout(AFTER_FINISH_SECONDS):
            return await anext(pieces, None)
    except (TimeoutError, httpx2.RequestError):
        return None


def _check_ended(records: Records) -> None:
    if not records.is_finished and not records.is_done:
        raise AttemptError(ModelError(CUT), is_retryable=True)


async def _drain(pieces: AsyncGenerator[bytes]) -> None:
    try:
        async with asyncio.timeout(AFTER_DONE_SECONDS):
            async for _ in pieces:
                pass
    except (TimeoutError, httpx2.RequestError):
        pass
