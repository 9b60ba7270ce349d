"""How far into a text so many of its tokens reach: where it can be cut between two of them. Pure.

A text is taken in pieces, so that what it costs grows with its length and no more.
"""

from array import array
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rethread import tokens

PIECE_CHARACTERS: Final = 65_536
UNKNOWN: Final = 255  # no token has as many characters

Places = NDArray[np.uint32]

_widths: Final = np.full(tokens.VOCABULARY, UNKNOWN, np.uint8)
_is_whole: Final = np.ones(tokens.VOCABULARY, np.bool_)


def reach(text: str, *, most_tokens: int) -> "array[int] | None":
    """For each number of tokens, where they end; None if the text has more than so many.

    Where the last of them ends within a character, it is the last place in front of that where
    one ends well. So every item is a place between two tokens, and none is missing.
    """
    ends = array("I", [0])
    for piece in _pieces(text):
        ids = np.frombuffer(tokens.encoded(piece), np.uint32)
        if len(ends) + len(ids) > most_tokens + 1:
            return None
        ends.frombytes(_ends(ids, start=ends[-1]).tobytes())
    return ends


def _ends(ids: NDArray[np.uint32], *, start: int) -> Places:
    """Where each token ends, with what is in front of the first one."""
    widths = _widths[ids]
    if (widths == UNKNOWN).any():
        _learn(ids[widths == UNKNOWN])
        widths = _widths[ids]
    places = np.cumsum(widths, dtype=np.uint32) + np.uint32(start)
    goes_on = ~_is_whole[ids[1:]]
    if goes_on.any():
        places[:-1][goes_on] = start
        places = np.maximum.accumulate(places)
    return places


def _learn(ids: NDArray[np.uint32]) -> None:
    """Note how many characters begin in these tokens, and whether they begin with one."""
    for token in np.unique(ids).tolist():
        spelled = tokens.spelled(token)
        _widths[token] = sum(not _continues(byte) for byte in spelled)
        _is_whole[token] = not _continues(spelled[0])


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 goes on with a character that began before it."""
    return 0x80 <= byte < 0xC0


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = min(len(text), start + PIECE_CHARACTERS)
        if end < len(text):
            end = _behind_last(text, "\n", start, end) or _behind_last(text, " ", start, end) or end
        yield text[start:end]
        start = end


def _behind_last(text: str, character: str, start: int, end: int) -> int:
    """The place behind the last such character there, or 0."""
    return text.rfind(character, start, end) + 1
