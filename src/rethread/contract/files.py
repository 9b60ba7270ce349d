"""Files: bytes that were uploaded, with a name that is never a path."""

from typing import Annotated, Final, Literal, Self, get_args

from msgspec import Meta, Struct

from rethread.contract import Request, new_id
from rethread.contract.tools import Strict
from rethread.errors import Invalid, shortened

Purpose = Literal["fine-tune", "assistants", "batch", "user_data", "vision", "evals"]
# What a list may be filtered by: also what OpenAI's own services made.
AnyPurpose = Literal[
    "fine-tune",
    "assistants",
    "batch",
    "user_data",
    "vision",
    "evals",
    "assistants_output",
    "batch_output",
    "fine-tune-results",
]

MAX_NAME_CHARACTERS: Final = 255
LEAST_SECONDS: Final = 3600
MOST_SECONDS: Final = 30 * 24 * 3600

# A text to the decoder: OpenAI has words of its own for one that is none of these.
AskedPurpose = Annotated[str, Meta(extra_json_schema={"enum": list(get_args(Purpose))})]
FileName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]


class ExpiresAfter(Strict, frozen=True):
    """How long a file is kept, from its creation on."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=LEAST_SECONDS, le=MOST_SECONDS)]


class ListFiles(Request, frozen=True):
    """GET /files, beside the parameters of every list."""

    purpose: AnyPurpose | None = None


class CreateFile(Request, frozen=True):
    """POST /files, as a form; `file` is what the part of that name says its name is."""

    file: FileName
    purpose: AskedPurpose
    expires_after: ExpiresAfter | None = None

    def check(self, at: str = "") -> None:
        """The purpose."""
        check_purpose(self.purpose)


class File(Struct, frozen=True, kw_only=True):
    """A file, as it is stored and shown: it is ready as soon as there is one."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: AnyPurpose
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def new(
        cls, *, filename: str, size: int, purpose: str, expires_after: int | None, now: int
    ) -> Self:
        """A file that is whole; `expires_after` in seconds."""
        return cls(
            id=new_id("file"),
            bytes=size,
            created_at=now,
            expires_at=None if expires_after is None else now + expires_after,
            filename=filename,
            purpose=check_purpose(purpose),
        )

    @classmethod
    def made(cls, *, filename: str, size: int, now: int) -> Self:
        """A file that code has made."""
        return cls(
            id=new_id("file"),
            bytes=size,
            created_at=now,
            filename=filename[:MAX_NAME_CHARACTERS],
            purpose="assistants_output",
        )


def check_purpose(value: str) -> Purpose:
    """What a file may be uploaded for; else Invalid, in OpenAI's words."""
    purposes: tuple[Purpose, ...] = get_args(Purpose)
    for purpose in purposes:
        if purpose == value:
            return purpose
    raise Invalid(
        f"'{shortened(value)}' is not one of {list(purposes)} - 'purpose'", param="purpose"
    )
