"""OpenDocument text (.odt): paragraphs, headings, lists, tables, notes.

Left out: what was deleted while changes were tracked, comments, and the text of forms.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rethread.tools.file_search.documents import Document, Unreadable
from rethread.tools.file_search.formats.archive import Archive, Handler, opened
from rethread.tools.file_search.formats.blocks import Blocks

MAIN: Final = "content.xml"
MANIFEST: Final = "META-INF/manifest.xml"
LEFT_OUT: Final = frozenset({"tracked-changes", "annotation", "forms", "note-citation", "desc"})
BREAKS: Final[Mapping[str, str]] = {"tab": "\t", "line-break": "\n"}
MOST_SPACES: Final = 1000  # an element may stand for any number


def read(path: Path, extension: str) -> Document:
    """The document's text."""
    with opened(path, needs=MAIN, extension=extension) as archive:
        _refuse_encrypted(archive)
        blocks = Blocks()
        archive.feed(MAIN, _Body(blocks))
        return blocks.document()


def _refuse_encrypted(archive: Archive) -> None:
    if MANIFEST in archive and b"encryption-data" in archive.read(MANIFEST):
        raise Unreadable("invalid_file", "The file is encrypted.")


class _Body(Handler):
    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._paragraphs: list[list[str]] = []  # a note's stands within another
        self._levels: list[int] = []
        self._notes: list[str] = []
        self._cells: list[list[str]] = []
        self._left_out = self._open_cells = self._items = 0

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in LEFT_OUT:
            self._left_out += 1
        elif name in ("p", "h"):
            self._paragraphs.append([])
            level = attributes.get("outline-level", "1")
            self._levels.append(int(level) if name == "h" and level.isdecimal() else 0)
        elif name in BREAKS:
            self.data(BREAKS[name])
        elif name == "s":
            spaces = attributes.get("c", "1")
            self.data(" " * min(int(spaces), MOST_SPACES) if spaces.isdecimal() else " ")
        elif name == "list-item":
            self._items += 1
        elif name == "table-cell":
            self._open_cells += 1
            if self._open_cells == 1:
                self._cells.append([])

    def data(self, text: str) -> None:
        if self._paragraphs and not self._left_out:
            self._paragraphs[-1].append(text)

    def finish(self, name: str) -> None:
        if name in LEFT_OUT:
            self._left_out -= 1
        elif name in ("p", "h"):
            self._end_paragraph("".join(self._paragraphs.pop()), self._levels.pop())
        elif name == "list-item":
            self._items -= 1
        elif name == "table-cell":
            self._open_cells -= 1
        elif name == "table-row" and self._open_cells == 0:
            self._blocks.row([" ".join(cell) for cell in self._cells])
            self._cells = []

    def _end_paragraph(self, text: str, level: int) -> None:
        if self._paragraphs:
            self._notes.append(text)
        elif self._open_cells:
            self._cells[-1].append(text.strip())
        elif level:
            self._blocks.heading(level, text)
        elif self._items:
            self._blocks.item(text)
        else:
            self._blocks.paragraph(text)
        if not self._paragraphs:
            for note in self._notes:
                self._blocks.paragraph(note)
            self._notes = []
