"""Headings, paragraphs, list items and table rows, written down one after another.

As Markdown would have them, which models read well and `chunking.py` knows how to cut.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal

from rethread.tools.file_search.documents import Document

Block = Literal["paragraph", "heading", "item", "row"]

DEEPEST_HEADING: Final = 6
TOGETHER: Final = frozenset({"item", "row"})  # blocks that follow their like without a blank line
LINE_BREAKS: Final = re.compile(r"\s*\n\s*")


class Blocks:
    """A text that grows; blocks without a letter are left out."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._pages: list[int] = []
        self._last: Block | None = None

    def paragraph(self, text: str) -> None:
        """Some sentences."""
        self._add("paragraph", text.strip())

    def heading(self, level: int, text: str) -> None:
        """One line; 1 is the highest level."""
        line = _one_line(text)
        self._add("heading", f"{'#' * min(max(level, 1), DEEPEST_HEADING)} {line}" if line else "")

    def item(self, text: str) -> None:
        """A point of a list."""
        line = _one_line(text)
        self._add("item", f"- {line}" if line else "")

    def row(self, cells: Sequence[str]) -> None:
        """A row of a table."""
        lines = [_one_line(cell) for cell in cells]
        self._add("row", f"| {' | '.join(lines)} |" if any(lines) else "")

    def begin_page(self) -> None:
        """What follows stands on the next page."""
        self._pages.append(self._length)

    def document(self) -> Document:
        """All of it."""
        return Document("".join(self._parts), "markdown", tuple(self._pages))

    def _add(self, block: Block, text: str) -> None:
        if not text:
            return
        is_together = block in TOGETHER and block == self._last
        between = "\n" if is_together else "\n\n" if self._parts else ""
        self._parts.append(between + text)
        self._length += len(between) + len(text)
        self._last = block


def _one_line(text: str) -> str:
    return LINE_BREAKS.sub(" ", text.strip())
