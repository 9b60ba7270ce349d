"""A document's text to chunks: overlapping slices of it, cut where it parts naturally. Pure.

A chunk never has more tokens than asked. It ends between two tokens, at the best place in the
last part of its room: before a heading or a definition, else between paragraphs, sentences,
lines or words. The next one begins in what the one before has already, by about as many
tokens as asked.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from typing import Final, NamedTuple

from rethread.store.chunk_words import entry_of_terms, terms_of
from rethread.store.words import words_of
from rethread.tokens import count
from rethread.tools.file_search.documents import Document, Kind, Unreadable

MOST_TOKENS: Final = 5_000_000  # of a file; OpenAI's limit too
LONGEST_TOKEN_BYTES: Final = 4  # of one character: so many tokens it may have
PARTS_KEPT: Final = 16  # more than a chunk has
LOOKAHEAD_CHARACTERS: Final = 200  # behind a place, to see whether it is a good one

PARAGRAPH: Final = re.compile(r"\n[ \t]*\n+")
LINE: Final = re.compile(r"\n+")
# ASCII and an ellipsis, with a closing quote or bracket; or the full stops of East Asia.
SENTENCE: Final = re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]]{0,3}(?=\s)|[\u3002\uff01\uff1f]")
WORD: Final = re.compile(r"\S(?=\s)")
PROSE: Final = (PARAGRAPH, SENTENCE, LINE, WORD)
HEADING: Final = re.compile(r"\n(?=#{1,6} )")
LATEX_SECTION: Final = re.compile(r"\n(?=\\(?:part|chapter|(?:sub){0,2}section)\b)")
UNDERLINED: Final = re.compile(r"\n(?=[^\n]{1,80}\n([=\-~^\"'#*+`])\1{2,}[ \t]*\n)")
DEFINITION: Final = re.compile(r"\n[ \t]*\n(?=[^\s)\]}])")  # a line that isn't indented

# The places where a text of each kind is cut: at the end of a match, the first kind the best.
CUTS: Final[Mapping[Kind, tuple[re.Pattern[str], ...]]] = {
    "prose": PROSE,
    "markdown": (HEADING, *PROSE),
    "latex": (LATEX_SECTION, *PROSE),
    "restructured": (UNDERLINED, *PROSE),
    "code": (DEFINITION, PARAGRAPH, LINE, WORD),
    "table": (PARAGRAPH, LINE, SENTENCE, WORD),
}
# A token that has the end of a line in it goes on with no more than other lines' ends, and slashes.
LINE_BEGINS: Final = re.compile(r"[ \t]+\S|[^\s/]")
FENCE: Final = re.compile(r"^(?:```|~~~)", re.MULTILINE)


class Chunk(NamedTuple):
    """`text` is the document's from the character `start` on; `words` are what is indexed."""

    text: str
    start: int
    page: int | None
    words: str


def chunked(
    document: Document, *, max_tokens: int, overlap_tokens: int, store_id: str = ""
) -> Iterator[Chunk]:
    """The chunks in order; what is only white space is in none. Unreadable if it is too long.

    For a store, their words are what its index has of them (`chunk_words.entry`).
    """
    # numpy: the server knows what a chunk is, divides nothing, and shall start without it.
    from rethread.tools.file_search.reach import reach  # noqa: PLC0415

    places = reach(document.text, most_tokens=MOST_TOKENS)
    if places is None:
        raise Unreadable("invalid_file", f"The file has more than {MOST_TOKENS} tokens of text.")
    spans = list(_Division(document, places, max_tokens, overlap_tokens).spans())
    words = _Words(document.text, spans, store_id)
    for start, end in spans:
        text = document.text[start:end]
        if not text.isspace():
            yield Chunk(text, start, _page(document, start, text), words.between(start, end))


def _page(document: Document, start: int, text: str) -> int | None:
    if not document.pages:
        return None
    first_letter = start + len(text) - len(text.lstrip())
    return max(1, bisect_right(document.pages, first_letter))


class _Words:
    """The words of chunks; those of what two have in common are made once.

    A text's words are those of its parts wherever white space stands between two parts.
    """

    def __init__(self, text: str, spans: Iterable[tuple[int, int]], store_id: str) -> None:
        self._text, self._store_id = text, store_id
        self._cuts = [cut for cut in sorted(set(chain.from_iterable(spans))) if self._is_clean(cut)]
        self._part = lru_cache(maxsize=PARTS_KEPT)(self._made)

    def between(self, start: int, end: int) -> str:
        """The words there, or what a store's index has of them, with a space between them."""
        first, last = bisect_right(self._cuts, start), bisect_left(self._cuts, end)
        parts = pairwise([start, *self._cuts[first:last], end])
        words = chain.from_iterable(self._part(*part) for part in parts)
        return entry_of_terms(self._store_id, words) if self._store_id else " ".join(words)

    def _is_clean(self, cut: int) -> bool:
        return any(letter.isspace() for letter in self._text[max(0, cut - 1) : cut + 1])

    def _made(self, start: int, end: int) -> list[str]:
        words = words_of(self._text[start:end])
        return terms_of(words) if self._store_id else words


class _Division:
    def __init__(
        self, document: Document, places: Sequence[int], max_tokens: int, overlap_tokens: int
    ) -> None:
        self._text, self._places = document.text, places
        self._max, self._overlap = max_tokens, overlap_tokens
        self._cuts = CUTS[document.kind]
        is_markdown = document.kind == "markdown"
        self._fences = [f.start() for f in FENCE.finditer(self._text)] if is_markdown else []

    def spans(self) -> Iterator[tuple[int, int]]:
        start, end = 0, 0
        while end < len(self._text):
            end = self._end(start)
            yield start, end
            start = self._next_start(start, end)

    def _end(self, start: int) -> int:
        room = self._max
        while True:
            furthest = self._reach(start, room)
            if furthest <= start:  # no place for many tokens: between two characters, then
                return min(len(self._text), start + max(1, self._max // LONGEST_TOKEN_BYTES))
            end = furthest
            if furthest < len(self._text):
                # At least half of what is not overlap is new, so that it goes on well.
                nearest = self._reach(start, (room + min(room, self._overlap)) // 2)
                end = self._best(nearest, furthest, is_last_better=True) or furthest
            # Alone, it may have more tokens than as a part of the whole.
            if self._is_seam(start) and self._is_seam(end):
                return end
            excess = count(self._text[start:end]) - self._max
            if excess <= 0:
                return end
            room = min(room, self._tokens(end) - self._tokens(start)) - excess

    def _next_start(self, start: int, end: int) -> int:
        if self._overlap == 0:
            return end
        earliest = self._back(end, self._overlap)
        latest = self._back(end, self._overlap * 3 // 4)
        begin = self._best(earliest, latest, is_last_better=False) or earliest
        return begin if begin > start else end

    def _best(self, low: int, high: int, *, is_last_better: bool) -> int | None:
        """The best place from `low` to `high` to cut at; among equals the last, or the first."""
        for cut in self._cuts:
            found = cut.finditer(self._text, max(0, low - 2), high + LOOKAHEAD_CHARACTERS)
            places = [match.end() for match in found if low <= match.end() <= high]
            for place in reversed(places) if is_last_better else places:
                if self._is_between_tokens(place) and not (
                    cut is HEADING and self._is_fenced(place)
                ):
                    return place
        return None

    def _is_fenced(self, place: int) -> bool:
        return bisect_right(self._fences, place) % 2 == 1

    def _is_seam(self, place: int) -> bool:
        """Whether it is between two tokens however the text goes on at either side."""
        if place in (0, len(self._text)):
            return True
        return self._text[place - 1] == "\n" and LINE_BEGINS.match(self._text, place) is not None

    def _is_between_tokens(self, place: int) -> bool:
        return self._places[self._tokens(place)] == place

    def _tokens(self, place: int) -> int:
        """How many are in front of it."""
        return bisect_left(self._places, place)

    def _reach(self, start: int, room: int) -> int:
        """The last place with at most so many tokens in front of it, from `start` on."""
        return self._places[min(self._tokens(start) + room, len(self._places) - 1)]

    def _back(self, end: int, room: int) -> int:
        """The first place with about so many tokens behind it, up to `end`."""
        return self._places[max(self._tokens(end) - room, 0)]
