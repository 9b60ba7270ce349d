"""From what was found by words and by vectors to one order. Pure: numbers in, numbers out.

A score is between 0 and 1. By words it is the share of what the query's words say, rare ones more
than frequent ones, that stands in the chunk; by vectors it is the cosine.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rethread.store.chunk_lists import NONE, Numbers
from rethread.store.chunk_words import WEIGHTS, rarity
from rethread.store.chunks import FILE_BITS

Scores = NDArray[np.float64]
Word = Sequence[Numbers | None]  # the lists of a word in all stores, each by weight


class Hits(NamedTuple):
    """Chunks and their scores, each chunk once."""

    numbers: Numbers
    scores: Scores

    def best(self, limit: int) -> "Hits":
        """The best ones, in order; of equals the older one first."""
        numbers, scores = self
        if len(numbers) > limit:
            kept = np.argpartition(-scores, limit - 1)[:limit]
            numbers, scores = numbers[kept], scores[kept]
        order = np.lexsort((numbers, -scores))
        return Hits(numbers[order], scores[order])

    def scores_of(self, numbers: Numbers) -> Scores:
        """The score of each of these chunks; 0 for one that is not among them.

        They have to be in the order of their numbers.
        """
        if not len(self.numbers):
            return np.zeros(len(numbers))
        places = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        return np.where(self.numbers[places] == numbers, self.scores[places], 0.0)

    def has_at_least(self, count: int, score: float) -> bool:
        """Whether so many have at least this score."""
        return int((self.scores >= score).sum()) >= count

    def with_more(self, numbers: Numbers, files: Numbers) -> "Hits":
        """The same, and without a score those of these chunks whose file is among these."""
        more = numbers[np.isin(numbers >> FILE_BITS, files)]
        joined = np.union1d(self.numbers, more)
        scores = np.zeros(len(joined))
        scores[np.searchsorted(joined, self.numbers)] = self.scores
        return Hits(joined, scores)


def by_words(
    words: Sequence[Word],
    *,
    total: int,
    longest: int,
    files: Numbers,
    enough: int,
    also: Numbers,
) -> Hits:
    """Scores by BM25 of the best chunks of these files, `enough` of them, and of some others.

    `total`: of all chunks. A list that is None was not read, as it is longer than `longest`.
    `also` are chunks that shall have a score in any case. Rare words say which chunks are looked
    at, until what the frequent ones could say of another one is too little.
    """
    weighed = [_weighed(word, total, longest) for word in words]
    most = left = sum(weight for weight, _ in weighed) * WEIGHTS[-1]
    hits = Hits(np.unique(also), np.zeros(len(np.unique(also))))
    if not most:
        return hits
    for weight, by_step in sorted(weighed, key=lambda each: -each[0]):
        if not hits.has_at_least(enough, left):
            hits = hits.with_more(_joined(by_step), files)
        for step, found in zip(WEIGHTS, by_step, strict=True):
            hits.scores[_in(hits.numbers, found)] += weight * step
        left -= weight * WEIGHTS[-1]
    return Hits(hits.numbers, np.minimum(1.0, hits.scores / most))


def fused(parts: Sequence[tuple[Hits, float]]) -> Hits:
    """The weighted mean of the scores; every part has a score for each chunk that it may have."""
    numbers = np.unique(np.concatenate([hits.numbers for hits, _ in parts]))
    scores = np.zeros(len(numbers))
    for hits, weight in parts:
        scores[np.searchsorted(numbers, hits.numbers)] += weight * hits.scores
    return Hits(numbers, np.minimum(1.0, scores / sum(weight for _, weight in parts)))


def best_of_each(parts: Sequence[Hits]) -> Hits:
    """All chunks, each with the best score that it has anywhere."""
    if len(parts) == 1:
        return parts[0]
    numbers = np.unique(np.concatenate([hits.numbers for hits in parts]))
    scores = np.zeros(len(numbers))
    for hits in parts:
        places = np.searchsorted(numbers, hits.numbers)
        scores[places] = np.maximum(scores[places], hits.scores)
    return Hits(numbers, scores)


def _weighed(word: Word, total: int, longest: int) -> tuple[float, list[Numbers]]:
    """How much a word says, and its lists by weight; one that is too long is only counted."""
    steps = len(WEIGHTS)
    left_out = longest * sum(found is None for found in word)
    by_step = [
        _joined([found for found in word[step::steps] if found is not None])
        for step in range(steps)
    ]
    return rarity(left_out + sum(map(len, by_step)), total), by_step


def _in(numbers: Numbers, found: Numbers) -> NDArray[np.bool_]:
    """Which of these chunks are in a list."""
    if not len(found):
        return np.zeros(len(numbers), dtype=np.bool_)
    places = np.minimum(np.searchsorted(found, numbers), len(found) - 1)
    return np.equal(found[places], numbers)


def _joined(lists: Sequence[Numbers]) -> Numbers:
    """The numbers of all lists in order; most lists are in order already."""
    return np.sort(np.concatenate([NONE, *lists]), kind="stable")
