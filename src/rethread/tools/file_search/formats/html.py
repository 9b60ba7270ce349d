"""HTML as its reader sees it: headings, paragraphs, lists, tables; no scripts, no styles."""

import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

from rethread.tools.file_search.documents import Document
from rethread.tools.file_search.formats.blocks import Blocks
from rethread.tools.file_search.formats.plain import decoded

HEADINGS: Final[Mapping[str, int]] = {"title": 1} | {f"h{level}": level for level in range(1, 7)}
ROWS: Final = frozenset({"tr", "table"})
CELLS: Final = frozenset({"td", "th"})
UNSEEN: Final = frozenset({"script", "style", "template", "noscript", "svg"})
# A text goes on through any other element: a link, bold letters.
BLOCKS: Final = frozenset(HEADINGS) | {
    *("address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "dialog"),
    *("div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr"),
    *("html", "legend", "li", "main", "nav", "ol", "option", "p", "pre", "section", "select"),
    *("summary", "table", "tbody", "tfoot", "thead", "tr", "ul"),
}
SPACES: Final = re.compile(r"\s+")
SPACES_IN_LINE: Final = re.compile(r" *\n *| {2,}")


def read(path: Path, extension: str) -> Document:
    """The page's text."""
    blocks = Blocks()
    add(decoded(path.read_bytes()), blocks)
    return blocks.document()


def add(page: str, blocks: Blocks) -> None:
    """Write down a page."""
    reader = _Page(blocks)
    reader.feed(page)
    reader.close()
    reader.end_row()


class _Page(HTMLParser):
    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self._blocks = blocks
        self._text: list[str] = []
        self._block = "p"  # what the text in hand is
        self._cells: list[str] = []
        self._is_in_cell = self._is_preformatted = False
        self._unseen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag in UNSEEN:
            self._unseen.append(tag)
        elif tag == "br":
            self._text.append("\n")
        elif tag == "img":
            self.handle_data(dict(attrs).get("alt") or "")
        elif tag in CELLS:
            self.end_block()
            self._cells.append("")
            self._is_in_cell = True
        elif tag in BLOCKS and not self._begins_item(tag):
            self._begin_block(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unseen:
            del self._unseen[self._unseen.index(tag) :]
        elif tag in CELLS:
            self.end_block()
            self._is_in_cell = False
        elif tag in BLOCKS:
            self._begin_block("p")
            if tag in ROWS:
                self.end_row()

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._text.append(data if self._is_preformatted else SPACES.sub(" ", data))

    def end_row(self) -> None:
        """Write down the cells in hand; one alone is there for the layout."""
        self.end_block()
        if len(self._cells) == 1:
            self._blocks.paragraph(self._cells[0])
        elif self._cells:
            self._blocks.row(self._cells)
        self._cells, self._is_in_cell = [], False

    def end_block(self) -> None:
        """Write down the text in hand."""
        text = "".join(self._text)
        self._text = []
        if not self._is_preformatted:
            text = SPACES_IN_LINE.sub(_as_one, text)
        if self._is_in_cell:
            self._cells[-1] += f" {text}"
        elif self._block in HEADINGS:
            self._blocks.heading(HEADINGS[self._block], text)
        elif self._block == "li":
            self._blocks.item(text)
        else:
            self._blocks.paragraph(text)

    def _begins_item(self, tag: str) -> bool:
        return self._block == "li" and tag in ("p", "div") and not "".join(self._text).strip()

    def _begin_block(self, tag: str) -> None:
        self.end_block()
        if tag in ROWS:
            self.end_row()
        self._block = tag
        self._is_preformatted = tag == "pre"


def _as_one(spaces: re.Match[str]) -> str:
    return "\n" if "\n" in spaces.group() else " "
