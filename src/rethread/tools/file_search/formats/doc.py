"""Word's old .doc (97 to 2003): the main text, notes and text boxes.

A compound file, which olefile opens; the text in it is in pieces, which a table puts in order.
Names and places are those of Microsoft's [MS-DOC], 2.4.1 and 2.5. Older files are refused.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import olefile

from rethread.tools.file_search.documents import Document, Unreadable

MAIN: Final = "WordDocument"
WORD_97: Final = 0xA5EC  # FibBase.wIdent
ENCRYPTED: Final = 0x0100  # bits of the flags at 10 of FibBase
TABLE_1: Final = 0x0200
FIB_BASE_BYTES: Final = 32
COUNTS: Final = 3  # the place of ccpText in FibRgLw97
CLX: Final = 33  # the place of fcClx in FibRgFcLcb97
PIECE_BYTES: Final = 8  # a Pcd
IS_NARROW: Final = 1 << 30  # FcCompressed.fCompressed

FIELD: Final = re.compile("[\x13-\x15]")  # its code, \x14, what it shows, \x15
ROW_END: Final = "\x07\x07"
MEANINGS: Final = str.maketrans(
    {"\r": "\n", "\x0b": "\n", "\x0c": "\n\n", "\x0e": "\n", "\x07": " | ", "\x1e": "-"}
    | dict.fromkeys(map(chr, [*range(7), 8, *range(15, 30), 31]), None)
)


class _Counts(NamedTuple):
    """Characters of each part of a document, in the order in which they stand."""

    text: int
    footnotes: int
    headers: int
    macros: int
    comments: int
    endnotes: int
    text_boxes: int


def read(path: Path, extension: str) -> Document:
    """The document's text."""
    if not olefile.isOleFile(str(path)):
        raise Unreadable("invalid_file", f"This is no {extension} file of Word 97 or later.")
    with olefile.OleFileIO(str(path)) as file:
        if not file.exists(MAIN):
            raise Unreadable("invalid_file", "This is no Word file.")
        main = file.openstream(MAIN).read()
        wide_header, flags = struct.unpack_from("<H8xH", main)
        if wide_header != WORD_97:
            raise Unreadable("invalid_file", "Files of Word 95 or older can't be read.")
        if flags & ENCRYPTED:
            raise Unreadable("invalid_file", "The file is encrypted.")
        table = file.openstream("1Table" if flags & TABLE_1 else "0Table").read()
    counts, clx_place, clx_bytes = _header(main)
    text = "".join(_pieces(main, table[clx_place : clx_place + clx_bytes]))
    return Document("\n\n".join(filter(None, map(_shown, _parts(text, counts)))))


def _header(main: bytes) -> tuple[_Counts, int, int]:
    """The counts, and where in the table's stream the Clx is."""
    place = FIB_BASE_BYTES
    (words,) = struct.unpack_from("<H", main, place)
    place += 2 + 2 * words
    (numbers,) = struct.unpack_from("<H", main, place)
    counts = _Counts(*struct.unpack_from("<7i", main, place + 2 + 4 * COUNTS))
    place += 2 + 4 * numbers + 2
    return counts, *struct.unpack_from("<II", main, place + 8 * CLX)


def _pieces(main: bytes, clx: bytes) -> Iterator[str]:
    """The text, in order."""
    place = 0
    while clx[place] == 1:  # a Prc: how pieces look
        place += 3 + struct.unpack_from("<H", clx, place + 1)[0]
    (size,) = struct.unpack_from("<I", clx, place + 1)
    count = (size - 4) // (4 + PIECE_BYTES)
    ends = struct.unpack_from(f"<{count + 1}I", clx, place + 5)
    first_piece = place + 5 + 4 * (count + 1)
    for number in range(count):
        (where,) = struct.unpack_from("<I", clx, first_piece + PIECE_BYTES * number + 2)
        length = ends[number + 1] - ends[number]
        if where & IS_NARROW:
            start = (where & ~IS_NARROW) // 2
            yield main[start : start + length].decode("cp1252", "replace")
        else:
            yield main[where : where + 2 * length].decode("utf-16-le", "replace")


def _parts(text: str, counts: _Counts) -> Iterator[str]:
    """Those that are read: not what stands on every page, and no comments."""
    place = 0
    for name, length in counts._asdict().items():
        if name in ("text", "footnotes", "endnotes", "text_boxes"):
            yield text[place : place + length]
        place += length


def _shown(text: str) -> str:
    """What a reader sees of it."""
    without_codes = "".join(_outside_field_codes(text))
    lines = without_codes.replace(ROW_END, "\n").translate(MEANINGS)
    return "\n\n".join(line.strip() for line in lines.split("\n") if line.strip())


def _outside_field_codes(text: str) -> Iterator[str]:
    """The text, of its fields only what they show."""
    codes = 0  # that are open here
    is_code: list[bool] = []
    place = 0
    for mark in FIELD.finditer(text):
        if codes == 0:
            yield text[place : mark.start()]
        place = mark.end()
        if mark.group() == "\x13":
            is_code.append(True)
            codes += 1
        elif is_code and mark.group() == "\x14":
            codes -= is_code[-1]
            is_code[-1] = False
        elif is_code:
            codes -= is_code.pop()
    if codes == 0:
        yield text[place:]
