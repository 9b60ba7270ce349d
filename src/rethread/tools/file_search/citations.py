"""Which marks in an answer are citations. Pure; `annotating.py` finds them in the stream.

A mark is a citation if the model was shown it, or one with its numbers: many models put a word of
their own in the place of the file's name, or nothing. Whatever else looks like a mark is text.
"""

import re
from collections.abc import Mapping
from typing import Final

from rethread.tools.annotating import Piece

OPENING: Final = "【"
# The longest name that a file may have is 255 characters.
MARK: Final = re.compile(r"【\d{1,6}:\d{1,6}(?:†[^【】\n]{0,255})?】")
BEGUN: Final = re.compile(r"【(?:\d{1,6}(?::(?:\d{1,6}(?:†[^【】\n]{0,255})?)?)?)?")


class Citations:
    """The marks of `files` (mark → file id).

    Of several that have the same numbers, one with another name stands for the first.
    """

    opening = OPENING

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._by_numbers: dict[str, str] = {}
        for mark, file_id in files.items():
            self._by_numbers.setdefault(_numbers(mark), file_id)

    def taken(self, held: str, *, is_end: bool) -> Piece | None:
        """The mark that the text begins with, or its 【 where it is none; None: not known yet."""
        if not is_end and self._may_become_mark(held):
            return None
        found = MARK.match(held)
        text = found[0] if found else OPENING
        file_id = self._files.get(text) or self._by_numbers.get(_numbers(text))
        return Piece(text, file_id) if file_id else Piece(OPENING)

    def _may_become_mark(self, held: str) -> bool:
        if not BEGUN.fullmatch(held):
            return False
        begun = _numbers(held)
        if "†" in held:
            return begun in self._by_numbers
        return any(numbers.startswith(begun) for numbers in self._by_numbers)


def _numbers(mark: str) -> str:
    """`【0:1` of `【0:1†name】`, or of as much of it as there is."""
    return mark.rstrip("】").partition("†")[0]
