"""Marks in an answer become citations, wherever the stream has cut them. Pure.

A mark is a citation if the model was shown it, or one with its numbers: many models put a word of
their own in the place of the file's name, or nothing. Whatever else looks like a mark is text.
Text is held back only while it may become a citation.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

OPENING: Final = "【"
# The longest name that a file may have is 255 characters.
MARK: Final = re.compile(r"【\d{1,6}:\d{1,6}(?:†[^【】\n]{0,255})?】")
BEGUN: Final = re.compile(r"【(?:\d{1,6}(?::(?:\d{1,6}(?:†[^【】\n]{0,255})?)?)?)?")


class Piece(NamedTuple):
    """A piece of an answer: text, or a mark with the file that it cites."""

    text: str
    file_id: str | None = None


class Citations:
    """Finds the marks of `files` (mark → file id) in a text that comes in pieces.

    Of several that have the same numbers, one with another name stands for the first.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._by_numbers: dict[str, str] = {}
        for mark, file_id in files.items():
            self._by_numbers.setdefault(_numbers(mark), file_id)
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """What is certain by now, in order."""
        pieces: list[Piece] = []
        self._held += text
        while self._held:
            before, opening, behind = self._held.partition(OPENING)
            if before:
                pieces.append(Piece(before))
            self._held = opening + behind
            if not opening or self._may_become_mark():
                break
            pieces.append(self._taken())
        return pieces

    def end(self) -> list[Piece]:
        """What is held back still: text, as nothing follows it."""
        held, self._held = self._held, ""
        return [Piece(held)] if held else []

    def _may_become_mark(self) -> bool:
        if not BEGUN.fullmatch(self._held):
            return False
        begun = _numbers(self._held)
        if "†" in self._held:
            return begun in self._by_numbers
        return any(numbers.startswith(begun) for numbers in self._by_numbers)

    def _taken(self) -> Piece:
        """The mark that is held, or its 【 where it is none."""
        found = MARK.match(self._held)
        text = found[0] if found else OPENING
        file_id = self._files.get(text) or self._by_numbers.get(_numbers(text))
        text = text if file_id else OPENING
        self._held = self._held[len(text) :]
        return Piece(text, file_id)


def _numbers(mark: str) -> str:
    """`【0:1` of `【0:1†name】`, or of as much of it as there is."""
    return mark.rstrip("】").partition("†")[0]
