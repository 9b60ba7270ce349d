"""What clients see, and what all resources share: ids, metadata, pages, deletions.

The types here validate requests, are stored, and are the answers; the OpenAPI document is
made from them. An explicit null means absent, so every optional request field takes None.
Source: OpenAI's OpenAPI document for the Assistants API v2, mended where real traffic differs.
"""

import os
import re
import time
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Raw, Struct

from rethread.errors import Invalid, shortened

Prefix = Literal[
    "asst", "thread", "msg", "run", "step", "call", "key", "file", "vs", "vsfb", "upload", "part"
]

MAX_TEXT_CHARACTERS: Final = 256_000

MetadataKey = Annotated[str, Meta(max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=16)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARACTERS)]


def id_pattern(prefix: Prefix) -> str:
    """What `check_id` accepts, as a regular expression for the OpenAPI document."""
    return f"^{prefix}[A-Za-z0-9_-]*$"


AssistantId = Annotated[str, Meta(extra_json_schema={"pattern": id_pattern("asst")})]
FileId = Annotated[str, Meta(extra_json_schema={"pattern": id_pattern("file")})]
VectorStoreId = Annotated[str, Meta(extra_json_schema={"pattern": id_pattern("vs")})]
PartId = Annotated[str, Meta(extra_json_schema={"pattern": id_pattern("part")})]

HEX_PREFIXES: Final = frozenset({"vs", "vsfb", "upload", "part"})

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_CHARACTERS: Final = re.compile(r"[A-Za-z0-9_-]*\Z")


class Request(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A request body: its types are checked while it is decoded, its other rules by `check`."""

    def check(self, at: str = "") -> None:
        """Raise Invalid where the rules between fields are broken; `at` prefixes field names."""


class Deleted(Struct, frozen=True):
    """The answer to a deletion; `object` names what was deleted, as in `thread.deleted`."""

    id: str
    object: str
    deleted: bool = True


class Page(Struct, frozen=True):
    """One page of a list; `data` holds the objects as they were stored."""

    data: list[Raw]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class ErrorDetail(Struct, frozen=True):
    """What went wrong: `param` names the field, `code` the rule."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str | None


class ErrorBody(Struct, frozen=True):
    """Every error answer, all four keys always there."""

    error: ErrorDetail


class ModelObject(Struct, frozen=True):
    """A model that can be named in `model`."""

    id: str
    created: int
    owned_by: str
    object: Literal["model"] = "model"


class ModelPage(Struct, frozen=True):
    """The models; never paged."""

    data: list[ModelObject]
    object: Literal["list"] = "list"


def new_id(prefix: Prefix) -> str:
    """A new id, as OpenAI's are: of 24 base-62 characters, of 32 hexadecimal ones, or a file's.

    They begin with the time in milliseconds: rows made together stay together in an index,
    which keeps appends cheap. The order of a list never comes from them.
    """
    milliseconds = time.time_ns() // 1_000_000
    if prefix in HEX_PREFIXES:
        return f"{prefix}_{milliseconds:012x}{os.urandom(10).hex()}"
    mark, width = ("-", 15) if prefix == "file" else ("_", 17)
    number = int.from_bytes(os.urandom(13))
    return f"{prefix}{mark}{_base62(milliseconds, 7)}{_base62(number, width)}"


def check_id(value: str, prefix: Prefix, *, param: str) -> str:
    """The id itself; Invalid in OpenAI's words when it can't be one of that kind."""
    if not value.startswith(prefix):
        raise Invalid(
            f"Invalid '{param}': '{shortened(value)}'. Expected an ID that begins with '{prefix}'.",
            param=param,
            code="invalid_value",
        )
    if not ID_CHARACTERS.match(value):
        raise Invalid(
            f"Invalid '{param}': '{shortened(value)}'. Expected an ID that contains "
            "letters, numbers, underscores, or dashes, but this value contained additional "
            "characters.",
            param=param,
            code="invalid_value",
        )
    return value


def _base62(number: int, width: int) -> str:
    """The last `width` base-62 digits of a number, so that text order is number order."""
    digits: list[Any] = [""] * width
    for place in range(width - 1, -1, -1):
        number, digit = divmod(number, 62)
        digits[place] = ALPHABET[digit]
    return "".join(digits)
