"""How the answers of a model server are read, whatever was asked: what all calls share.

Also what a broken answer means, and how often a call is tried again. What an answer says is not
known here.
"""

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, NamedTuple

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError

from rethread.errors import ModelError
from rethread.providers import upstream_errors
from rethread.providers.upstream_errors import LONGEST_OBEYED_WAIT_SECONDS, AttemptError

# With the answer complete only the usage and [DONE] are missing: not worth a run's time.
AFTER_FINISH_SECONDS: Final = 2.0
CUT: Final = "The model server's stream stopped in the middle of the answer."
NO_ANSWER: Final = "The model server closed the connection without an answer."
UNREADABLE: Final = "The model server's answer can't be read."
LONGEST_ERROR_BODY_BYTES: Final = 64 * 1024
LONGEST_ANSWER_BYTES: Final = 16 * 1024 * 1024


class Attempts(NamedTuple):
    """How often a call is tried, and how long the first pause is."""

    most: int
    backoff_seconds: float

    def wait_seconds(self, failure: AttemptError, attempt: int) -> float | None:
        """How long to wait before the next attempt; None if there shall be none."""
        if not failure.is_retryable or attempt >= self.most:
            return None
        if failure.asked_wait_seconds is None:
            return upstream_errors.backoff_seconds(attempt, base_seconds=self.backoff_seconds)
        if failure.asked_wait_seconds > LONGEST_OBEYED_WAIT_SECONDS:
            return None
        return failure.asked_wait_seconds


def failure_of(
    error: AttemptError | aiohttp.ClientError | TimeoutError,
    *,
    address: str,
    stall_timeout_seconds: float,
    is_heard: bool = False,
) -> AttemptError:
    """A failed attempt in our words; those of the HTTP client would not help anyone."""
    is_retryable, reason = True, "garbage"
    match error:
        case AttemptError():
            return error
        case (
            aiohttp.ClientConnectorError()
            | aiohttp.ConnectionTimeoutError()
            | aiohttp.ClientHttpProxyError()
        ):
            message = f"The model server at {address} can't be reached."
            reason = "unreachable"
        case TimeoutError():
            reason = "stalled"
            message = f"The model server sent nothing for {stall_timeout_seconds:g} s."
        case aiohttp.ClientPayloadError(__cause__=ContentEncodingError()):
            message = UNREADABLE
            is_retryable = False
        case aiohttp.ClientResponseError():
            message = UNREADABLE
        case _:
            message = CUT if is_heard else NO_ANSWER
            reason = "cut" if is_heard else "no answer"
    return AttemptError(ModelError(message, reason=reason), is_retryable=is_retryable)


def is_success(response: aiohttp.ClientResponse) -> bool:
    """Whether the status says that the call was carried out."""
    return HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES


def refusal(response: aiohttp.ClientResponse, body: bytes) -> AttemptError:
    """What an answer means that is no success."""
    return upstream_errors.of_status(response.status, response.headers, body, now=datetime.now(UTC))


async def error_body(response: aiohttp.ClientResponse) -> bytes:
    """An error's words, as far as they arrive: the status says the most already."""
    body = bytearray()
    try:
        while len(body) <= LONGEST_ERROR_BODY_BYTES and (piece := await next_piece(response)):
            body += piece
    except (aiohttp.ClientError, TimeoutError):
        pass
    return bytes(body[:LONGEST_ERROR_BODY_BYTES])


async def whole_answer(response: aiohttp.ClientResponse) -> bytes:
    """The answer's body; AttemptError if it is larger than any that was meant."""
    body = bytearray()
    while piece := await next_piece(response):
        body += piece
        if len(body) > LONGEST_ANSWER_BYTES:
            raise AttemptError(
                ModelError(
                    f"The model server's answer has more than {LONGEST_ANSWER_BYTES} bytes.",
                    reason="too long",
                )
            )
    return bytes(body)


async def next_piece(response: aiohttp.ClientResponse, *, is_finished: bool = False) -> bytes:
    """All bytes that are there, or the next ones; none at the end.

    An answer that is finished also ends where it breaks off or falls silent.
    """
    content = response.content
    try:
        if not is_finished:
            return await content.readany()
        async with asyncio.timeout(AFTER_FINISH_SECONDS):
            return await content.readany()
    except (aiohttp.ClientError, TimeoutError):
        # aiohttp tells of a break before it gives what came before the break; in our order the
        # break is told by the next call.
        piece = content._read_nowait(-1)
        if piece or is_finished:
            return piece
        raise
    except RuntimeError as error:
        # Its word for a connection that has gone since the last piece.
        if is_finished:
            return b""
        raise aiohttp.ClientPayloadError("The connection is gone.") from error
