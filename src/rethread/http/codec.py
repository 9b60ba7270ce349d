"""Bytes to a checked type, with the contract's words when they don't fit; and back to bytes."""

import math
import re
from collections.abc import Collection
from functools import cache
from typing import Any, Final, Literal, TypeVar, get_args

import msgspec

from rethread.contract import Deleted, ErrorBody, ErrorDetail, Page
from rethread.contract import Request as Asked
from rethread.contract.steps import Include
from rethread.errors import Invalid, shortened
from rethread.http.explain import explain, listed, without_unknown
from rethread.http.request import Reply, Request
from rethread.store.pages import Found, PageRequest

A = TypeVar("A", bound=Asked)

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,100}\Z")
MAX_EXACT: Final = 2**53  # floats are whole numbers from here on, whatever was written
MAX_NESTING: Final = 128  # levels of JSON; some way below where decoders and walkers give up

encode: Final = msgspec.json.Encoder().encode


def decode(request: Request, wanted: type[A]) -> A:
    """The body as its type; Invalid, in OpenAI's words, if it is not one. An empty body is `{}`."""
    body = request.body if request.body.strip() else b"{}"
    if body.count(b"{") + body.count(b"[") > MAX_NESTING:
        _check_nesting(body)
    try:
        asked: A = _decoder(wanted).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        ignoring = request.services.options.ignore_unknown_fields
        asked = _decode_slowly(body, wanted, ignore_unknown=ignoring)
    asked.check()
    return asked


def fitted(value: Any, wanted: type[A], *, ignore_unknown: bool = False) -> A:
    """A value without a type yet as its type; Invalid, in OpenAI's words, if it is not one."""
    if ignore_unknown:
        value = without_unknown(value, wanted)
    try:
        return msgspec.convert(value, wanted)
    except (msgspec.ValidationError, RecursionError) as problem:
        raise (explain(value, wanted) or Invalid(f"Invalid body: {problem}.")) from problem


def reply(body: bytes) -> Reply:
    """The answer that shows an object."""
    return Reply(body)


def page_reply(found: Found) -> Reply:
    """The answer that shows a page: the stored bodies, spliced."""
    rows = found.rows
    page = Page(
        data=[msgspec.Raw(body) for _, body in rows],
        first_id=rows[0][0] if rows else None,
        last_id=rows[-1][0] if rows else None,
        has_more=found.has_more,
    )
    return Reply(encode(page))


def deleted_reply(id: str, object: str) -> Reply:
    """The answer to a deletion."""
    return Reply(encode(Deleted(id, object)))


def error_body(
    message: str,
    *,
    type: Literal["invalid_request_error", "server_error"] = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
) -> bytes:
    """An error in OpenAI's shape."""
    # A message may quote what the client sent, which need not be valid Unicode.
    clean = message.encode("utf-8", "replace").decode()
    shown = None if param is None else param.encode("utf-8", "replace").decode()
    return encode(ErrorBody(ErrorDetail(clean, type, shown, code)))


def query_values(request: Request, names: Collection[str]) -> dict[str, str]:
    """These parameters of a query; others are passed over, repeated ones refused.

    An empty one is absent: so some SDKs send a null.
    """
    values: dict[str, str] = {}
    for name, value in request.query():
        if name not in names:
            continue
        if name in values:
            raise duplicate(name)
        values[name] = value
    return {name: value for name, value in values.items() if value}


def duplicate(name: str) -> Invalid:
    """What to say of a parameter that is there twice."""
    return Invalid(
        f"Duplicate parameter: '{shortened(name)}'. You provided multiple values for this "
        "parameter, whereas only one is allowed.",
        param=name,
        code="duplicate_parameter",
    )


def page_request(
    request: Request, *, default_limit: int = DEFAULT_LIMIT, max_limit: int = MAX_LIMIT
) -> PageRequest:
    """The paging parameters of a query."""
    values = query_values(request, ("limit", "order", "after", "before"))
    order = values.get("order", "desc")
    if order not in ("asc", "desc"):
        raise Invalid(
            f"Invalid value: '{shortened(order)}'. Supported values are: 'asc' and 'desc'.",
            param="order",
            code="invalid_value",
        )
    return PageRequest(
        limit=_limit(values.get("limit"), default_limit, max_limit),
        order="asc" if order == "asc" else "desc",
        after=values.get("after"),
        before=values.get("before"),
    )


def includes_content(request: Request) -> bool:
    """Whether `include[]` asks for what searches have found; Invalid for all else."""
    allowed = get_args(Include)
    named = [value for name, value in request.query() if name in ("include", "include[]")]
    for value in named:
        if value not in allowed:
            raise Invalid(
                f"Invalid value: '{shortened(value)}'. Supported values are: {listed(allowed)}.",
                param="include",
                code="invalid_value",
            )
    return bool(named)


def _limit(value: str | None, default: int, most: int) -> int:
    if value is None:
        return default
    if not WHOLE_NUMBER.match(value):
        raise Invalid(
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            param="limit",
            code="invalid_type",
        )
    limit = int(value)
    if limit < 1:
        raise Invalid(
            f"Invalid 'limit': integer below minimum value. Expected a value >= 1, but got {limit} "
            "instead.",
            param="limit",
            code="integer_below_min_value",
        )
    if limit > most:
        raise Invalid(
            f"Invalid 'limit': integer above maximum value. Expected a value <= {most}, but "
            f"got {limit} instead.",
            param="limit",
            code="integer_above_max_value",
        )
    return limit


@cache
def _decoder(wanted: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted)


def _decode_slowly(body: bytes, wanted: type[A], *, ignore_unknown: bool) -> A:
    """Decode what did not fit once more without its type, to say what is wrong with it."""
    return fitted(_any_json(body), wanted, ignore_unknown=ignore_unknown)


def _any_json(body: bytes) -> Any:
    try:
        body.decode("utf-8")
        return _any_decoder.decode(body)
    except UnicodeDecodeError as problem:
        raise Invalid(f"The body of your request is not valid UTF-8: {problem}.") from problem
    except RecursionError as problem:
        raise _too_deep() from problem
    except (msgspec.DecodeError, ValueError) as problem:
        raise Invalid(
            "We could not parse the JSON body of your request. (HINT: This likely means you "
            "aren't using your HTTP library correctly. The API expects a JSON payload, but what "
            f"was sent was not valid JSON: {problem}.)"
        ) from problem


def _number(text: str) -> float:
    """A number that was written with a point or an exponent; 1.0 is an integer, as JSON has it."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is out of range")
    return int(value) if value.is_integer() and abs(value) < MAX_EXACT else value


_any_decoder: Final = msgspec.json.Decoder(float_hook=_number)


def _check_nesting(body: bytes) -> None:
    """Refuse what is nested deeper than those can follow who walk it later on."""
    try:
        level: list[Any] = [msgspec.json.decode(body)]
    except RecursionError as problem:
        raise _too_deep() from problem
    except (msgspec.DecodeError, ValueError):
        return  # said better by whoever knows what was wanted
    for _ in range(MAX_NESTING):
        members = (
            member
            for value in level
            for member in (value.values() if isinstance(value, dict) else value)
        )
        level = [member for member in members if isinstance(member, dict | list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> Invalid:
    return Invalid(
        f"The body of your request is nested too deeply: {MAX_NESTING} levels are the most."
    )
