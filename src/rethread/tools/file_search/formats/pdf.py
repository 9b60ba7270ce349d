"""PDF, by pypdf: the text of its pages, without their pictures.

A page that can't be read is left out, as one damaged page should not cost the others.
"""

import logging
import re
from pathlib import Path
from typing import Final

from pypdf import PasswordType, PdfReader
from pypdf.errors import DependencyError

from rethread.tools.file_search.documents import Document, Unreadable

MARK: Final = b"%PDF-"
MARK_WITHIN_BYTES: Final = 1024
HYPHEN: Final = re.compile(r"(?<=[a-z])-\n(?=[a-z])")  # at the end of a line, in a word

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it says much of files that are a bit odd


def read(path: Path, extension: str) -> Document:
    """The text, page by page."""
    with path.open("rb") as file:
        if MARK not in file.read(MARK_WITHIN_BYTES):
            raise Unreadable("invalid_file", "This is no PDF file.")
        reader = PdfReader(file)
        if reader.is_encrypted:
            _decrypt(reader)
        pages: list[str] = [_text(reader, number) for number in range(len(reader.pages))]
    if not any(page.strip() for page in pages):
        raise Unreadable("invalid_file", "The PDF has no text; its pages may be pictures.")
    return _joined(pages)


def _decrypt(reader: PdfReader) -> None:
    try:
        is_open = reader.decrypt("") != PasswordType.NOT_DECRYPTED
    except DependencyError as error:
        raise Unreadable("invalid_file", "The PDF is encrypted.") from error
    if not is_open:
        raise Unreadable("invalid_file", "The PDF can only be read with a password.")


def _text(reader: PdfReader, number: int) -> str:
    try:
        return HYPHEN.sub("", reader.pages[number].extract_text())
    except MemoryError:
        raise
    except Exception:  # whatever pypdf meets in a damaged page
        return ""


def _joined(pages: list[str]) -> Document:
    places: list[int] = []
    length = 0
    for page in pages:
        places.append(length)
        length += len(page) + 2
    return Document("\n\n".join(pages), "prose", tuple(places))
