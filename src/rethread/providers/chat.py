"""Any server that speaks chat completions, over HTTP: one streamed call, and the list of models.

The socket and the clock are here; what the bytes say is in `chat_stream`, how they are read in
`answers`, what a failure means in `upstream_errors`. The rule: a call is tried again only while
nobody has heard any of it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Literal

import aiohttp
import msgspec
from msgspec import Struct

from rethread.contract.chat import ChatRequest, Chunk
from rethread.errors import ModelError, Unavailable
from rethread.providers import upstream_errors
from rethread.providers.answers import (
    CUT,
    Attempts,
    error_body,
    failure_of,
    is_success,
    next_piece,
    refusal,
    whole_answer,
)
from rethread.providers.chat_stream import Records, chunks_of_completion
from rethread.providers.connections import Connections, headers_for
from rethread.providers.upstream_errors import AttemptError

TokenLimitField = Literal["max_tokens", "max_completion_tokens"]

# The body's end follows [DONE] at once; read, it lets the connection serve the next call.
AFTER_DONE_SECONDS: Final = 0.1
MODELS_TIMEOUT_SECONDS: Final = 10.0


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
        self._attempts = Attempts(max_attempts, backoff_seconds)
        self._token_limit_field = token_limit_field
        self._connections = Connections(
            base_url=base_url,
            headers=headers_for(api_key, is_azure=api_version is not None),
            parameters={"api-version": api_version} if api_version is not None else {},
            connect_timeout_seconds=connect_timeout_seconds,
            stall_timeout_seconds=stall_timeout_seconds,
        )
        # Until it turns out that the server refuses the question itself.
        self._asks_for_usage = True

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        """One model call's chunks, in order; ModelError once trying again has no sense."""
        asks_for_usage = self._asks_for_usage
        attempt = 1
        while True:
            is_heard = False
            try:
                body = self._body(request, asks_for_usage=asks_for_usage)
                async with aclosing(self._call(body)) as chunks:
                    async for chunk in chunks:
                        is_heard = is_heard or _says_something(chunk)
                        yield chunk
                # Only now: an error may name the field and mean another, and echo the request.
                self._asks_for_usage &= asks_for_usage
                return
            except (AttemptError, aiohttp.ClientError, TimeoutError) as error:
                failure = self._failure(error, is_heard=is_heard)
                if failure.refuses_stream_options and asks_for_usage:
                    asks_for_usage = False
                    continue
                wait_seconds = None if is_heard else self._attempts.wait_seconds(failure, attempt)
                if wait_seconds is None:
                    raise self._told(failure.error) from error
            await asyncio.sleep(wait_seconds)
            attempt += 1

    async def models(self) -> list[str]:
        """The ids that the server lists; Unavailable where it can't say."""
        try:
            async with (
                asyncio.timeout(MODELS_TIMEOUT_SECONDS),
                self._connections.call("GET", "models") as response,
            ):
                if not is_success(response):
                    raise refusal(response, await error_body(response))
                body = await whole_answer(response)
            return [model.id for model in _MODELS.decode(body).data]
        except AttemptError as failure:
            told = self._told(failure.error)
            raise Unavailable(told.message, reason=told.reason) from failure
        except TimeoutError as error:
            raise Unavailable(
                f"The model server did not list its models in {MODELS_TIMEOUT_SECONDS:g} s.",
                reason="stalled",
            ) from error
        except aiohttp.ClientError as error:
            told = self._failure(error, is_heard=False).error
            raise Unavailable(told.message, reason=told.reason) from error
        except msgspec.DecodeError as error:
            raise Unavailable(
                "The model server's list of models can't be read.", reason="garbage"
            ) from error

    async def aclose(self) -> None:
        """Close all connections; streams that are under way fail."""
        await self._connections.aclose()

    def _body(self, request: ChatRequest, *, asks_for_usage: bool) -> bytes:
        fields: dict[str, Any] = {
            name: value
            for name, value in msgspec.structs.asdict(request).items()
            if value is not None
        }
        if request.max_completion_tokens is not None:
            fields[self._token_limit_field] = fields.pop("max_completion_tokens")
        fields["stream"] = True
        if asks_for_usage:
            fields["stream_options"] = {"include_usage": True}
        return msgspec.json.encode(fields)

    async def _call(self, body: bytes) -> AsyncGenerator[Chunk]:
        """One attempt; leaving it early closes the connection."""
        async with self._connections.call("POST", "chat/completions", body) as response:
            if not is_success(response):
                raise refusal(response, await error_body(response))
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "application/json":
                for chunk in chunks_of_completion(await whole_answer(response)):
                    yield chunk
                return
            if kind == "text/html":
                raise AttemptError(
                    ModelError(
                        "The model server answered with a web page: wrong address?",
                        reason="web page",
                    )
                )
            records = Records()
            while not records.is_done:
                piece = await next_piece(response, is_finished=records.is_finished)
                for chunk in records.feed(piece) if piece else records.end():
                    yield chunk
                if not piece:
                    break
            _check_ended(records)
            await _drain(response)

    def _failure(
        self, error: AttemptError | aiohttp.ClientError | TimeoutError, *, is_heard: bool
    ) -> AttemptError:
        return failure_of(
            error,
            address=self._connections.address,
            stall_timeout_seconds=self._stall_timeout_seconds,
            is_heard=is_heard,
        )

    def _told(self, error: ModelError) -> ModelError:
        """The error as it may be shown: without the key."""
        message = upstream_errors.redacted(error.message, self._api_key)
        return ModelError(message, code=error.code, reason=error.reason)


def _says_something(chunk: Chunk) -> bool:
    """Whether anyone could notice the chunk: many servers begin with one that has only a role."""
    if chunk.usage is not None:
        return True
    for choice in chunk.choices:
        said = choice.delta
        if choice.finish_reason or (said and (said.content or said.refusal or said.tool_calls)):
            return True
    return False


def _check_ended(records: Records) -> None:
    if not records.is_finished and not records.is_done:
        raise AttemptError(ModelError(CUT, reason="cut"), is_retryable=True)


async def _drain(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(AFTER_DONE_SECONDS):
            while await next_piece(response):
                pass
    except (aiohttp.ClientError, TimeoutError):
        pass
