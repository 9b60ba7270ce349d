"""Text to the words that are searched for, and to the snippet that shows them. Pure.

Both databases index and are asked these words, so that both find the same: without case and
diacritics, whole words as they are written. What is written without spaces (Chinese,
Japanese, Korean, Thai and their neighbours) is divided into characters, and a run of them is
a phrase. No stemming: rethread does not know in which language people talk.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

Phrase = tuple[str, ...]

MAX_WORD_CHARACTERS: Final = 64  # longer ones are told apart by their beginning
SNIPPET_CHARACTERS: Final = 160
CHARACTERS_BEFORE_MATCH: Final = 60
BLOCK_CHARACTERS: Final = 500  # of a text looked at together
BETWEEN_WORDS_CHARACTERS: Final = 200  # of a phrase, in the text; seldom more than one
WORD_BREAK_CHARACTERS: Final = 20  # how far from its place a cut may be, so as to cut no word

QUOTED: Final = re.compile(r'"([^"]*)"')
ASCII_WORD: Final = re.compile(r"\w+", re.ASCII)
# Thai and Lao, Burmese, Khmer, kana, Han, Hangul.
ALONE: Final = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff])"
)
# They make another letter in Japanese, not the same one with an accent.
VOICING_MARKS: Final = "\u3099\u309a"
IOTA_SUBSCRIPT: Final = "\u0345"  # a mark, which casefold would make a letter
ZERO_WIDTH_SPACE: Final = "\u200b"
JOINED_JAMO: Final = ("\u1160", "\u11ff")  # the vowels and ends that complete a Hangul syllable


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    words = _folded(text).split()
    if max(map(len, words), default=0) <= MAX_WORD_CHARACTERS:  # as good as always
        return words
    return [word[:MAX_WORD_CHARACTERS] for word in words]


def phrases_of(query: str) -> list[Phrase]:
    """What has to be in a text, all of it; empty if there is no word in the query.

    Quoted words are a phrase, and so is what is written without a space: an address, a file's
    name, a run of Chinese.
    """
    parts = [part.group(1) for part in QUOTED.finditer(query)]
    parts += QUOTED.sub(" ", query).replace('"', " ").split()
    phrases = (tuple(words_of(part)) for part in parts)
    return list(dict.fromkeys(phrase for phrase in phrases if phrase))


def snippet(text: str, phrases: Sequence[Phrase]) -> str:
    """Some of the text around the first match, with `**` on both sides of what matches.

    White space becomes one space each, and a `**` of the text itself is left out.
    """
    longest = max((sum(map(len, phrase)) for phrase in phrases), default=0)
    for block in _blocks(len(text), overlap=2 * longest + BETWEEN_WORDS_CHARACTERS):
        matches = [
            _Span(start + block.start, end + block.start)
            for start, end in _matches(text[slice(*block)], phrases)
        ]
        # At the edge of a piece may be half a word; it stands in the next one as a whole.
        whole = [match for match in matches if match.start != block.start or match.start == 0]
        whole = [match for match in whole if match.end != block.end or match.end == len(text)]
        if whole:
            return _shown(text, whole)
    return _shown(text, [])


class _Span(NamedTuple):
    start: int
    end: int


class _Located(NamedTuple):
    word: str
    span: _Span


class _Letters(dict[int, str | None]):
    """What becomes of each character: itself, a space between words, or nothing."""

    def __missing__(self, code: int) -> str | None:
        meaning = _letter(chr(code))
        if code <= 0xFFFF:  # the others are rare, and many
            self[code] = meaning
        return meaning


def _letter(character: str) -> str | None:
    if character.isalnum() or character == "_" or character in VOICING_MARKS:
        return character
    category = unicodedata.category(character)
    if unicodedata.combining(character) or category == "Me":
        return None
    if category in ("Mn", "Mc"):  # vowels of Indian scripts, but not the styles of emoji
        is_style = "VARIATION SELECTOR" in unicodedata.name(character, "")
        return None if is_style or character == "\u034f" else character
    # Soft hyphens and joiners stand within words.
    return None if category == "Cf" and character != ZERO_WIDTH_SPACE else " "


_letters: Final = _Letters()


def _folded(text: str) -> str:
    """The words, with spaces between them."""
    if text.isascii():
        return text.lower().translate(_letters)
    apart = unicodedata.normalize("NFKD", text).replace(IOTA_SUBSCRIPT, "").casefold()
    letters = unicodedata.normalize("NFKD", apart).translate(_letters)
    return " ".join(ALONE.split(unicodedata.normalize("NFC", letters)))


_folded_cluster: Final = lru_cache(maxsize=8192)(_folded)


def _blocks(length: int, *, overlap: int) -> Iterator[_Span]:
    """The text piece by piece; a phrase that begins in one piece ends in it."""
    for start in range(0, length, BLOCK_CHARACTERS):
        yield _Span(start, min(length, start + BLOCK_CHARACTERS + overlap))


def _matches(text: str, phrases: Sequence[Phrase]) -> list[_Span]:
    """Where the phrases are, in order, without overlaps."""
    present = set(words_of(text))
    possible = [phrase for phrase in phrases if present.issuperset(phrase)]
    if not possible:
        return []
    located = list(_located(text))
    return _merged(
        _Span(located[place].span.start, located[place + len(phrase) - 1].span.end)
        for phrase in possible
        for place in range(len(located) - len(phrase) + 1)
        if located[place].word == phrase[0]
        and all(located[place + i].word == word for i, word in enumerate(phrase))
    )


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for span in sorted(spans):
        if merged and span.start < merged[-1].end:
            merged[-1] = _Span(merged[-1].start, max(span.end, merged[-1].end))
        else:
            merged.append(span)
    return merged


def _located(text: str) -> Iterator[_Located]:
    """The words of a text with their places in it."""
    if text.isascii():
        for found in ASCII_WORD.finditer(text):
            yield _Located(found.group().lower()[:MAX_WORD_CHARACTERS], _Span(*found.span()))
        return
    word, start, end = "", 0, 0
    for cluster in _clusters(text):
        for letter in _folded_cluster(text[cluster.start : cluster.end]):
            if letter != " ":
                start = start if word else cluster.start
                word, end = word + letter, cluster.end
            elif word:
                yield _Located(word[:MAX_WORD_CHARACTERS], _Span(start, end))
                word = ""
    if word:
        yield _Located(word[:MAX_WORD_CHARACTERS], _Span(start, end))


def _clusters(text: str) -> Iterator[_Span]:
    """Each character with those behind it that complete it."""
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or not _completes(text[end]):
            yield _Span(start, end)
            start = end


def _completes(character: str) -> bool:
    low, high = JOINED_JAMO
    return unicodedata.combining(character) != 0 or low <= character <= high


def _shown(text: str, matches: Sequence[_Span]) -> str:
    first = matches[0] if matches else _Span(0, 0)
    left = _break_behind(text, max(0, first.start - CHARACTERS_BEFORE_MATCH), first.start)
    right = _break_before(text, first.end, max(first.end, left + SNIPPET_CHARACTERS))
    pieces: list[str] = []
    place = left
    for match in matches:
        if match.end <= right:
            pieces += [_clean(text[place : match.start]), f"**{_clean(text[slice(*match)])}**"]
            place = match.end
    shown = "".join([*pieces, _clean(text[place:right])]).strip()
    return f"{'… ' if left > 0 else ''}{shown}{' …' if right < len(text) else ''}"


def _break_behind(text: str, place: int, limit: int) -> int:
    """The beginning of the next word, if that is near and not past the limit."""
    if place == 0:
        return 0
    for near in range(place, min(limit, place + WORD_BREAK_CHARACTERS)):
        if text[near - 1].isspace():
            return near
    return place


def _break_before(text: str, limit: int, place: int) -> int:
    """The end of the word in front, if that is near and not in front of the limit."""
    if place >= len(text):
        return len(text)
    for near in range(place, max(limit, place - WORD_BREAK_CHARACTERS), -1):
        if text[near].isspace():
            return near
    return place


def _clean(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("**", ""))
