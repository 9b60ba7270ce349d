"""Threads: a conversation's frame; its messages and runs are objects of their own."""

from typing import Annotated, Any, Final, Literal, Self

from msgspec import Meta, Struct, structs
from msgspec.json import Decoder

from rethread.contract import Metadata, Request, new_id
from rethread.contract.messages import CreateMessage, Message
from rethread.contract.resources import Resources, ToolResources, declared_resources
from rethread.errors import Invalid

MESSAGES_LIMIT: Final = 100_000  # messages in one thread
MAX_QUERY_CHARACTERS: Final = 1000


class ListThreads(Request, frozen=True):
    """GET /threads, beside the parameters of every list: threads that have all these pairs."""

    metadata: Metadata | None = None


class SearchThreads(Request, frozen=True):
    """GET /threads/search, beside the parameters of every list."""

    q: Annotated[str, Meta(max_length=MAX_QUERY_CHARACTERS)]


class ModifyThread(Request, frozen=True):
    """POST /threads/{thread_id}: what is absent stays as it is."""

    tool_resources: ToolResources | None = None
    metadata: Metadata | None = None

    def check(self, at: str = "") -> None:
        """The ids of the tools' resources."""
        if self.tool_resources:
            self.tool_resources.check(f"{at}tool_resources.")


class CreateThread(ModifyThread, frozen=True):
    """POST /threads"""

    messages: list[CreateMessage] | None = None

    def check(self, at: str = "") -> None:
        """The messages, then what a thread itself asks."""
        if self.messages and len(self.messages) > MESSAGES_LIMIT:
            raise Invalid(
                f"Invalid '{at}messages': array too long. Expected an array with maximum length "
                f"{MESSAGES_LIMIT}, but got an array with length {len(self.messages)} instead.",
                param=f"{at}messages",
                code="array_above_max_length",
            )
        for index, message in enumerate(self.messages or []):
            message.check(f"{at}messages[{index}].")
        super().check(at)


class Thread(Struct, frozen=True, kw_only=True):
    """A thread, as it is stored and shown."""

    id: str
    object: Literal["thread"] = "thread"
    created_at: int
    metadata: dict[str, str] = {}
    tool_resources: Resources = {}

    @classmethod
    def new(cls, asked: ModifyThread, *, now: int) -> Self:
        """A new thread."""
        return cls(id=new_id("thread"), created_at=now).modified(asked)

    def modified(self, asked: ModifyThread) -> Self:
        """The thread with what was asked replaced; of the tools' resources, those named."""
        changes: dict[str, Any] = {}
        if asked.metadata is not None:
            changes["metadata"] = asked.metadata
        if asked.tool_resources is not None:
            changes["tool_resources"] = {
                **self.tool_resources,
                **declared_resources(asked.tool_resources),
            }
        return structs.replace(self, **changes)


# Built while there is one thread: msgspec crashes where two make what it knows of a type at once.
decode_thread: Final = Decoder(Thread).decode


class SearchResult(Struct, frozen=True, kw_only=True):
    """A message that was found; `id` is the message's, so that it serves as a cursor.

    In `snippet`, `**` stands on both sides of what matches.
    """

    id: str
    object: Literal["thread.search_result"] = "thread.search_result"
    thread_id: str
    snippet: str
    message: Message
