"""Reads the lists of a query's words: all that are short, and longer ones as long as there is time.

It remembers which lists are long, since frequent words come again and again, and a database needs
long to see that a list is too long to be read. Nothing is ranked here. It needs numpy.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from rethread.store import chunk_lists
from rethread.store.chunk_lists import Numbers
from rethread.store.chunk_words import names_of_term, terms_of
from rethread.store.database import Database
from rethread.store.words import words_of

MOST_WORDS: Final = 64  # of a query; of a longer one the first
LONGEST_LIST: Final = 50_000  # of one word, store and weight: a longer one says next to nothing,
LONGEST_SHARE: Final = 1 / 4  # and so does one of more than this part of all chunks,
FEW: Final = 2_000  # if those are more than a few
SHORT_LIST: Final = 1_000  # one that is read at once, with those of all other words
MOST_NUMBERS: Final = 300_000  # in all longer lists of a query: a tenth of a second of PostgreSQL's
AT_ONCE: Final = 3  # reads of longer lists that are under way; there are others who want a core
REMEMBERED: Final = 20_000  # long lists
BELIEVED: Final = 50  # times that a length is taken as it was: files come and go

Found = dict[str, Numbers | None]  # lists by name; None was not read


class Read(NamedTuple):
    """What was read for a query: each word's lists, None for one that was not read."""

    words: list[list[Numbers | None]]
    total: int  # of all chunks
    longest: int  # a list that was read has as many numbers at most


class WordLists:
    """One for the process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lengths = _Lengths()

    async def read(self, store_ids: Iterable[str], queries: Sequence[str]) -> list[Read]:
        """For each query the lists of its words in these stores."""
        stores = list(store_ids)
        total = sum(await asyncio.gather(*(chunk_lists.count(self._db, store) for store in stores)))
        longest = min(LONGEST_LIST, max(FEW, int(total * LONGEST_SHARE)))
        read = []
        for query in queries:
            words = list(dict.fromkeys(terms_of(words_of(query))))[:MOST_WORDS]
            names = [
                [name for store in stores for name in names_of_term(store, word)] for word in words
            ]
            found = await self._found(list(dict.fromkeys(chain(*names))), total, longest)
            read.append(Read([[found[name] for name in each] for each in names], total, longest))
        return read

    async def _found(self, names: Sequence[str], total: int, longest: int) -> Found:
        lengths = {name: self._lengths.believed(name, total=total) for name in names}
        asked = [name for name, length in lengths.items() if length <= SHORT_LIST]
        longer = [name for name, length in lengths.items() if SHORT_LIST < length <= longest]
        reading = _Reading(self._db, longest)
        short, _ = await asyncio.gather(
            chunk_lists.lists(self._db, asked, most=SHORT_LIST), reading.read(longer)
        )
        found = dict(zip(asked, short, strict=True))
        await reading.read([name for name, numbers in found.items() if numbers is None])
        self._lengths.note(reading.found, too_long=longest + 1)
        found = dict.fromkeys(names) | found | reading.found
        if any(numbers is not None and len(numbers) for numbers in found.values()):
            return found
        some = await chunk_lists.lists(self._db, names, most=SHORT_LIST, may_be_cut=True)
        return dict(zip(names, some, strict=True))


class _Reading:
    """The longer lists of one query, in turn, until they have too many numbers."""

    def __init__(self, db: Database, longest: int) -> None:
        self.found: Found = {}
        self._db = db
        self._longest = longest
        self._left = MOST_NUMBERS

    async def read(self, names: Sequence[str]) -> None:
        waiting = iter(names)
        await asyncio.gather(*(self._read(waiting) for _ in range(min(AT_ONCE, len(names)))))

    async def _read(self, waiting: Iterator[str]) -> None:
        for name in waiting:
            if self._left <= 0:
                return
            self._left -= self._longest  # until it is known; others read meanwhile
            [numbers] = await chunk_lists.lists(self._db, [name], most=self._longest)
            self.found[name] = numbers
            if numbers is not None:
                self._left += self._longest - len(numbers)


class _Length(NamedTuple):
    """How many numbers a list had, or at least had; how often that will still be believed."""

    numbers: int
    times_left: int


class _Lengths:
    """Of the lists that were not short; those that were not asked for longest go."""

    def __init__(self) -> None:
        self._known: dict[str, _Length] = {}

    def believed(self, name: str, *, total: int) -> int:
        """A list's length; 0 where it is not known, or has to be looked at again."""
        known = self._known.pop(name, None)
        if known is None or known.numbers > total or not known.times_left:
            return 0
        self._known[name] = known._replace(times_left=known.times_left - 1)
        return known.numbers

    def note(self, found: Found, *, too_long: int) -> None:
        """What was seen of lists now; None was too long to be read."""
        for name, numbers in found.items():
            length = too_long if numbers is None else len(numbers)
            self._known.pop(name, None)
            if length > SHORT_LIST:
                self._known[name] = _Length(length, BELIEVED)
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
