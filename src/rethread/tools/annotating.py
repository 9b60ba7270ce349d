"""Finds what is to be annotated in an answer, wherever the stream has cut it. Pure.

What may be found, each kind knows itself: marks of passages, and links to files of code. Text is
held back only while it may become such a thing.
"""

from typing import NamedTuple, Protocol

from rethread.contract.messages import (
    AnnotationDelta,
    CitationDelta,
    FilePath,
    FilePathDelta,
    QuotedCitation,
)


class Piece(NamedTuple):
    """A piece of an answer: text, or what stands for a file: a mark that cites it, or its path."""

    text: str
    file_id: str | None = None
    is_path: bool = False


class Kind(Protocol):
    """What may be found; `opening` is what it always begins with."""

    opening: str

    def taken(self, held: str, *, is_end: bool) -> Piece | None:
        """What a text that begins with the opening begins with; None while more has to come.

        Where it is not what it looks like, that is a piece of plain text.
        """
        ...


class Annotating:
    """Divides a text that comes in pieces into plain text and what is to be annotated."""

    def __init__(self, *kinds: Kind) -> None:
        self._kinds = kinds
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """What is certain by now, in order."""
        self._held += text
        return self._found(is_end=False)

    def end(self) -> list[Piece]:
        """What is held back still, as nothing follows it."""
        return self._found(is_end=True)

    def _found(self, *, is_end: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while self._held:
            start, kind = self._next_opening(is_end=is_end)
            if start:
                _add(pieces, Piece(self._held[:start]))
                self._held = self._held[start:]
            piece = kind.taken(self._held, is_end=is_end) if kind else None
            if piece is None:
                break
            _add(pieces, piece)
            self._held = self._held[len(piece.text) :]
        return pieces

    def _next_opening(self, *, is_end: bool) -> tuple[int, Kind | None]:
        """Where the next one may begin, and what it is, if its opening is whole."""
        places = [(self._held.find(kind.opening), kind) for kind in self._kinds]
        whole = [(start, kind) for start, kind in places if start >= 0]
        if whole:
            return min(whole, key=lambda each: each[0])
        if is_end:
            return len(self._held), None
        return len(self._held) - max((self._begun(kind) for kind in self._kinds), default=0), None

    def _begun(self, kind: Kind) -> int:
        """How many characters at the end may be the beginning of an opening."""
        longest = min(len(kind.opening) - 1, len(self._held))
        lengths = (length for length in range(longest, 0, -1))
        return next((each for each in lengths if self._held.endswith(kind.opening[:each])), 0)


def _add(pieces: list[Piece], piece: Piece) -> None:
    """Text that follows text is one piece with it."""
    if pieces and pieces[-1].file_id is None and piece.file_id is None:
        pieces[-1] = Piece(pieces[-1].text + piece.text)
    else:
        pieces.append(piece)


def annotation(piece: Piece, *, index: int, start: int) -> AnnotationDelta | None:
    """A piece as the text's annotation at `index`, if it is one; `start` is where it stands."""
    if piece.file_id is None:
        return None
    end = start + len(piece.text)
    if piece.is_path:
        return FilePathDelta(
            index=index,
            text=piece.text,
            start_index=start,
            end_index=end,
            file_path=FilePath(piece.file_id),
        )
    return CitationDelta(
        index=index,
        text=piece.text,
        start_index=start,
        end_index=end,
        file_citation=QuotedCitation(piece.file_id),
    )
