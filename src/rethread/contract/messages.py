"""Messages: what was said in a thread, by the user or by an assistant."""

from typing import Annotated, Any, Final, Literal, Self

from msgspec import UNSET, Meta, Struct, UnsetType, structs
from msgspec.json import Decoder

from rethread.contract import FileId, Metadata, Request, Text, check_id, new_id
from rethread.contract.tools import AttachmentTool, Strict
from rethread.errors import Invalid

Detail = Literal["auto", "low", "high"]
# In any case: what `_check_image_url` accepts.
IMAGE_URL: Final = "^([Hh][Tt][Tt][Pp][Ss]?://|[Dd][Aa][Tt][Aa]:[Ii][Mm][Aa][Gg][Ee]/)"
ImageUrl = Annotated[str, Meta(extra_json_schema={"pattern": IMAGE_URL})]
MessageStatus = Literal["in_progress", "incomplete", "completed"]
IncompleteReason = Literal[
    "content_filter", "max_tokens", "run_cancelled", "run_expired", "run_failed"
]


class TextInput(Strict, tag_field="type", tag="text", frozen=True):
    """Text, as a request gives it."""

    text: Text


class ImageUrlInput(Strict, frozen=True):
    """An image by its URL (http, https or data)."""

    url: ImageUrl
    detail: Detail | None = None


class ImageUrlPart(Strict, tag_field="type", tag="image_url", frozen=True):
    """An image, which the model server fetches by itself."""

    image_url: ImageUrlInput


class ImageFileInput(Strict, frozen=True):
    """An image by the id of its file."""

    file_id: FileId
    detail: Detail | None = None


class ImageFilePart(Strict, tag_field="type", tag="image_file", frozen=True):
    """An image that was uploaded as a file."""

    image_file: ImageFileInput


InputPart = TextInput | ImageUrlPart | ImageFilePart


class FileCitation(Struct, frozen=True):
    """The file that an annotation cites."""

    file_id: str


class FileCitationAnnotation(Struct, frozen=True, tag_field="type", tag="file_citation"):
    """A citation: `text` stands in the value from `start_index` to `end_index`, in characters."""

    text: str
    start_index: int
    end_index: int
    file_citation: FileCitation


class FilePath(Struct, frozen=True):
    """The file that a path leads to."""

    file_id: str


class FilePathAnnotation(Struct, frozen=True, tag_field="type", tag="file_path"):
    """A file of code: `text` is its path, as the value links it from index to index."""

    text: str
    start_index: int
    end_index: int
    file_path: FilePath


Annotation = FileCitationAnnotation | FilePathAnnotation


class TextValue(Struct, frozen=True):
    """Text and what is annotated in it."""

    value: str
    annotations: list[Annotation] = []


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    """Text, as a message shows it."""

    text: TextValue


class RefusalPart(Struct, frozen=True, tag_field="type", tag="refusal"):
    """The model's refusal, in its words."""

    refusal: str


Part = TextPart | ImageUrlPart | ImageFilePart | RefusalPart


class Attachment(Strict, frozen=True):
    """A file, and the tools that it is for."""

    file_id: FileId
    tools: list[AttachmentTool]


class ModifyMessage(Request, frozen=True):
    """POST /threads/{thread_id}/messages/{message_id}"""

    metadata: Metadata | None = None


class CreateMessage(Request, frozen=True):
    """POST /threads/{thread_id}/messages, and the messages within other requests."""

    role: Literal["user", "assistant"]
    content: Text | Annotated[list[InputPart], Meta(min_length=1)]
    attachments: list[Attachment] | None = None
    metadata: Metadata | None = None

    def check(self, at: str = "") -> None:
        """The ids of files, and the URLs of images."""
        for index, attachment in enumerate(self.attachments or []):
            check_id(attachment.file_id, "file", param=f"{at}attachments[{index}].file_id")
        parts = [] if isinstance(self.content, str) else self.content
        for index, part in enumerate(parts):
            if isinstance(part, ImageFilePart):
                param = f"{at}content[{index}].image_file.file_id"
                check_id(part.image_file.file_id, "file", param=param)
            elif isinstance(part, ImageUrlPart):
                _check_image_url(part.image_url.url, f"{at}content[{index}].image_url.url")


class IncompleteDetails(Struct, frozen=True):
    """Why a message ended early."""

    reason: IncompleteReason


class Message(Struct, frozen=True, kw_only=True):
    """A message, as it is stored and shown."""

    id: str
    object: Literal["thread.message"] = "thread.message"
    created_at: int
    thread_id: str
    status: MessageStatus = "completed"
    incomplete_details: IncompleteDetails | None = None
    completed_at: int | None = None
    incomplete_at: int | None = None
    role: Literal["user", "assistant"]
    content: list[Part]
    assistant_id: str | None = None
    run_id: str | None = None
    attachments: list[Attachment] = []
    metadata: dict[str, str] = {}

    @classmethod
    def new(cls, asked: CreateMessage, *, thread_id: str, now: int) -> Self:
        """A message that a client adds: complete at once."""
        return cls(
            id=new_id("msg"),
            created_at=now,
            thread_id=thread_id,
            completed_at=now,
            role=asked.role,
            content=_shown(asked.content),
            attachments=asked.attachments or [],
            metadata=asked.metadata or {},
        )

    def modified(self, asked: ModifyMessage) -> Self:
        """The message with what was asked replaced."""
        if asked.metadata is None:
            return self
        return structs.replace(self, metadata=asked.metadata)


# Built while there is one thread: msgspec crashes where two make what it knows of a type at once.
decode_message: Final = Decoder(Message).decode


class QuotedCitation(Struct, frozen=True):
    """The file that a delta's annotation cites; OpenAI's have an empty `quote` here."""

    file_id: str
    quote: str = ""


class CitationDelta(Struct, frozen=True, kw_only=True, tag_field="type", tag="file_citation"):
    """The citation at `index` among the text's annotations."""

    index: int
    text: str
    start_index: int
    end_index: int
    file_citation: QuotedCitation


class FilePathDelta(Struct, frozen=True, kw_only=True, tag_field="type", tag="file_path"):
    """The link to a file of code, at `index` among the text's annotations."""

    index: int
    text: str
    start_index: int
    end_index: int
    file_path: FilePath


AnnotationDelta = CitationDelta | FilePathDelta


def as_shown(given: AnnotationDelta) -> Annotation:
    """An annotation as the message shows it that it was streamed into."""
    place = given.text, given.start_index, given.end_index
    if isinstance(given, FilePathDelta):
        return FilePathAnnotation(*place, given.file_path)
    return FileCitationAnnotation(*place, FileCitation(given.file_citation.file_id))


class TextDelta(Struct, frozen=True):
    """More of a text; a part's first delta has `annotations`, and one that is annotated."""

    value: str
    annotations: list[AnnotationDelta] | UnsetType = UNSET


class TextPartDelta(Struct, frozen=True, tag_field="type", tag="text"):
    """More of the text part at `index`."""

    index: int
    text: TextDelta


class RefusalPartDelta(Struct, frozen=True, tag_field="type", tag="refusal"):
    """More of the refusal part at `index`."""

    index: int
    refusal: str


class ImageFileDelta(Struct, frozen=True):
    """An image by the id of its file."""

    file_id: str
    detail: Detail = "auto"


class ImageFilePartDelta(Struct, frozen=True, tag_field="type", tag="image_file"):
    """The image part at `index`: one delta."""

    index: int
    image_file: ImageFileDelta


PartDelta = TextPartDelta | RefusalPartDelta | ImageFilePartDelta


class MessageChange(Struct, frozen=True):
    """The parts that a delta adds to."""

    content: list[PartDelta]


class MessageDelta(Struct, frozen=True, kw_only=True):
    """What a `thread.message.delta` event carries."""

    id: str
    object: Literal["thread.message.delta"] = "thread.message.delta"
    delta: MessageChange


def _shown(content: str | list[InputPart]) -> list[Part]:
    """Content as a message shows it: a string is one text part; images say their detail."""
    if isinstance(content, str):
        return [TextPart(TextValue(content))]
    return [_shown_part(part) for part in content]


def _shown_part(part: InputPart) -> Part:
    match part:
        case TextInput(text=text):
            return TextPart(TextValue(text))
        case ImageUrlPart(image_url=image):
            return ImageUrlPart(image_url=_with_detail(image))
        case ImageFilePart(image_file=image):
            return ImageFilePart(image_file=_with_detail(image))


def _with_detail(image: Any) -> Any:
    return structs.replace(image, detail=image.detail or "auto")


def _check_image_url(url: str, param: str) -> None:
    if not url.lower().startswith(("http://", "https://", "data:image/")):
        raise Invalid(
            f"Invalid '{param}'. Expected a valid URL, but got a value with an invalid format.",
            param=param,
            code="invalid_value",
        )
