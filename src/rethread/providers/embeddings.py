"""Who turns texts into vectors: a model server, a model on this machine, or nobody.

An embedder has three members (`Embedder` below). Its name says which model it is: vectors of two
names are never compared. It raises `ModelError` when a call failed for good, and stores nothing.
"""

from collections.abc import Sequence
from typing import Protocol


class Embedder(Protocol):
    """Both `embeddings_upstream.UpstreamEmbedder` and `embeddings_local.LocalEmbedder` are one."""

    @property
    def name(self) -> str:
        """The model, and its dimensions where those were chosen; it is kept with each store."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector for each text: normalised, of little-endian 32-bit numbers."""
        ...

    async def aclose(self) -> None:
        """Give back what it holds."""
        ...
