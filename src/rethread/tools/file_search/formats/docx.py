"""Word's .docx: paragraphs, headings, lists, tables, text boxes, foot- and endnotes.

Left out: what was deleted or moved away while changes were tracked, comments, and what stands
at the head and foot of every page. Pages are those that Word saw when it last saved the file.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rethread.tools.file_search.documents import Document
from rethread.tools.file_search.formats.archive import Handler, opened
from rethread.tools.file_search.formats.blocks import Blocks

MAIN: Final = "word/document.xml"
STYLES: Final = "word/styles.xml"
NOTES: Final = ("word/footnotes.xml", "word/endnotes.xml")
# Fallback says again, for old programs, what stands in front of it.
LEFT_OUT: Final = frozenset({"moveFrom", "Fallback"})
IN_RUNS: Final[Mapping[str, str]] = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
HEADING_NAME: Final = re.compile(r"heading (\d)", re.IGNORECASE)


def read(path: Path, extension: str) -> Document:
    """The document's text."""
    with opened(path, needs=MAIN, extension=extension) as archive:
        styles = _Styles()
        if STYLES in archive:
            archive.feed(STYLES, styles)
        blocks = Blocks()
        blocks.begin_page()
        archive.feed(MAIN, _Body(blocks, styles))
        for notes in NOTES:
            if notes in archive:
                archive.feed(notes, _Body(blocks, styles))
        document = blocks.document()
        return document if len(document.pages) > 1 else document._replace(pages=())


class _Styles(Handler):
    """Which styles are headings, and which are lists.

    The names of headings are the same in every language, their ids are not.
    """

    def __init__(self) -> None:
        self.levels: dict[str, int] = {}
        self.lists: set[str] = set()
        self._style = ""

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "style":
            self._style = attributes.get("styleId", "")
        elif name == "name":
            named = attributes.get("val", "")
            if heading := HEADING_NAME.fullmatch(named):
                self.levels[self._style] = int(heading.group(1))
            elif named.lower() == "title":
                self.levels[self._style] = 1
        elif name == "numPr":
            self.lists.add(self._style)


class _Body(Handler):
    def __init__(self, blocks: Blocks, styles: _Styles) -> None:
        self._blocks, self._styles = blocks, styles
        self._text: list[str] = []
        self._cells: list[list[str]] = []
        self._level, self._is_item = 0, False
        self._is_text = False
        self._runs = self._left_out = self._open_cells = 0

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in LEFT_OUT:
            self._left_out += 1
        elif name == "r":
            self._runs += 1
        elif name == "t":
            self._is_text = self._left_out == 0
        elif name == "tc":
            self._open_cells += 1
            if self._open_cells == 1:
                self._cells.append([])
        else:
            self._mark(name, attributes)

    def _mark(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "pStyle":
            style = attributes.get("val", "")
            self._level = self._styles.levels.get(style, 0)
            self._is_item = style in self._styles.lists
        elif name == "numPr":
            self._is_item = True
        elif name == "lastRenderedPageBreak":
            self._blocks.begin_page()
        elif name in IN_RUNS and self._runs and not self._left_out:
            self._text.append(IN_RUNS[name])

    def data(self, text: str) -> None:
        if self._is_text:
            self._text.append(text)

    def finish(self, name: str) -> None:
        if name == "t":
            self._is_text = False
        elif name == "p":
            self._end_paragraph()
        elif name in LEFT_OUT:
            self._left_out -= 1
        elif name == "r":
            self._runs -= 1
        elif name == "tc":
            self._open_cells -= 1
        elif name == "tr" and self._open_cells == 0:
            self._blocks.row([" ".join(cell) for cell in self._cells])
            self._cells = []

    def _end_paragraph(self) -> None:
        text = "".join(self._text)
        if self._open_cells:
            self._cells[-1].append(text.strip())
        elif self._level:
            self._blocks.heading(self._level, text)
        elif self._is_item:
            self._blocks.item(text)
        else:
            self._blocks.paragraph(text)
        self._text, self._level, self._is_item = [], 0, False
