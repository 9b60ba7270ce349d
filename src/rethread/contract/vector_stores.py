"""Vector stores: files that were read and indexed together, so that they can be searched.

What is shown of a store, a file or a batch is put together when somebody asks (`store/`): its
status and its counts are what became of its files, and stand nowhere else.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, NamedTuple, Self

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from rethread.contract import FileId, Metadata, Request, check_id, new_id
from rethread.contract.tools import Strict
from rethread.errors import Invalid

FileStatus = Literal["in_progress", "completed", "cancelled", "failed"]
StoreStatus = Literal["expired", "in_progress", "completed"]
ReadingErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]

MAX_FILES_A_STORE: Final = 10_000
MAX_FILES_AT_ONCE: Final = 500
DAY_SECONDS: Final = 24 * 60 * 60

Name = Annotated[str, Meta(max_length=256)]
Description = Annotated[str, Meta(max_length=512)]
FileIds = Annotated[list[FileId], Meta(max_length=MAX_FILES_AT_ONCE)]
AttributeKey = Annotated[str, Meta(max_length=64)]
AttributeText = Annotated[str, Meta(max_length=512)]
WholeNumber = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Attribute = AttributeText | WholeNumber | float | bool
Attributes = Annotated[dict[AttributeKey, Attribute], Meta(max_length=16)]


class StoreExpiresAfter(Strict, frozen=True):
    """How long a store is kept that nobody uses."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Meta(ge=1, le=365)]


class ChunkSizes(Strict, frozen=True):
    """How a text is divided, in tokens."""

    max_chunk_size_tokens: Annotated[int, Meta(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Meta(ge=0, le=2048)]


class AutoChunking(Strict, tag_field="type", tag="auto", frozen=True):
    """Chunks as the server makes them unasked."""


class StaticChunking(Strict, tag_field="type", tag="static", frozen=True):
    """Chunks of a size that is asked for."""

    static: ChunkSizes

    def check(self, at: str) -> None:
        """An overlap is half of a chunk at the most."""
        most = self.static.max_chunk_size_tokens // 2
        if self.static.chunk_overlap_tokens > most:
            path = f"{at}static.chunk_overlap_tokens"
            raise Invalid(
                f"Invalid '{path}': integer above maximum value. Expected a value <= {most}, half "
                f"of max_chunk_size_tokens, but got {self.static.chunk_overlap_tokens} instead.",
                param=path,
                code="integer_above_max_value",
            )


ChunkingStrategy = AutoChunking | StaticChunking

AUTO: Final = ChunkSizes(max_chunk_size_tokens=800, chunk_overlap_tokens=400)


def sizes_of(strategy: ChunkingStrategy | None) -> ChunkSizes:
    """The sizes that a strategy stands for; without one, those of `auto`."""
    return strategy.static if isinstance(strategy, StaticChunking) else AUTO


class CreateVectorStore(Request, frozen=True):
    """POST /vector_stores"""

    name: Name | None = None
    description: Description | None = None
    file_ids: FileIds | None = None
    chunking_strategy: ChunkingStrategy | None = None
    expires_after: StoreExpiresAfter | None = None
    metadata: Metadata | None = None

    def check(self, at: str = "") -> None:
        """The files' ids, and the sizes of chunks."""
        _check_file_ids(self.file_ids or [], f"{at}file_ids")
        _check_strategy(self.chunking_strategy, at)


class ModifyVectorStore(Request, frozen=True):
    """POST /vector_stores/{vector_store_id}: what is absent stays as it is."""

    name: Name | None = None
    expires_after: StoreExpiresAfter | None = None
    metadata: Metadata | None = None


class FileToAdd(Strict, frozen=True):
    """A file and how it is to be read."""

    file_id: FileId
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class CreateVectorStoreFile(Request, frozen=True):
    """POST /vector_stores/{vector_store_id}/files"""

    file_id: FileId
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None

    def check(self, at: str = "") -> None:
        """The file's id, and the sizes of chunks."""
        check_id(self.file_id, "file", param=f"{at}file_id")
        _check_strategy(self.chunking_strategy, at)


class ModifyVectorStoreFile(Request, frozen=True):
    """POST /vector_stores/{vector_store_id}/files/{file_id}: null takes the attributes away."""

    attributes: Attributes | None | UnsetType = UNSET

    def check(self, at: str = "") -> None:
        """There is something to modify."""
        if self.attributes is UNSET:
            raise Invalid(
                f"Missing required parameter: '{at}attributes'.",
                param=f"{at}attributes",
                code="missing_required_parameter",
            )


class CreateFileBatch(Request, frozen=True):
    """POST /vector_stores/{vector_store_id}/file_batches

    With `files`, each has its own attributes and chunks, and those beside it are passed over.
    """

    file_ids: FileIds | None = None
    files: Annotated[list[FileToAdd], Meta(max_length=MAX_FILES_AT_ONCE)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None

    def check(self, at: str = "") -> None:
        """Either `file_ids` or `files`, with something in it."""
        _check_file_ids(self.file_ids or [], f"{at}file_ids")
        for index, file in enumerate(self.files or []):
            check_id(file.file_id, "file", param=f"{at}files[{index}].file_id")
            _check_strategy(file.chunking_strategy, f"{at}files[{index}].")
        _check_strategy(self.chunking_strategy, at)
        if self.file_ids and self.files:
            raise Invalid(
                "Only one of 'file_ids' and 'files' can be given.",
                param=f"{at}files",
                code="mutually_exclusive_parameters",
            )
        if not self.file_ids and not self.files:
            raise Invalid(
                "Missing required parameter: one of 'file_ids' and 'files', with a file in it.",
                param=f"{at}file_ids",
                code="missing_required_parameter",
            )

    @property
    def to_add(self) -> list[FileToAdd]:
        """Each file and how it is to be read."""
        return self.files or [
            FileToAdd(
                file_id=file_id,
                attributes=self.attributes,
                chunking_strategy=self.chunking_strategy,
            )
            for file_id in self.file_ids or []
        ]


class CancelFileBatch(Request, frozen=True):
    """POST /vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel: it takes nothing."""


class ListVectorStoreFiles(Request, frozen=True):
    """The lists of files in a store and in a batch, beside the parameters of every list."""

    filter: FileStatus | None = None


def counts_of(statuses: Iterable[FileStatus]) -> "FileCounts":
    """How many there are of each status."""
    counted = Counter[str](statuses)
    return FileCounts(**counted, total=counted.total())


class FileCounts(Struct, frozen=True, kw_only=True):
    """How many files are how far."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class VectorStore(Struct, frozen=True, kw_only=True):
    """A vector store, as it is shown. The SDK's type wants a name: one without has an empty one."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str
    description: str | None
    usage_bytes: int
    file_counts: FileCounts
    status: StoreStatus
    expires_after: StoreExpiresAfter | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]


class StoreBody(Struct, frozen=True, kw_only=True):
    """What is kept of a store that has no column of its own."""

    name: str = ""
    description: str | None = None
    metadata: dict[str, str] = {}


class ReadingError(Struct, frozen=True):
    """Why a file was not read."""

    code: ReadingErrorCode
    message: str


class ShownChunking(Struct, frozen=True):
    """How a file's text was divided: always told as sizes, also where `auto` was asked for."""

    static: ChunkSizes
    type: Literal["static"] = "static"


class VectorStoreFile(Struct, frozen=True, kw_only=True):
    """A file in a store, as it is shown; it has the file's own id."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    usage_bytes: int
    created_at: int
    vector_store_id: str
    status: FileStatus
    last_error: ReadingError | None
    chunking_strategy: ShownChunking
    attributes: dict[str, str | int | float | bool]

    @classmethod
    def new(cls, asked: "FileToAdd", *, store_id: str, now: int) -> Self:
        """A file that was just added, and is to be read."""
        return cls(
            id=asked.file_id,
            usage_bytes=0,
            created_at=now,
            vector_store_id=store_id,
            status="in_progress",
            last_error=None,
            chunking_strategy=ShownChunking(sizes_of(asked.chunking_strategy)),
            attributes=asked.attributes or {},
        )

    def added_again(self, asked: "FileToAdd", *, now: int) -> Self:
        """What it is after it was added once more: read anew only where that gives another text."""
        sizes = sizes_of(asked.chunking_strategy)
        if self.status in ("failed", "cancelled") or self.chunking_strategy.static != sizes:
            return self.new(asked, store_id=self.vector_store_id, now=now)
        return self.with_attributes(asked.attributes)

    def with_attributes(self, attributes: dict[str, str | int | float | bool] | None) -> Self:
        """The file with these attributes in the place of others."""
        return structs.replace(self, attributes=attributes or {})


class FileBatch(Struct, frozen=True, kw_only=True):
    """Files that were added together, as they are shown; `object` is as the SDK's type has it."""

    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: str
    status: FileStatus
    file_counts: FileCounts

    @classmethod
    def new(cls, counts: FileCounts, *, store_id: str, now: int) -> Self:
        """A batch that was just added."""
        return cls(
            id=new_id("vsfb"),
            created_at=now,
            vector_store_id=store_id,
            status=batch_status(counts, is_cancelled=False),
            file_counts=counts,
        )


def batch_status(counts: FileCounts, *, is_cancelled: bool) -> FileStatus:
    """The status of a batch; one that was cancelled too late to stop a file is completed."""
    if counts.in_progress:
        return "in_progress"
    if is_cancelled:
        return "cancelled"
    return "failed" if counts.failed and counts.failed == counts.total else "completed"


class TextContent(Struct, frozen=True):
    """A piece of a file's text."""

    text: str
    type: Literal["text"] = "text"


class FileContent(Struct, frozen=True):
    """What was read in a file; always all of it."""

    data: list[TextContent]
    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    has_more: bool = False
    next_page: None = None


class AttributeRow(NamedTuple):
    """An attribute as it is kept for filters: a text, or a number that may stand for a boolean."""

    key: str
    kind: Literal["text", "number", "boolean"]
    text: str | None
    number: float | None


def attribute_rows(attributes: dict[str, str | int | float | bool]) -> list[AttributeRow]:
    """A file's attributes one by one. PostgreSQL's text has no place for a NUL."""
    return [_attribute_row(kept_text(key), value) for key, value in attributes.items()]


def kept_text(text: str) -> str:
    """A text of an attribute as it is kept for filters, and as they have to ask for it."""
    return text.replace("\0", "\ufffd")


def _attribute_row(key: str, value: str | float | bool) -> AttributeRow:
    match value:
        case str():
            return AttributeRow(key, "text", kept_text(value), None)
        case bool():
            return AttributeRow(key, "boolean", None, float(value))
        case _:
            return AttributeRow(key, "number", None, float(value))


def _check_file_ids(file_ids: Sequence[str], at: str) -> None:
    for index, file_id in enumerate(file_ids):
        check_id(file_id, "file", param=f"{at}[{index}]")


def _check_strategy(strategy: ChunkingStrategy | None, at: str) -> None:
    if isinstance(strategy, StaticChunking):
        strategy.check(f"{at}chunking_strategy.")
