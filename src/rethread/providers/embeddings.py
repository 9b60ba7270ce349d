"""Who turns texts into vectors: a model server, a model on this machine, or nobody.

An embedder has four members (`Embedder` below). Its name says which model makes how many
dimensions: vectors of two names are never compared. It raises `ModelError` when a call failed for
good, and never stores anything.
"""

from collections.abc import Sequence
from typing import Protocol


class Embedder(Protocol):
    """Both `upstream_embeddings.UpstreamEmbedder` and `local_embeddings.LocalEmbedder` are one."""

    @property
    def name(self) -> str:
        """The model and its dimensions, as they are kept with a store."""
        ...

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector for each text: normalised, of little-endian 32-bit numbers."""
        ...

    async def aclose(self) -> None:
        """Give back what it holds."""
        ...
