"""Uploads: a file that comes in parts, in any order, and is put together in the end."""

from typing import Annotated, Any, Final, Literal, Self

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from rethread.contract import PartId, Request, check_id, new_id
from rethread.contract.files import (
    AskedPurpose,
    ExpiresAfter,
    File,
    FileName,
    Purpose,
    check_purpose,
)

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]

PENDING_SECONDS: Final = 3600
MAX_PART_BYTES: Final = 64 * 1024 * 1024
MAX_PARTS: Final = 10_000
MIME_TYPE_CHARACTERS: Final = 255
MD5: Final = r"^[0-9A-Fa-f]{32}\Z"


class CreateUpload(Request, frozen=True):
    """POST /uploads; how many bytes it may have is the server's setting."""

    filename: FileName
    purpose: AskedPurpose
    bytes: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    mime_type: Annotated[str, Meta(max_length=MIME_TYPE_CHARACTERS)]
    expires_after: ExpiresAfter | None = None

    def check(self, at: str = "") -> None:
        """The purpose."""
        check_purpose(self.purpose)


class AddUploadPart(Request, frozen=True):
    """POST /uploads/{upload_id}/parts, as a form; nobody asks for the name of the file in it."""

    data: str


class CompleteUpload(Request, frozen=True):
    """POST /uploads/{upload_id}/complete: the parts in their order."""

    part_ids: Annotated[list[PartId], Meta(max_length=MAX_PARTS)]
    md5: Annotated[str, Meta(pattern=MD5)] | None = None

    def check(self, at: str = "") -> None:
        """The ids of the parts."""
        for index, part_id in enumerate(self.part_ids):
            check_id(part_id, "part", param=f"{at}part_ids[{index}]")


class CancelUpload(Request, frozen=True):
    """POST /uploads/{upload_id}/cancel: nothing to say."""


class Upload(Struct, frozen=True, kw_only=True):
    """An upload, as it is stored and shown; it has a `file` once it is completed."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    filename: str
    purpose: Purpose
    status: UploadStatus = "pending"
    expires_at: int
    file: File | UnsetType = UNSET

    @classmethod
    def new(cls, asked: CreateUpload, *, now: int) -> Self:
        """An upload that waits for its parts."""
        return cls(
            id=new_id("upload"),
            bytes=asked.bytes,
            created_at=now,
            filename=asked.filename,
            purpose=check_purpose(asked.purpose),
            expires_at=now + PENDING_SECONDS,
        )

    def ended(self, status: UploadStatus, **more: Any) -> Self:
        """The upload at its end."""
        return structs.replace(self, status=status, **more)


class UploadPart(Struct, frozen=True, kw_only=True):
    """A part that has arrived."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
