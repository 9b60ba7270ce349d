"""Embeddings from a model server: `/embeddings`, some texts a call, tried again as chats are.

What comes is checked before anybody keeps it: a vector for each text, all of one size, of numbers
that are numbers.
"""

import asyncio
import base64
from collections.abc import Iterator, Sequence
from typing import Any, Final

import aiohttp
import msgspec
import numpy as np
from msgspec import Struct

from rethread.errors import ModelError
from rethread.providers import upstream_errors
from rethread.providers.answers import (
    Attempts,
    error_body,
    failure_of,
    is_success,
    refusal,
    whole_answer,
)
from rethread.providers.connections import Connections, headers_for
from rethread.providers.upstream_errors import AttemptError

# Of one call: what the servers that take least of it are known to take.
MOST_TEXTS: Final = 64
MOST_CHARACTERS: Final = 200_000
CALLS_AT_ONCE: Final = 4


class _Embedding(Struct, frozen=True):
    embedding: list[float] | str
    index: int | None = None


class _Embeddings(Struct, frozen=True):
    data: list[_Embedding]


_EMBEDDINGS: Final = msgspec.json.Decoder(_Embeddings)


class UpstreamEmbedder:
    """An embedder over HTTP. One for the whole process: it keeps the connections."""

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        dimensions: int | None = None,
        api_key: str | None = None,
        connect_timeout_seconds: float = 10.0,
        stall_timeout_seconds: float = 60.0,
        max_attempts: int = 4,
        backoff_seconds: float = 0.5,
    ) -> None:
        self._model = model
        self._dimensions = dimensions
        self._api_key = api_key
        self._stall_timeout_seconds = stall_timeout_seconds
        self._attempts = Attempts(max_attempts, backoff_seconds)
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE)
        self._connections = Connections(
            base_url=base_url,
            headers=headers_for(api_key, is_azure=False),
            parameters={},
            connect_timeout_seconds=connect_timeout_seconds,
            stall_timeout_seconds=stall_timeout_seconds,
        )
        self._size: int | None = dimensions  # of a vector, as the first answer had it

    @property
    def name(self) -> str:
        """The model, and its dimensions where those were chosen."""
        return self._model if self._dimensions is None else f"{self._model}/{self._dimensions}"

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector for each text; ModelError once trying again has no sense."""
        found = await asyncio.gather(*(self._embed_some(some) for some in _batches(texts)))
        return [vector for some in found for vector in some]

    async def aclose(self) -> None:
        """Close all connections; calls that are under way fail."""
        await self._connections.aclose()

    async def _embed_some(self, texts: Sequence[str]) -> list[bytes]:
        fields: dict[str, Any] = {"model": self._model, "input": texts}
        if self._dimensions is not None:
            fields["dimensions"] = self._dimensions
        body = msgspec.json.encode(fields)
        attempt = 1
        while True:
            try:
                async with self._turns:
                    answer = await self._call(body)
                return self._checked(await asyncio.to_thread(_vectors, answer, len(texts)))
            except (AttemptError, aiohttp.ClientError, TimeoutError) as error:
                failure = failure_of(
                    error,
                    address=self._connections.address,
                    stall_timeout_seconds=self._stall_timeout_seconds,
                )
                wait_seconds = self._attempts.wait_seconds(failure, attempt)
                if wait_seconds is None:
                    raise self._told(failure.error) from error
            await asyncio.sleep(wait_seconds)
            attempt += 1

    async def _call(self, body: bytes) -> bytes:
        async with self._connections.call("POST", "embeddings", body) as response:
            if not is_success(response):
                raise refusal(response, await error_body(response))
            return await whole_answer(response)

    def _checked(self, vectors: list[bytes]) -> list[bytes]:
        """The vectors; AttemptError if they are of another size than before."""
        for vector in vectors:
            size = len(vector) // 4
            self._size = self._size or size
            if size != self._size:
                raise _garbage(f"a vector of {size} dimensions, where {self._size} are expected")
        return vectors

    def _told(self, error: ModelError) -> ModelError:
        """The error as it may be shown: without the key."""
        message = upstream_errors.redacted(error.message, self._api_key)
        return ModelError(message, code=error.code, reason=error.reason)


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    room = MOST_CHARACTERS
    for text in texts:
        if batch and (len(batch) == MOST_TEXTS or len(text) > room):
            yield batch
            batch, room = [], MOST_CHARACTERS
        batch.append(text)
        room -= len(text)
    if batch:
        yield batch


def _vectors(body: bytes, count: int) -> list[bytes]:
    """The vectors of an answer, normalised; AttemptError if it is not one for so many texts."""
    try:
        found = _EMBEDDINGS.decode(body).data
        # Most say it, and all keep the order.
        ordered = sorted(enumerate(found), key=lambda each: _place(*each))
        vectors = [_numbers(each.embedding) for _, each in ordered]
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise _garbage("something that can't be read") from error
    if len(vectors) != count:
        raise _garbage(f"{len(vectors)} vectors for {count} texts")
    return [_normalised(vector) for vector in vectors]


def _place(place: int, embedding: _Embedding) -> int:
    return place if embedding.index is None else embedding.index


def _numbers(embedding: list[float] | str) -> np.ndarray[Any, np.dtype[np.float64]]:
    if isinstance(embedding, str):
        packed = base64.b64decode(embedding, validate=True)
        return np.frombuffer(packed, dtype="<f4").astype(np.float64)
    return np.array(embedding, dtype=np.float64)


def _normalised(vector: np.ndarray[Any, np.dtype[np.float64]]) -> bytes:
    with np.errstate(over="ignore"):
        length = float(np.sqrt(vector @ vector))
    if not len(vector) or not np.isfinite(length):
        raise _garbage("a vector that is none")
    return (vector / max(length, 1e-30)).astype("<f4").tobytes()


def _garbage(what: str) -> AttemptError:
    message = f"The model server's embeddings can't be used: it sent {what}."
    return AttemptError(ModelError(message, reason="garbage"))
