"""A file on disk as the text that is searched: which format it has, and who reads that.

No network, no database, no clock. Runs in the child process (`child.py`) only, as a file may
be anything: whatever it does to its reader, it ends as a `Document` or as `Unreadable`.
One module of `formats` a family; it is imported with the first file that needs it.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol, cast

from rethread.errors import RethreadError

UnreadableCode = Literal["unsupported_file", "invalid_file", "server_error"]
Kind = Literal["prose", "markdown", "latex", "restructured", "code", "table"]

# By extension: the module of `formats` that reads it.
FORMATS: Final[Mapping[str, str]] = {
    **dict.fromkeys((".txt", ".md", ".tex", ".rst"), "plain"),
    **dict.fromkeys((".c", ".cpp", ".cs", ".css", ".go", ".java", ".js", ".php"), "plain"),
    **dict.fromkeys((".py", ".rb", ".sh", ".ts", ".json", ".xml", ".yaml", ".yml"), "plain"),
    **dict.fromkeys((".html", ".htm"), "html"),
    **dict.fromkeys((".csv", ".tsv"), "delimited"),
    **{f".{name}": name for name in ("doc", "docx", "eml", "epub", "odt", "pdf", "pptx", "xlsx")},
}
LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
SUPPORTED: Final[frozenset[str]] = frozenset(FORMATS)


class Unreadable(RethreadError):
    """A file that gives no text; `code` is that of a vector store file's `last_error`."""

    def __init__(self, code: UnreadableCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Document(NamedTuple):
    """The text of a file; `pages` are the places where its pages begin, if it has some."""

    text: str
    kind: Kind = "prose"
    pages: tuple[int, ...] = ()


class Format(Protocol):
    """A module of `formats`."""

    def read(self, path: Path, extension: str) -> Document:
        """The document in the file, or Unreadable; any other error is taken as the file's."""
        ...


def extension_of(filename: str) -> str:
    """`.pdf` of `Report.PDF`; empty where there is none."""
    return Path(filename).suffix.lower()


def read(path: Path, filename: str) -> Document:
    """The document in a file of that name; a name without an extension may be any text."""
    extension = extension_of(filename)
    module = FORMATS.get(extension or ".txt")
    if module is None:
        raise Unreadable(
            "unsupported_file", f"Files with extensions [{extension}] are not supported."
        )
    format = cast(Format, import_module(f"rethread.tools.file_search.formats.{module}"))
    return _storable(format.read(path, extension))


def _storable(document: Document) -> Document:
    """The same, of the same length, without what no database or model takes as text."""
    text = document.text.replace("\0", " ")
    if not text.isascii():
        text = LONE_SURROGATE.sub("\ufffd", text)
    return document._replace(text=text)
