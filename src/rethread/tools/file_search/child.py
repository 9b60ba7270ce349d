"""The process in which files are read: `python -m rethread.tools.file_search.child`.

It is asked over its standard input and answers over its standard output, each frame a length
and MessagePack. Reading a file may fail, loop or eat memory: this process has nothing to lose,
holds no secret and no socket, and ends with the one that started it. Its limits on memory and
time are its own; that the wall clock is kept is its parent's work (`reader.py`).
"""

import os
import resource
import select
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from rethread.tokens import count
from rethread.tools.file_search.chunking import Chunk, chunked
from rethread.tools.file_search.documents import (
    Document,
    Unreadable,
    UnreadableCode,
    extension_of,
    read,
)

HEADER_BYTES: Final = 4
DIVIDING: Final = "rethread.tools.file_search.reach"  # it loads numpy, which takes its time
CHUNKS_A_FRAME: Final = 32  # whoever decodes them is held up for a millisecond
MOST_FILE_BYTES: Final = 64 * 1024 * 1024  # of any file it would write; compiled modules are some
CPU_GRACE_SECONDS: Final = 5  # the parent should have ended it before
STATM: Final = Path("/proc/self/statm")  # Linux only; elsewhere no limit on memory holds


class Asked(msgspec.Struct, array_like=True):
    """Read this file, and divide it; for a store, with its index's entries as the words."""

    path: bytes
    filename: str
    max_tokens: int
    overlap_tokens: int
    store_id: str = ""


class Answer(msgspec.Struct, array_like=True):
    """Some of a file's chunks; the last one says whether that is all, or what went wrong."""

    chunks: list[Chunk] = []
    is_last: bool = False
    code: UnreadableCode | None = None
    message: str = ""
    cause: str = ""
    """For the log, where the message does not say it."""


def main(timeout_seconds: float, memory_bytes: int) -> None:
    """Answer until there is no more to answer."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _allow(resource.RLIMIT_CORE, 0)
    _allow(resource.RLIMIT_FSIZE, MOST_FILE_BYTES)
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a parser prints is no answer
    _write(answers, Answer())
    count("warm up")
    import_module(DIVIDING)
    while header := questions.read(HEADER_BYTES):
        asked = msgspec.msgpack.decode(questions.read(int.from_bytes(header)), type=Asked)
        _limit(timeout_seconds, memory_bytes)
        for answer in _answers(asked):
            _write(answers, answer)


def _write(answers: BinaryIO, answer: Answer) -> None:
    frame = msgspec.msgpack.encode(answer)
    answers.write(len(frame).to_bytes(HEADER_BYTES) + frame)
    answers.flush()


def _answers(asked: Asked) -> Iterator[Answer]:
    if not os.path.exists(asked.path):  # deleted meanwhile: no fault of anybody's
        yield Answer(is_last=True, code="server_error", message="The file is not there.")
        return
    try:
        yield from _divided(_document(asked), asked)
    except Unreadable as refusal:
        yield _refusal(refusal.code, refusal.message)
    except MemoryError:
        yield _refusal("invalid_file", "Reading the file needs too much memory.")
    except Exception:  # a bug of ours: by now the file was read
        yield _refusal("server_error", "The file's text could not be divided.")


def _refusal(code: UnreadableCode, message: str) -> Answer:
    return Answer(is_last=True, code=code, message=message, cause=traceback.format_exc())


def _document(asked: Asked) -> Document:
    path = Path(os.fsdecode(asked.path))
    try:
        path.open("rb").close()
    except OSError as error:
        raise Unreadable("server_error", f"The file is not there: {error.strerror}.") from error
    try:
        return read(path, asked.filename)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # parsers fail in many ways at what is not as it should be
        kind = extension_of(asked.filename) or "text"
        raise Unreadable("invalid_file", f"This is no {kind} file, or a damaged one.") from error


def _divided(document: Document, asked: Asked) -> Iterator[Answer]:
    some: list[Chunk] = []
    for chunk in chunked(
        document,
        max_tokens=asked.max_tokens,
        overlap_tokens=asked.overlap_tokens,
        store_id=asked.store_id,
    ):
        if len(some) == CHUNKS_A_FRAME:
            yield Answer(some)
            some = []
        some.append(chunk)
    if not some:
        raise Unreadable("invalid_file", "The file holds no text.")
    yield Answer(some, is_last=True)


def _limit(timeout_seconds: float, memory_bytes: int) -> None:
    """Some more time and memory than used by now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + timeout_seconds) + CPU_GRACE_SECONDS
    _allow(resource.RLIMIT_CPU, seconds)
    if STATM.exists():
        pages = int(STATM.read_text("ascii").split()[0])
        _allow(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes)


def _allow(limit: int, most: int) -> None:
    """Set a limit that may be raised later, as far as who started the server allows it."""
    _, highest = resource.getrlimit(limit)
    is_free = highest == resource.RLIM_INFINITY
    resource.setrlimit(limit, (most if is_free else min(most, highest), highest))


def _end_with_the_parent() -> None:
    """End at once when the other end of the standard input is gone, also in the midst of a file."""
    closed = select.poll()
    closed.register(0, 0)  # no event but those that always count: hung up, or broken
    closed.poll()
    os._exit(0)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
