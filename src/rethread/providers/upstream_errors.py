"""What a failed model call means: which error it becomes, and whether to try again. Pure.

Model servers put their words in four places: `{"error": {"message"}}` (OpenAI, vLLM, llama.cpp),
`{"error": "…"}` (Ollama), `{"detail"}` (FastAPI) and plain text. Whoever reads a failed run
shall read those words, with the status, and never an API key.
"""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import msgspec

from rethread.errors import ModelError, ModelErrorCode

# 409: "try again" for the OpenAI SDKs too; some gateways send it while a model is loading.
RETRYABLE_STATUSES: Final = frozenset({408, 409, 429, *range(500, 600)})
LONGEST_OBEYED_WAIT_SECONDS: Final = 60.0
LONGEST_BACKOFF_SECONDS: Final = 8.0
LONGEST_QUOTE: Final = 500

# `code` or `type` of an error that blames the prompt.
PROMPT_CODES: Final = frozenset(
    {
        "context_length_exceeded",
        "content_filter",
        "content_policy_violation",
        "exceed_context_size_error",
        "invalid_prompt",
        "string_above_max_length",
    }
)
# vLLM, Ollama and many gateways have no code for a prompt that is too long, only words.
PROMPT_PHRASES: Final = ("context length", "context size", "context window", "prompt is too long")

# A 429 that waiting does not cure.
SPENT_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


class AttemptError(Exception):
    """One attempt that failed: the `ModelError` it would be, and whether another may help.

    `asked_wait_seconds` is the server's own word on when to come back. `refuses_stream_options`:
    it may do without them.
    """

    def __init__(
        self,
        error: ModelError,
        *,
        is_retryable: bool = False,
        asked_wait_seconds: float | None = None,
        refuses_stream_options: bool = False,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.is_retryable = is_retryable
        self.asked_wait_seconds = asked_wait_seconds
        self.refuses_stream_options = refuses_stream_options


def of_status(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> AttemptError:
    """The failure behind an HTTP status that is not a success."""
    said = _decoded(body)
    words = _quote(_words(said)) or _phrase(status)
    codes = _codes(said)
    return AttemptError(
        ModelError(
            f"The model server answered with status {status}: {words}",
            code=_error_code(status, codes, words),
            reason=f"status {status}",
        ),
        is_retryable=status in RETRYABLE_STATUSES and codes.isdisjoint(SPENT_CODES),
        asked_wait_seconds=_asked_wait_seconds(headers, now),
        refuses_stream_options=status in {400, 422} and b"stream_options" in body,
    )


def of_record(record: bytes) -> AttemptError | None:
    """The failure that a record of a stream tells of, if it does.

    An error that carries an HTTP status is judged like that status, as gateways send one when
    the server behind them refused; without one it is final.
    """
    said = _decoded(record)
    if not isinstance(said, dict):
        return None
    is_vllm_error = said.get("object") == "error"
    if not said.get("error") and not is_vllm_error:
        return None
    status = _status(said)
    words = _quote(_words(said)) or "no reason given"
    return AttemptError(
        ModelError(
            f"The model server reported an error in its stream: {words}",
            code=_error_code(status, _codes(said), words),
            reason="error in stream" if status is None else f"status {status} in stream",
        ),
        is_retryable=status in RETRYABLE_STATUSES,
    )


def backoff_seconds(attempt: int, *, base_seconds: float) -> float:
    """How long to wait after attempt number `attempt` (from 1): doubling, with jitter.

    The jitter takes up to half away, so that runs which failed together do not return together.
    """
    longest = min(base_seconds * 2.0 ** (attempt - 1), LONGEST_BACKOFF_SECONDS)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret depends on it


def redacted(text: str, secret: str | None) -> str:
    """`text` without the API key, should the server have repeated it."""
    return text.replace(secret, "[API key]") if secret else text


def _error_code(status: int | None, codes: frozenset[str], words: str) -> ModelErrorCode:
    if status == 429 or "rate_limit_exceeded" in codes:
        return "rate_limit_exceeded"
    blames_prompt = not codes.isdisjoint(PROMPT_CODES) or any(
        phrase in words.lower() for phrase in PROMPT_PHRASES
    )
    if status == 413 or (blames_prompt and status in {None, 400, 422}):
        return "invalid_prompt"
    return "server_error"


def _decoded(body: bytes) -> Any:
    """The body as JSON, or as text where it isn't."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")


def _words(said: Any) -> str:
    """The sentence in an error body; whatever shape it has, something readable."""
    if isinstance(said, str):
        return said
    if isinstance(said, dict):
        for key in ("error", "message", "detail"):
            if said.get(key):
                return _words(said[key])
    return "" if said in ({}, [], None) else msgspec.json.encode(said).decode()


def _codes(said: Any) -> frozenset[str]:
    """Every `code` and `type` of an error body, OpenAI's nesting or not."""
    if not isinstance(said, dict):
        return frozenset()
    own = {said[key] for key in ("code", "type") if isinstance(said.get(key), str)}
    return frozenset(own) | _codes(said.get("error"))


def _status(said: dict[str, Any]) -> int | None:
    """The HTTP status that an error in a stream carries as its `code`."""
    error = said.get("error")
    code = (error if isinstance(error, dict) else said).get("code")
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _quote(words: str) -> str:
    words = words.strip()
    return words if len(words) <= LONGEST_QUOTE else words[:LONGEST_QUOTE] + "…"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def _asked_wait_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """`retry-after-ms` (OpenAI's), or `retry-after` in seconds or as a date; None without."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    asked = headers.get("retry-after", "")
    seconds = _number(asked)
    return seconds if seconds is not None else _seconds_until(asked, now)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    # Also refuses NaN, which is not >= 0.
    return number if number >= 0 else None


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
