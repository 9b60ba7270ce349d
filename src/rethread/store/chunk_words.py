"""The keyword index of the chunks: which chunks of a store have a word, and how much it says there.

A word is kept once for a chunk, under a name that begins with a mark of its store and with its
weight there, in four steps: so a search reads the lists of its own stores and of nobody else, and
adds up BM25 from the lists alone. The steps take the length of the chunk into account as it was
when it was indexed; how rare a word is in the stores is counted at each search.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, Literal

import msgspec

from rethread.store.statements import Statement

Dialect = Literal["sqlite", "postgresql"]

# BM25's two constants, and the usual length, in words, of a chunk of 800 tokens.
SATURATION: Final = 1.2
LENGTH_COUNTS: Final = 0.75
USUAL_WORDS: Final = 500
# From where on a word's weight in a chunk, which is between 0 and 1, is of the next step; and
# what a weight of each step counts as.
STEPS: Final = (0.40, 0.57, 0.74)
WEIGHTS: Final = (0.30, 0.48, 0.66, 0.84)
LETTERS: Final = "abcd"
ENDINGS: Final = ("ing", "ed", "er", "ly", "e")
SHORTEST_STEM: Final = 3

# differs: SQLite has the words in a table of their own kind, PostgreSQL in a column.
ADD: Final = {
    "sqlite": "INSERT INTO chunk_words (rowid, words) VALUES ($1, $2)",
    "postgresql": """
INSERT INTO chunk_words (number, words)
SELECT CAST(pair ->> 0 AS BIGINT), CAST(pair ->> 1 AS TSVECTOR)
  FROM json_array_elements(CAST($1 AS JSON)) AS pairs (pair)
ON CONFLICT (number) DO UPDATE SET words = excluded.words
""",
}
# SQLite keeps no words of a chunk: it has to be told which ones it has under that number.
FORGET: Final = "INSERT INTO chunk_words (chunk_words, rowid, words) VALUES ('delete', $1, $2)"
FORGET_RANGE: Final = "DELETE FROM chunk_words WHERE number BETWEEN $1 AND $2"


def adding(
    dialect: Dialect, store_id: str, chunks: Iterable[tuple[int, Sequence[str]]]
) -> list[Statement]:
    """Statements that index chunks: number and words of each."""
    return adding_entries(dialect, ((number, entry(store_id, words)) for number, words in chunks))


def adding_entries(dialect: Dialect, entries: Iterable[tuple[int, str]]) -> list[Statement]:
    """The same, where the index's entries were made before: number and entry of each chunk."""
    if dialect == "sqlite":
        return [Statement(ADD[dialect], number, each) for number, each in entries]
    pairs = [(number, " ".join(f"'{name}'" for name in each.split())) for number, each in entries]
    return [Statement(ADD[dialect], msgspec.json.encode(pairs).decode())]


def forgetting(
    dialect: Dialect, store_id: str, chunks: Sequence[tuple[int, Sequence[str]]]
) -> list[Statement]:
    """Statements that take chunks of one file, which follow each other, out of the index."""
    if not chunks:
        return []
    if dialect == "sqlite":
        return [
            Statement(FORGET, number, " ".join(names(store_id, words))) for number, words in chunks
        ]
    return [Statement(FORGET_RANGE, chunks[0][0], chunks[-1][0])]


def entry(store_id: str, words: Sequence[str]) -> str:
    """What the index has for a chunk of these words, with spaces between."""
    return " ".join(names(store_id, words))


def entry_of_terms(store_id: str, terms: Iterable[str]) -> str:
    """The same, of the words' terms (`terms_of`)."""
    return " ".join(_names(store_id, terms))


def names(store_id: str, words: Iterable[str]) -> list[str]:
    """The same, one by one."""
    return _names(store_id, terms_of(words))


def _names(store_id: str, terms: Iterable[str]) -> list[str]:
    counted = Counter(terms)
    mark = store_mark(store_id)
    heads = [f"{mark}{letter}_" for letter in _letters(counted.total())]
    heaviest, last = len(heads) - 1, heads[-1]
    return [(heads[count] if count < heaviest else last) + term for term, count in counted.items()]


def names_of_term(store_id: str, term: str) -> list[str]:
    """The names under which a term may be in the index, from the lightest to the heaviest."""
    mark = store_mark(store_id)
    return [f"{mark}{letter}_{term}" for letter in LETTERS]


def terms_of(words: Iterable[str]) -> list[str]:
    """What is indexed of words and looked up of a query: without endings, names also in parts."""
    return list(chain.from_iterable(map(_terms, words)))


@lru_cache(maxsize=50_000)
def _terms(word: str) -> tuple[str, ...]:
    parts = [part for part in word.split("_") if part]
    return tuple(map(_stem, [word, *parts] if len(parts) > 1 else [word]))


def _stem(word: str) -> str:
    """The word without the ending of a plural, and then without one other ending."""
    if len(word) > 4 and word.endswith("ies"):
        word = f"{word[:-3]}y"
    elif len(word) > SHORTEST_STEM and word.endswith("s") and not word.endswith(("us", "ss")):
        word = word[:-1]
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
            return word[: -len(ending)]
    return word


@lru_cache(maxsize=1024)
def store_mark(store_id: str) -> str:
    """Of two stores that have the same one, each would read the other's lists too, in vain."""
    return hashlib.sha256(store_id.encode()).hexdigest()[:8]


def rarity(found: int, total: int) -> float:
    """How much a word says that so many of all chunks have."""
    return math.log(1 + (max(found, total) - found + 0.5) / (found + 0.5))


@lru_cache(maxsize=4096)
def _letters(total: int) -> str:
    """The letters of the steps by how often a word comes, up to where there is no higher one.

    In a chunk of so many terms.
    """
    slowness = SATURATION * (1 - LENGTH_COUNTS + LENGTH_COUNTS * total / USUAL_WORDS)
    letters = LETTERS[0]
    for count in range(1, 1000):
        weight = count / (count + slowness)
        letters += LETTERS[sum(weight >= step for step in STEPS)]
        if letters[-1] == LETTERS[-1]:
            break
    return letters
