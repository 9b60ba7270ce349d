"""How many tokens a text has, and where they end, by OpenAI's `o200k_base`.

Its vocabulary comes with the package. Other models count a little differently; the usage that
a run reports is the model server's.
"""

from array import array
from collections.abc import Iterator
from functools import cache
from itertools import accumulate, compress
from typing import Final, NamedTuple

import splintr

PIECE_CHARACTERS: Final = 65_536  # of a text taken together, which bounds what that costs


class Boundaries(NamedTuple):
    """Where a text may be cut between two tokens: the beginning, the end, and all between.

    `tokens[i]` are in front of the character `places[i]`. What ends within a character, as
    tokens of rare ones do, is no place.
    """

    places: "array[int]"
    tokens: "array[int]"


def count(text: str) -> int:
    """The number of tokens; some 80 MB of text a second, after a first call of 0.1 s."""
    return len(_tokenizer().encode_ordinary(text))


def boundaries(text: str, *, most_tokens: int) -> Boundaries | None:
    """Where the text may be cut; None if it has more tokens than that."""
    places, tokens = array("I", [0]), array("I", [0])
    for piece in _pieces(text):
        ids = _tokenizer().encode_ordinary(piece)
        before = tokens[-1]
        if before + len(ids) > most_tokens:
            return None
        ends = accumulate(map(_widths.__getitem__, ids), initial=places.pop())
        places.extend(ends)
        tokens.extend(range(before + 1, before + len(ids) + 1))
        if not piece.isascii():
            _leave_out_split_characters(ids, places, tokens)
    return Boundaries(places, tokens)


@cache
def _tokenizer() -> splintr.AnyTokenizer:
    return splintr.Tokenizer.from_pretrained("o200k_base")


class _Widths(dict[int, int]):
    """How many characters begin in a token."""

    def __missing__(self, token: int) -> int:
        begun = sum(not _continues(byte) for byte in _tokenizer().decode_token_bytes(token))
        self[token] = begun
        return begun


class _Whole(dict[int, bool]):
    """Whether a token begins with a whole character, not within one."""

    def __missing__(self, token: int) -> bool:
        is_whole = not _continues(_tokenizer().decode_token_bytes(token)[0])
        self[token] = is_whole
        return is_whole


_widths: Final = _Widths()
_whole: Final = _Whole()


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 goes on with a character that began before it."""
    return 0x80 <= byte < 0xC0


def _leave_out_split_characters(ids: list[int], places: "array[int]", tokens: "array[int]") -> None:
    """Take out the ends of tokens behind which a character goes on."""
    is_end = [*map(_whole.__getitem__, ids[1:]), True]
    for column in (places, tokens):
        first = len(column) - len(ids)
        column[first:] = array("I", compress(column[first:], is_end))


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = min(len(text), start + PIECE_CHARACTERS)
        if end < len(text):
            end = _last(text, "\n", start, end) or _last(text, " ", start, end) or end
        yield text[start:end]
        start = end


def _last(text: str, character: str, start: int, end: int) -> int:
    """The place behind the last such character there, or 0."""
    return text.rfind(character, start, end) + 1
