"""Text as it stands in its file: prose, markup that reads well as it is, and code."""

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rethread.tools.file_search.documents import Document, Kind, Unreadable

KINDS: Final[Mapping[str, Kind]] = {
    "": "prose",
    ".txt": "prose",
    ".md": "markdown",
    ".tex": "latex",
    ".rst": "restructured",
}  # all others are code
MOST_BYTES: Final = 200_000_000  # no text of so many bytes has fewer than 5,000,000 tokens
UTF_16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read(path: Path, extension: str) -> Document:
    """The file's text, its lines ended by a newline each."""
    if path.stat().st_size > MOST_BYTES:
        raise Unreadable("invalid_file", f"The text is larger than {MOST_BYTES} bytes.")
    text = decoded(path.read_bytes())
    return Document(text, KINDS.get(extension, "code"))


def decoded(content: bytes) -> str:
    """Text out of UTF-8, UTF-16 with its mark, or ASCII; Unreadable if it is none of these."""
    is_utf_16 = content.startswith(UTF_16_MARKS)
    encoding, name = ("utf-16", "UTF-16") if is_utf_16 else ("utf-8-sig", "UTF-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(
            "invalid_file",
            "Text must be UTF-8, ASCII, or UTF-16 with a byte order mark:"
            f" this is no {name} from byte {error.start} on.",
        ) from None
    if "\0" in text:
        raise Unreadable("invalid_file", "The file holds zero bytes, so it is no text.")
    return text.replace("\r\n", "\n").replace("\r", "\n")
