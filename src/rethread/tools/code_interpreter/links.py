"""Which links in an answer lead to files of code. Pure; `annotating.py` finds them in the stream.

A link is `sandbox:/mnt/data/` and the path of a file that is known, as it is or quoted as in a
URL. The longest path that fits wins, and where the text goes on as a path would, it is another
one: a link to a file that is not known is text.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from rethread.tools.annotating import Piece

OPENING: Final = "sandbox:/mnt/data/"
GOES_ON: Final = re.compile(r"[A-Za-z0-9_%/-]|\.[A-Za-z0-9_]")
MAY_GO_ON: Final = ("", ".")  # where only this follows, it is not known yet


class Links:
    """The links to `files` (path under /mnt/data → file id)."""

    opening = OPENING

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def taken(self, held: str, *, is_end: bool) -> Piece | None:
        """The link that the text begins with, or its opening as text; None: not known yet."""
        best = Piece(OPENING)
        for path, file_id in self._files.items():
            for length in (_as_it_is(held, path), _as_in_url(held, path)):
                if not is_end and (length is None or held[length:] in MAY_GO_ON):
                    return None
                if length and length > len(best.text) and not GOES_ON.match(held, length):
                    best = Piece(held[:length], file_id, is_path=True)
        return best


def link(path: str) -> str:
    """The link to a path, as a URL has it."""
    return OPENING + quote(path)


def _as_it_is(held: str, path: str) -> int | None:
    """How long the link is that a text begins with; 0 where it is another, None where it is cut."""
    whole = OPENING + path
    if held.startswith(whole):
        return len(whole)
    return None if whole.startswith(held) else 0


def _as_in_url(held: str, path: str) -> int | None:
    """The same where any character may be quoted, and a % has to be."""
    place = len(OPENING)
    for character in path:
        escaped = "".join(f"%{byte:02X}" for byte in character.encode())
        rest = held[place : place + len(escaped)]
        if character != "%" and rest[:1] == character:
            place += 1
        elif rest.upper() == escaped:
            place += len(escaped)
        else:
            return None if escaped.startswith(rest.upper()) else 0
    return place
