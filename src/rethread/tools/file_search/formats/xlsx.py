"""Excel's .xlsx: each sheet's name, then its rows. Formulas are what they gave when saved."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from rethread.tools.file_search.documents import Document
from rethread.tools.file_search.formats.archive import Archive, Handler, opened
from rethread.tools.file_search.formats.tables import lines

MAIN: Final = "xl/workbook.xml"
STRINGS: Final = "xl/sharedStrings.xml"
STYLES: Final = "xl/styles.xml"
MOST_COLUMNS: Final = 16_384  # Excel's own limit
DATE_FORMATS: Final = frozenset([*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)])
NOT_A_DATE: Final = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.|_.|\*.')  # parts of a number's format
DATE_PART: Final = re.compile(r"[ymdhs]", re.IGNORECASE)
EPOCHS: Final = (datetime(1899, 12, 30), datetime(1904, 1, 1))
COLUMN: Final = re.compile(r"[A-Z]{1,3}")


def read(path: Path, extension: str) -> Document:
    """The workbook's text, sheet after sheet."""
    with opened(path, needs=MAIN, extension=extension) as archive:
        book, links = _Book(), archive.links(MAIN)
        archive.feed(MAIN, book)
        strings, styles = _Strings(), _Styles()
        if STRINGS in archive:
            archive.feed(STRINGS, strings)
        if STYLES in archive:
            archive.feed(STYLES, styles)
        meaning = _Meaning(strings.found, styles.date_styles(), book.epoch)
        sheets = [
            _sheet(archive, name, links[link][1], meaning)
            for name, link in book.sheets
            if link in links and links[link][0] == "worksheet"
        ]
    return Document("\n\n".join(filter(None, sheets)), "table")


class _Meaning(NamedTuple):
    strings: Sequence[str]
    date_styles: frozenset[int]
    epoch: datetime


def _sheet(archive: Archive, name: str, part: str, meaning: _Meaning) -> str:
    sheet = _Sheet(meaning)
    archive.feed(part, sheet)
    rows = list(lines(sheet.rows))
    return "\n".join([f"Sheet: {name}", *rows]) if rows else ""


class _Book(Handler):
    def __init__(self) -> None:
        self.sheets: list[tuple[str, str]] = []
        self.epoch = EPOCHS[0]

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "sheet":
            self.sheets.append((attributes.get("name", ""), attributes.get("id", "")))
        elif name == "workbookPr" and attributes.get("date1904") in ("1", "true"):
            self.epoch = EPOCHS[1]


class _Strings(Handler):
    def __init__(self) -> None:
        self.found: list[str] = []
        self._text: list[str] = []
        self._is_text = False
        self._is_phonetic = False  # how Japanese is read aloud

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "rPh":
            self._is_phonetic = True
        self._is_text = name == "t" and not self._is_phonetic

    def data(self, text: str) -> None:
        if self._is_text:
            self._text.append(text)

    def finish(self, name: str) -> None:
        self._is_text = False
        if name == "rPh":
            self._is_phonetic = False
        elif name == "si":
            self.found.append("".join(self._text))
            self._text = []


class _Styles(Handler):
    """Which of the cells' styles show a number as a date."""

    def __init__(self) -> None:
        self._codes: dict[int, str] = {}
        self._formats: list[int] = []
        self._is_of_cells = False

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "numFmt":
            self._codes[_whole(attributes.get("numFmtId"))] = attributes.get("formatCode", "")
        elif name == "cellXfs":
            self._is_of_cells = True
        elif name == "xf" and self._is_of_cells:
            self._formats.append(_whole(attributes.get("numFmtId")))

    def finish(self, name: str) -> None:
        if name == "cellXfs":
            self._is_of_cells = False

    def date_styles(self) -> frozenset[int]:
        return frozenset(
            style for style, number in enumerate(self._formats) if self._is_date(number)
        )

    def _is_date(self, number: int) -> bool:
        code = NOT_A_DATE.sub("", self._codes.get(number, ""))
        return bool(DATE_PART.search(code)) if code else number in DATE_FORMATS


class _Sheet(Handler):
    def __init__(self, meaning: _Meaning) -> None:
        self.rows: list[list[str]] = []
        self._meaning = meaning
        self._row: list[str] = []
        self._column = -1
        self._kind, self._style = "n", 0
        self._value: list[str] = []
        self._is_value = False

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "row":
            self._row, self._column = [], -1
        elif name == "c":
            place = COLUMN.match(attributes.get("r", ""))
            self._column = _column(place.group()) if place else self._column + 1
            self._kind = attributes.get("t", "n")
            self._style = _whole(attributes.get("s"))
            self._value = []
        self._is_value = name in ("v", "t")

    def data(self, text: str) -> None:
        if self._is_value:
            self._value.append(text)

    def finish(self, name: str) -> None:
        self._is_value = False
        if name == "c" and self._value and self._column < MOST_COLUMNS:
            self._row += [""] * (self._column + 1 - len(self._row))
            self._row[self._column] = self._shown("".join(self._value))
        elif name == "row":
            self.rows.append(self._row)

    def _shown(self, value: str) -> str:
        if self._kind == "s":
            place = _whole(value)
            return self._meaning.strings[place] if place < len(self._meaning.strings) else ""
        if self._kind == "b":
            return "TRUE" if value == "1" else "FALSE"
        if self._kind != "n":
            return value
        try:
            number = float(value)
            if self._style in self._meaning.date_styles:
                return _date(self._meaning.epoch + timedelta(days=number))
        except (ValueError, OverflowError):
            return value
        return f"{number:.15g}"  # as Excel shows it, which keeps 17 digits


def _date(moment: datetime) -> str:
    rounded = (moment + timedelta(milliseconds=500)).replace(microsecond=0)
    return rounded.isoformat(" ").removesuffix(" 00:00:00")


def _column(letters: str) -> int:
    """0 of A, 26 of AA."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 10 else 0
