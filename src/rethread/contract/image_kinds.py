"""Which kind an image is, by what it begins with: its name may say anything. Pure."""

import re
from typing import Final

LONGEST_BEGINNING_BYTES: Final = 12
BEGINNINGS: Final = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "gif": re.compile(rb"GIF8[79]a"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}


def kind_of(content: bytes) -> str | None:
    """The kind that models take; None for another one, or for what is no image."""
    return next((kind for kind, begins in BEGINNINGS.items() if begins.match(content)), None)
