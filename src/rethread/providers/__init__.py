"""Who answers: a chat-completions server over HTTP, or the built-in demo model.

A provider has three members (`Provider` below). It raises `ModelError` when a call failed
for good; tries again only before the first chunk; and never stores anything.
"""

from collections.abc import AsyncGenerator
from typing import Protocol

from rethread.contract.chat import ChatRequest, Chunk


class Provider(Protocol):
    """Both `chat.ChatCompletions` and `demo.Demo` are one."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        """One model call's chunks, in order, until the model server says that it has ended."""
        ...

    async def models(self) -> list[str]:
        """The ids of the models that can be named; Unavailable where the server can't say."""
        ...

    async def aclose(self) -> None:
        """Give the connections back."""
        ...
