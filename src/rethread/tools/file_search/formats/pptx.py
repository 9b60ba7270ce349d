"""PowerPoint's .pptx: each slide's title, text and tables, then the speaker's notes.

A slide is a page. Slides come in the order in which they are shown.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rethread.tools.file_search.documents import Document
from rethread.tools.file_search.formats.archive import Archive, Handler, opened
from rethread.tools.file_search.formats.blocks import Blocks

MAIN: Final = "ppt/presentation.xml"
TITLES: Final = frozenset({"title", "ctrTitle"})
NO_CONTENT: Final = frozenset({"sldNum", "dt", "ftr", "hdr"})  # number, date, foot, head


def read(path: Path, extension: str) -> Document:
    """The presentation's text."""
    with opened(path, needs=MAIN, extension=extension) as archive:
        order = _Order()
        archive.feed(MAIN, order)
        links = archive.links(MAIN)
        blocks = Blocks()
        for link in order.slides:
            blocks.begin_page()
            if link in links:
                _read_slide(archive, links[link][1], blocks)
        return blocks.document()


def _read_slide(archive: Archive, name: str, blocks: Blocks) -> None:
    archive.feed(name, _Slide(blocks))
    for kind, notes in archive.links(name).values():
        if kind == "notesSlide" and notes in archive:
            archive.feed(notes, _Slide(blocks))


class _Order(Handler):
    def __init__(self) -> None:
        self.slides: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag.endswith("}sldId"):  # it has an id of its own, and that of its link
            self.slides += [value for name, value in attributes.items() if name.endswith("}id")]


class _Slide(Handler):
    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._text: list[str] = []
        self._cells: list[list[str]] | None = None
        self._placeholder = ""
        self._is_text = False

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "t":
            self._is_text = self._placeholder not in NO_CONTENT
        elif name == "br":
            self._text.append("\n")
        elif name == "ph":
            self._placeholder = attributes.get("type", "body")
        elif name == "tr":
            self._cells = []
        elif name == "tc" and self._cells is not None:
            self._cells.append([])

    def data(self, text: str) -> None:
        if self._is_text:
            self._text.append(text)

    def finish(self, name: str) -> None:
        if name == "t":
            self._is_text = False
        elif name == "p":
            self._end_paragraph("".join(self._text))
            self._text = []
        elif name == "sp":
            self._placeholder = ""
        elif name == "tr" and self._cells is not None:
            self._blocks.row([" ".join(cell) for cell in self._cells])
            self._cells = None

    def _end_paragraph(self, text: str) -> None:
        if self._cells:
            self._cells[-1].append(text.strip())
        elif self._placeholder in TITLES:
            self._blocks.heading(1, text)
        else:
            self._blocks.paragraph(text)
