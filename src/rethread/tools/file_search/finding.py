"""What fits a query best: asks the index for words and for vectors, and has `ranking` put together.

It knows of numbers alone: of stores that may be searched, chunks, and scores. It needs numpy, so
it is loaded when something is first searched for.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from rethread.store import chunk_lists
from rethread.store.chunk_lists import NONE, Numbers
from rethread.store.chunk_words import names_of_term, terms_of
from rethread.store.database import Database
from rethread.store.near import Index, Near
from rethread.store.words import words_of
from rethread.tools.file_search.ranking import Hits, best_of_each, by_words, fused

MOST_WORDS: Final = 64  # of a query; of a longer one the first
LONGEST_LIST: Final = 50_000  # of one word, store and weight: a longer one says next to nothing,
LONGEST_SHARE: Final = 1 / 4  # and so does one of more than this part of all chunks,
FEW: Final = 2_000  # if those are more than a few
SHORT_LIST: Final = 1_000  # one that is read at once, with those of all other words
MOST_NUMBERS: Final = 300_000  # in all longer lists of a query: some half a second of PostgreSQL's
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
    db: Database,
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
        _read(db, files, queries) if uses_words else _nothing(),
        index.nearest(files, vectors, limit=most) if index and uses_vectors else _nothing(),
    )
    if not uses_words:
        return best_of_each([_scored(each) for each in near]).best(limit)
    found = []
    allowed = np.concatenate([NONE, *files.values()])
    for place, lists in enumerate(read):
        also = near[place].numbers if uses_vectors else NONE
        hits = await asyncio.to_thread(lists.scored, allowed, enough=most, also=also)
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


class _Lists(NamedTuple):
    """What was read for the words of a query: each word's lists."""

    words: list[list[Numbers | None]]
    total: int  # of all chunks
    longest: int

    def scored(self, files: Numbers, *, enough: int, also: Numbers) -> Hits:
        """The scores of the best chunks of these files, and of some others."""
        return by_words(
            self.words,
            total=self.total,
            longest=self.longest,
            files=files,
            enough=enough,
            also=also,
        )


async def _read(db: Database, files: Mapping[str, Numbers], queries: Sequence[str]) -> list[_Lists]:
    """For each query the lists of its words in these stores."""
    total = sum(await asyncio.gather(*(chunk_lists.count(db, store_id) for store_id in files)))
    longest = min(LONGEST_LIST, max(FEW, int(total * LONGEST_SHARE)))
    read = []
    for query in queries:
        words = list(dict.fromkeys(terms_of(words_of(query))))[:MOST_WORDS]
        names = [[name for store in files for name in names_of_term(store, word)] for word in words]
        read.append(_Lists(await _lists(db, names, longest=longest), total, longest))
    return read


async def _lists(
    db: Database, names: Sequence[Sequence[str]], *, longest: int
) -> list[list[Numbers | None]]:
    """Each word's lists. All that are short, and longer ones as long as there is time to read."""
    every_name = [name for word in names for name in word]
    short = iter(await chunk_lists.lists(db, every_name, most=SHORT_LIST))
    lists = [[next(short) for _ in word] for word in names]
    left = MOST_NUMBERS
    for word, found in zip(names, lists, strict=True):
        places = [place for place, numbers in enumerate(found) if numbers is None]
        if not places or left <= 0:
            continue
        longer = await chunk_lists.lists(db, [word[place] for place in places], most=longest)
        for place, numbers in zip(places, longer, strict=True):
            found[place] = numbers
            left -= longest if numbers is None else len(numbers)
    if any(numbers is not None and len(numbers) for word in lists for numbers in word):
        return lists
    some = iter(await chunk_lists.lists(db, every_name, most=SHORT_LIST, may_be_cut=True))
    return [[next(some) for _ in word] for word in names]
