"""What fits a query best: asks the index for words and for vectors, and has `ranking` put together.

It knows of numbers alone: of stores that may be searched, chunks, and scores. It needs numpy, so
it is loaded when something is first searched for.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from rethread.store.chunk_lists import NONE, Numbers
from rethread.store.near import Index, Near
from rethread.tools.file_search.ranking import Hits, best_of_each, by_words, fused
from rethread.tools.file_search.word_lists import Read, WordLists

CANDIDATES: Final = 100  # of words and of vectors each, beside what is asked for


class Weights(NamedTuple):
    """How much vectors and words count for a score."""

    vectors: float
    words: float


# The best of those measured by bench_retrieval; reciprocal ranks came close. The cosines of some
# models lie nearer together: words then count for more, and `hybrid_search` can say otherwise.
BALANCED: Final = Weights(vectors=0.75, words=0.25)
WORDS_ALONE: Final = Weights(vectors=0.0, words=1.0)


async def find(
    lists: WordLists,
    index: Index | None,
    files: Mapping[str, Numbers],
    queries: Sequence[str],
    vectors: Sequence[bytes],
    *,
    weights: Weights,
    limit: int,
) -> Hits:
    """The best chunks of these files, by store, for any of the queries, in order.

    `vectors` are those of the queries, or none.
    """
    most = limit + CANDIDATES
    uses_vectors = index is not None and bool(vectors) and weights.vectors > 0
    uses_words = weights.words > 0 or not uses_vectors
    read, near = await asyncio.gather(
        lists.read(files, queries) if uses_words else _nothing(),
        index.nearest(files, vectors, limit=most) if index and uses_vectors else _nothing(),
    )
    if not uses_words:
        return best_of_each([_scored(each) for each in near]).best(limit)
    found = []
    allowed = np.concatenate([NONE, *files.values()])
    for place, each in enumerate(read):
        also = near[place].numbers if uses_vectors else NONE
        hits = await asyncio.to_thread(_scored_by_words, each, allowed, enough=most, also=also)
        if index is None or not uses_vectors:
            found.append(hits)
            continue
        more = await index.cosines(hits.best(most).numbers, [vectors[place]])
        found.append(_together(hits, [near[place], *more], weights))
    return best_of_each(found).best(limit)


def _together(words: Hits, near: Sequence[Near], weights: Weights) -> Hits:
    """Chunks that were found by words or by vectors, each with the score that it has by both."""
    by_vectors = best_of_each([_scored(each) for each in near])
    by_the_words = Hits(by_vectors.numbers, words.scores_of(by_vectors.numbers))
    return fused([(by_vectors, weights.vectors), (by_the_words, weights.words)])


def _scored(near: Near) -> Hits:
    return Hits(near.numbers, np.clip(near.cosines, 0.0, 1.0))


async def _nothing() -> list[Any]:
    return []


def _scored_by_words(read: Read, files: Numbers, *, enough: int, also: Numbers) -> Hits:
    """The scores of the best chunks of these files, and of some others."""
    return by_words(
        read.words,
        total=read.total,
        longest=read.longest,
        files=files,
        enough=enough,
        also=also,
    )
