"""E-books (.epub): their chapters in the order of reading."""

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from rethread.tools.file_search.documents import Document
from rethread.tools.file_search.formats import html
from rethread.tools.file_search.formats.archive import Handler, opened
from rethread.tools.file_search.formats.blocks import Blocks
from rethread.tools.file_search.formats.plain import decoded

MAIN: Final = "META-INF/container.xml"
PAGES: Final = frozenset({"application/xhtml+xml", "text/html"})


def read(path: Path, extension: str) -> Document:
    """The book's text."""
    with opened(path, needs=MAIN, extension=extension) as archive:
        container = _Container()
        archive.feed(MAIN, container)
        book = _Book()
        archive.feed(container.book, book)
        folder = posixpath.dirname(container.book)
        blocks = Blocks()
        for chapter in book.chapters():
            name = posixpath.normpath(posixpath.join(folder, unquote(chapter)))
            if name in archive:
                html.add(decoded(archive.read(name)), blocks)
        return blocks.document()


class _Container(Handler):
    book = ""

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "rootfile" and not self.book:
            self.book = attributes.get("full-path", "")


class _Book(Handler):
    def __init__(self) -> None:
        self._pages: dict[str, str] = {}
        self._order: list[str] = []

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "item" and attributes.get("media-type") in PAGES:
            self._pages[attributes.get("id", "")] = attributes.get("href", "")
        elif name == "itemref":
            self._order.append(attributes.get("idref", ""))

    def chapters(self) -> list[str]:
        """Where the chapters lie, in order; a book may name one twice."""
        places = (self._pages[id] for id in self._order if id in self._pages)
        return list(dict.fromkeys(places))
