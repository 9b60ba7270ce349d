"""Zip files whose parts are XML, as office programs write them, read within limits.

A zip or XML bomb is refused while it is unpacked: what counts is what comes out, not what a
part says of itself. XML is read as it comes, without a tree; a document type, which is where
entities come from, is refused before its first line counts.
"""

import posixpath
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NoReturn

# A target of its own takes each event, no tree is built, and `doctype` refuses what defuses need.
from xml.etree.ElementTree import ParseError, XMLParser

from rethread.tools.file_search.documents import Unreadable

MOST_BYTES: Final = 256 * 1024 * 1024  # unpacked, all parts together
HIGHEST_RATIO: Final = 200  # of unpacked to packed; 10 to 50 is usual for XML
FREE_BYTES: Final = 16 * 1024 * 1024  # to unpack whatever the ratio
PIECE_BYTES: Final = 64 * 1024
COMPOUND: Final = bytes.fromhex("D0CF11E0A1B11AE1")  # what programs wrap around encrypted files
ENCRYPTED: Final = 1  # a bit of a part's flags


class Archive:
    """A zip file's parts, by name."""

    def __init__(self, opened: zipfile.ZipFile) -> None:
        self._zip = opened
        self._left_bytes = MOST_BYTES

    def __contains__(self, name: str) -> bool:
        return name in self._zip.NameToInfo

    def pieces(self, name: str) -> Iterator[bytes]:
        """A part, unpacked; Unreadable if it is missing or a bomb."""
        if name not in self:
            raise Unreadable("invalid_file", f"The file has no part '{name}'.")
        part = self._zip.getinfo(name)
        if part.flag_bits & ENCRYPTED:
            raise Unreadable("invalid_file", "The file is encrypted.")
        allowed = min(self._left_bytes, max(FREE_BYTES, HIGHEST_RATIO * part.compress_size))
        with self._zip.open(part) as opened:
            for piece in _all_of(opened):
                allowed -= len(piece)
                self._left_bytes -= len(piece)
                if allowed < 0:
                    raise Unreadable("invalid_file", "The file unpacks to too much.")
                yield piece

    def read(self, name: str) -> bytes:
        """A part as a whole."""
        return b"".join(self.pieces(name))

    def feed(self, name: str, handler: "Handler") -> None:
        """Hand the events of an XML part to `handler`."""
        parser = XMLParser(target=handler)  # noqa: S314 (see Handler.doctype)
        try:
            for piece in self.pieces(name):
                parser.feed(piece)
            parser.close()
        except ParseError as error:
            raise Unreadable("invalid_file", f"The part '{name}' is damaged: {error}.") from error

    def links(self, name: str) -> Mapping[str, tuple[str, str]]:
        """The parts that a part refers to: by id, the end of the type and the name."""
        folder, base = posixpath.split(name)
        place = posixpath.join(folder, "_rels", f"{base}.rels")
        links = _Links(folder)
        if place in self:
            self.feed(place, links)
        return links.found


class Handler:
    """Takes an XML part's events. Names come without their namespace."""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self.begin(_local(tag), {_local(name): value for name, value in attributes.items()})

    def end(self, tag: str) -> None:
        """An element ends."""
        self.finish(_local(tag))

    def data(self, text: str) -> None:
        """Text within an element; more may follow."""

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element of that name begins."""

    def finish(self, name: str) -> None:
        """An element of that name ends."""

    def doctype(self, name: str, public_id: str | None, system_id: str | None) -> NoReturn:
        """Refuse it: office programs write none, and entity bombs need one."""
        raise Unreadable("invalid_file", "The file's XML has a document type, which is refused.")

    def close(self) -> None:
        """The part has ended."""


@contextmanager
def opened(path: Path, *, needs: str, extension: str) -> Iterator[Archive]:
    """A zip file that has the part `needs`; Unreadable if this is none."""
    try:
        with zipfile.ZipFile(path) as file:
            archive = Archive(file)
            if needs not in archive:
                raise Unreadable(
                    "invalid_file", f"A {extension} file was expected: this lacks {needs}."
                )
            yield archive
    except zipfile.BadZipFile as error:
        with path.open("rb") as other:
            is_encrypted = other.read(len(COMPOUND)) == COMPOUND
        why = "is encrypted, or of an old format" if is_encrypted else "is none, or damaged"
        raise Unreadable("invalid_file", f"A {extension} file was expected: this {why}.") from error


class _Links(Handler):
    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.found: dict[str, tuple[str, str]] = {}

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            kind = attributes.get("Type", "").rpartition("/")[2]
            target = posixpath.join("/", self._folder, attributes.get("Target", ""))
            self.found[attributes.get("Id", "")] = (kind, posixpath.normpath(target).lstrip("/"))


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _all_of(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece
