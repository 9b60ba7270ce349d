"""A form that is sent as multipart/form-data, read part by part while it arrives.

Nothing of it is kept here: a part's bytes are passed on in pieces, and the next ones are only
asked for when those have been taken. Knows nothing of what the parts mean.
"""

import logging
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, NamedTuple
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from rethread.blobs import PIECE_BYTES, Piece
from rethread.errors import Invalid, shortened

MAX_FIELD_BYTES: Final = 64 * 1024
MAX_PARTS: Final = 32
# Some clients name a file in this way alone where its name is not ASCII.
EXTENDED_NAME: Final = re.compile(r"filename\*\s*=\s*utf-8''([^;\s]+)", re.IGNORECASE)
# What clients write for what would end the name; they write nothing else so.
ESCAPES: Final = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))

# What is wrong with a form its client is told, and the log need not know.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class Part(NamedTuple):
    """A part's head; a field that is no file has no `filename`."""

    name: str
    filename: str | None


class Form:
    """The parts, one after the other: `async for part in form`, then `pieces` or `text` of it."""

    def __init__(self, body: AsyncIterator[bytes], content_type: str | None) -> None:
        self._body = body
        self._waiting: deque[Part | Piece | None] = deque()  # None ends a part
        self._headers: dict[str, bytes] = {}
        self._field = self._value = b""
        self._parts = 0
        self._is_within_part = False
        self._is_whole = False
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    async def __aiter__(self) -> AsyncIterator[Part]:
        """The parts' heads; Invalid where it is no form, or not whole."""
        while True:
            while not self._waiting:
                if not await self._read_on():
                    return
            item = self._waiting.popleft()
            if isinstance(item, Part):
                self._is_within_part = True
                yield item

    async def pieces(self) -> AsyncGenerator[Piece]:
        """The bytes of the part that has just begun."""
        gathered: list[Piece] = []
        size = 0
        while self._is_within_part:
            while not self._waiting:
                await self._read_on()
            item = self._waiting.popleft()
            if isinstance(item, bytes | memoryview):
                gathered.append(item)
                size += len(item)
            else:
                self._is_within_part = False
            if gathered and (size >= PIECE_BYTES // 2 or not self._is_within_part):
                yield gathered[0] if len(gathered) == 1 else b"".join(gathered)
                gathered, size = [], 0

    async def text(self, name: str) -> str:
        """The part that has just begun, as the value of a field."""
        value = bytearray()
        async for piece in self.pieces():
            value += piece
            if len(value) > MAX_FIELD_BYTES:
                raise Invalid(
                    f"Invalid '{shortened(name)}': a field of the form may have "
                    f"{MAX_FIELD_BYTES} bytes at most.",
                    param=shortened(name),
                    code="string_above_max_length",
                )
        return _decoded(bytes(value), "A field")

    async def _read_on(self) -> bool:
        """Whether there was more of the body."""
        piece = await anext(self._body, None)
        if piece is None:
            if not self._is_whole:
                raise _no_form("it ends before its last boundary")
            return False
        try:
            self._parser.write(piece)
        except FormParserError as problem:
            raise _no_form(str(problem)) from problem
        return True

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value
        self._field = self._value = b""

    def _on_headers(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _no_form(f"it has more than {MAX_PARTS} parts")
        self._waiting.append(_part(self._headers.get("content-disposition", b"")))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._waiting.append(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        self._waiting.append(None)

    def _on_end(self) -> None:
        self._is_whole = True


def _boundary(content_type: str | None) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 256:
        raise Invalid(
            "Invalid Content-Type header: expected 'multipart/form-data' with a boundary, but got "
            f"'{shortened(content_type or '')}'."
        )
    return boundary


def _part(disposition: bytes) -> Part:
    text = disposition.decode("latin-1")
    kind, options = parse_options_header(text)
    name = options.get(b"name")
    if kind != b"form-data" or name is None:
        raise _no_form("a part has no name")
    given = options.get(b"filename")
    extended = EXTENDED_NAME.search(text)
    if given is not None:
        filename = _decoded(given, "The name of a file")
        for escape, character in ESCAPES:
            filename = filename.replace(escape, character)
        return Part(_decoded(name, "The name of a field"), filename)
    unquoted = unquote(extended[1], errors="replace") if extended else None
    return Part(_decoded(name, "The name of a field"), unquoted)


def _decoded(value: bytes, what: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise Invalid(f"{what} in the form of your request is not valid UTF-8.") from problem


def _no_form(why: str) -> Invalid:
    return Invalid(f"We could not parse the multipart form of your request: {why}.")
