"""Marks in an answer become citations, wherever the stream has cut them. Pure.

A mark is a citation only if it is one of those that the model was shown; whatever else looks like
one is text. Text is held back only while it is the beginning of such a mark.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

OPENING: Final = "【"


class Piece(NamedTuple):
    """A piece of an answer: text, or a mark with the file that it cites."""

    text: str
    file_id: str | None = None


class Citations:
    """Finds the marks of `files` (mark → file id) in a text that comes in pieces.

    Each mark begins with 【 and no mark is the beginning of another one.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
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
            if not opening or not self._take_mark(pieces):
                break
        return pieces

    def end(self) -> list[Piece]:
        """What is held back still: text, as nothing follows it."""
        held, self._held = self._held, ""
        return [Piece(held)] if held else []

    def _take_mark(self, pieces: list[Piece]) -> bool:
        """Take what is held past its 【; False where it may become a mark yet."""
        begun = [mark for mark in self._files if self._is_begun(mark)]
        if not begun:
            pieces.append(Piece(self._held[0]))
            self._held = self._held[1:]
            return True
        mark = begun[0]
        if len(self._held) < len(mark):
            return False
        pieces.append(Piece(mark, self._files[mark]))
        self._held = self._held[len(mark) :]
        return True

    def _is_begun(self, mark: str) -> bool:
        return mark.startswith(self._held) or self._held.startswith(mark)
