"""Errors as answers: the one place that maps them to statuses and OpenAI's words."""

from typing import Final

from rethread import errors
from rethread.http.codec import error_body
from rethread.http.request import Reply

RETRY_AFTER: Final = (b"retry-after", b"1")


def refusal(problem: errors.RethreadError) -> Reply:
    """The answer that an error is."""
    message = problem.message
    match problem:
        case errors.Invalid(param=param, code=code):
            return Reply(error_body(message, param=param, code=code), 400)
        case errors.UnknownModel():
            return Reply(error_body(message, param="model", code="model_not_found"), 404)
        case errors.NotFound(param=param):
            return Reply(error_body(message, param=param), 404)
        case errors.Forgotten():
            return Reply(error_body(message, code="events_expired"), 404)
        # Never 409 for a lock: the stock SDKs send those again, three times in all.
        case errors.Conflict():
            return Reply(error_body(message), 400)
        case errors.KeyReused():
            code = "idempotency_key_reused"
            return Reply(error_body(message, code=code), 409, (DO_NOT_RETRY,))
        case errors.Unauthorized(code=code):
            return Reply(error_body(message, code=code), 401)
        case errors.Forbidden(code=code):
            return Reply(error_body(message, code=code), 403)
        case errors.TooLarge():
            return Reply(error_body(message, code="request_too_large"), 413, (CLOSE,))
        case errors.TooSlow():
            return Reply(error_body(message, code="request_timeout"), 408, (CLOSE,))
        case errors.Raced() | errors.Unavailable():
            return Reply(error_body(message, type="server_error"), 503, (RETRY_AFTER,))
        case _:
            return Reply(error_body(message, type="server_error"), 500)


# What else clients of OpenAI's know: a 404 alone would look like a wrong address.
NOT_SERVED: Final = frozenset({"chat", "responses"})
CLOSE: Final = (b"connection", b"close")
DO_NOT_RETRY: Final = (b"x-should-retry", b"false")
RETRY: Final = (b"x-should-retry", b"true")


def fault(request_id: str) -> Reply:
    """The answer to what should not happen: it says nothing but the request's id."""
    message = (
        "The server had an error processing your request. Sorry about that! You can retry your "
        f"request. (Please include the request ID {request_id} when you report it.)"
    )
    return Reply(error_body(message, type="server_error"), 500)


def no_such_path(method: str, path: str) -> Reply:
    """The answer to a path that is not served."""
    message = f"Invalid URL ({method} {path})"
    if not NOT_SERVED.isdisjoint(path.split("/")):
        message += ". This version of rethread does not serve that part of OpenAI's API."
    return Reply(error_body(message, code="unknown_url"), 404)


def no_such_method(method: str, path: str, allowed: list[str]) -> Reply:
    """The answer to a method that a path does not have."""
    message = f"Not allowed to {method} on {path}. Allowed: {', '.join(allowed)}."
    headers = ((b"allow", ", ".join(allowed).encode()),)
    return Reply(error_body(message, code="method_not_supported"), 405, headers)


def check_beta(value: str | None) -> None:
    """Refuse another version than v2; an absent header is fine (gateways leave it out)."""
    if value is not None and "assistants=v2" not in [part.strip() for part in value.split(",")]:
        raise errors.Invalid(
            "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try "
            "again by setting the header 'OpenAI-Beta: assistants=v2'.",
            code="invalid_beta",
        )
