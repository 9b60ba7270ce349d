"""From what was found by words and by vectors to one order. Pure: numbers in, numbers out.

A score is between 0 and 1. By words it is the share of what the query's words say, rare ones more
than frequent ones, that stands in the chunk; by vectors it is the cosine.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rethread.store.chunk_lists import Numbers
from rethread.store.chunk_words import WEIGHTS, rarity
from rethread.store.chunks import FILE_BITS

Scores = NDArray[np.float64]
Word = Sequence[Numbers | None]  # the lists of a word in all stores, each by weight

# Rare words first, until so many chunks were named: of what follows only the weight counts.
NAMED_ENOUGH: Final = 30_000


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

    def of_files(self, files: Numbers) -> "Hits":
        """Those whose file is among these."""
        found = np.isin(self.numbers >> FILE_BITS, files)
        return Hits(self.numbers[found], self.scores[found])


NO_HITS: Final = Hits(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64))


def by_words(words: Sequence[Word], *, total: int, longest: int) -> Hits:
    """Scores by BM25 of the chunks that have some of the words; `total`: of all chunks.

    A list that is None was not read, as it is longer than `longest`.
    """
    weighed = [_weighed(word, total, longest) for word in words]
    most = sum(weight for weight, _ in weighed) * WEIGHTS[-1]
    lists = [(weight, lists) for weight, lists in weighed if any(map(len, lists))]
    if not lists:
        return NO_HITS
    lists.sort(key=lambda each: sum(map(len, each[1])))
    numbers = _named(lists)
    scores = np.zeros(len(numbers))
    for weight, by_step in lists:
        for step, found in zip(WEIGHTS, by_step, strict=True):
            places = np.searchsorted(numbers, found)
            places[places == len(numbers)] = 0
            scores[places[numbers[places] == found]] += weight * step
    return Hits(numbers, np.minimum(1.0, scores / most))


def fused(parts: Sequence[tuple[Hits, float]]) -> Hits:
    """The weighted mean of the scores; every part has a score for each chunk that it may have."""
    numbers = np.unique(np.concatenate([hits.numbers for hits, _ in parts]))
    scores = np.zeros(len(numbers))
    for hits, weight in parts:
        scores[np.searchsorted(numbers, hits.numbers)] += weight * hits.scores
    return Hits(numbers, np.minimum(1.0, scores / sum(weight for _, weight in parts)))


def best_of_each(parts: Sequence[Hits]) -> Hits:
    """All chunks, each with the best score that it has anywhere."""
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


def _named(lists: Sequence[tuple[float, list[Numbers]]]) -> Numbers:
    """The chunks to score."""
    named: list[Numbers] = []
    count = 0
    for _, by_step in lists:
        named += by_step
        count += sum(map(len, by_step))
        if count >= NAMED_ENOUGH:
            break
    return np.unique(_joined(named))


def _joined(lists: Sequence[Numbers]) -> Numbers:
    return np.concatenate(lists) if lists else np.empty(0, dtype=np.int64)
