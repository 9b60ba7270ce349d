"""Tables as text: .csv and .tsv, divided by whatever their first line is divided by."""

import csv
from io import StringIO
from pathlib import Path
from typing import Final

from rethread.tools.file_search.documents import Document
from rethread.tools.file_search.formats import plain
from rethread.tools.file_search.formats.tables import lines

DELIMITERS: Final = (",", ";", "\t", "|")
MOST_CELL_CHARACTERS: Final = 10_000_000


def read(path: Path, extension: str) -> Document:
    """The table, a line a row."""
    text = plain.read(path, extension).text
    first_line = text.lstrip("\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=first_line.count)
    csv.field_size_limit(MOST_CELL_CHARACTERS)
    rows = csv.reader(StringIO(text), delimiter=delimiter)
    return Document("\n".join(lines(rows)), "table")
