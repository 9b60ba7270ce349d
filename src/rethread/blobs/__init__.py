"""Where the bytes of files lie: under names that the database gives, and knows nothing more of.

A blob is written once and never changed. Whoever writes gives a name that was never used; what a
name stands for, and when it may go, is the database's to know (`store/blobs.py`).
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Protocol

PIECE_BYTES: Final = 1024 * 1024  # no piece that is read is longer

Piece = bytes | memoryview  # of what is written; nobody changes what it shows


class Blobs(Protocol):
    """A folder, or a bucket."""

    @property
    def place(self) -> str:
        """Where it is, for people; without a secret."""

    async def write(self, name: str, pieces: AsyncIterator[Piece]) -> None:
        """Keep the pieces: whole and on disk when this returns, or not there at all.

        Unavailable where that cannot be; what the pieces raise is raised.
        """

    def read(self, name: str) -> AsyncGenerator[bytes]:
        """The bytes, piece by piece; Missing where there are none of that name."""

    def local(self, name: str) -> AbstractAsyncContextManager[Path]:
        """A file with the bytes, to be read and left alone; Missing where there are none."""

    async def delete(self, name: str) -> None:
        """Have nothing under that name, also not the beginning of a write that was cut short."""

    async def check(self) -> None:
        """Unavailable if nothing could be kept now."""

    async def close(self) -> None:
        """Let go."""
