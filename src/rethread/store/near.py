"""Vectors that are near a query's: the nearest ones in some files, and how near given ones are.

What both databases do is written here; how each finds the nearest stands in `near_sqlite.py` and
in `near_postgres.py`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rethread.store.chunk_lists import Numbers

Cosines = NDArray[np.float64]


class Near(NamedTuple):
    """Chunks, each once, and the cosines of their vectors with a query's."""

    numbers: Numbers
    cosines: Cosines


class Index(Protocol):
    """Both databases have one."""

    async def nearest(
        self, files: Mapping[str, Numbers], queries: Sequence[bytes], *, limit: int
    ) -> list[Near]:
        """For each query's vector the nearest chunks of these files, by store; in any order."""
        ...

    async def cosines(self, numbers: Numbers, queries: Sequence[bytes]) -> list[Near]:
        """For each query's vector how near these chunks are; without those that have no vector."""
        ...
