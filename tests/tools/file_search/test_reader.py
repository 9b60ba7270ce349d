"""Files are read in processes of their own: what they do harms nobody else."""

import asyncio
import codecs
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import psutil
import pytest

from rethread.tools.file_search.reader import Chunk, Reader, Unreadable
from tests.fakes import documents
from tests.fakes.documents import docx, paragraph, pdf, zipped

MIB: Final = 1024 * 1024
PLENTY_SECONDS: Final = 60.0

Write = Callable[[bytes | str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(content: bytes | str) -> Path:
        path = tmp_path / f"file-{len(os.listdir(tmp_path))}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    reader = Reader(processes=2, timeout_seconds=PLENTY_SECONDS, memory_bytes=1024 * MIB)
    yield reader
    await reader.aclose()
    assert children() == []


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "file_search.child" in line(child)]


def line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_until_at_work(process: psutil.Process) -> None:
    """Another process's work makes no event: look until it has done more than start."""
    while process.cpu_times().user < 0.5:
        time.sleep(0.01)


async def chunks_of(reader: Reader, path: Path, filename: str) -> list[Chunk]:
    return await reader.read(path, filename, max_tokens=800, overlap_tokens=400)


async def test_a_file_becomes_chunks(reader: Reader, write: Write) -> None:
    pages = ["One page says this", "Another says that"]
    (chunk,) = await chunks_of(reader, write(pdf(pages)), "a.pdf")
    assert chunk == Chunk("\n\n".join(pages), 0, 1, "one page says this another says that")


async def test_a_large_file_comes_whole(reader: Reader, write: Write) -> None:
    text = "".join(f"This is line {number}.\n" for number in range(200_000))
    chunks = await reader.read(write(text), "a.txt", max_tokens=800, overlap_tokens=0)
    assert "".join(chunk.text for chunk in chunks) == text


LIARS: Final = {
    "nothing": ("a.txt", b""),
    "white space": ("a.md", b" \n\n\t"),
    "latin-1 as text": ("a.txt", "Grüße".encode("latin-1")),
    "utf-16 without its mark": ("a.txt", "Hello".encode("utf-16-le")),
    "a broken utf-16": ("a.md", codecs.BOM_UTF16_LE + b"\0\xd8a"),
    "a program as Python": ("a.py", b"\x7fELF\0\0\0"),
    "a picture without an extension": ("picture", b"\x89PNG\r\n\x1a\n\0\0"),
    "text as PDF": ("a.pdf", b"Just text."),
    "a PDF cut off": ("a.pdf", pdf(["Hello"])[:80]),
    "a PDF of pictures": ("a.pdf", documents.pdf_of([b"q Q"])),
    "a PDF whose pages go round": ("a.pdf", pdf(["Hello"]).replace(b"[4 0 R]", b"[2 0 R]")),
    "a PDF as docx": ("a.docx", pdf(["Hello"])),
    "a docx as pptx": ("a.pptx", docx(paragraph("Hello"))),
    "a docx as PDF": ("a.pdf", docx(paragraph("Hello"))),
    "a docx cut off": ("a.docx", docx(paragraph("Hello"))[:-30]),
    "a docx with damaged bytes": ("a.docx", docx(paragraph("Hello")).replace(b"PK\3\4", b"PK\3\5")),
    "a docx with broken XML": ("a.docx", docx("<w:p>")),
    "an empty docx": ("a.docx", docx("")),
    "a docx as doc": ("a.doc", docx(paragraph("Hello"))),
    "rich text as doc": ("a.doc", rb"{\rtf1 Hello}"),
    "a compound file that is no doc": ("a.doc", documents.compound({"1Table": b""})),
    "an encrypted doc": ("a.doc", documents.doc([("Hello", True)], [5], flags=0x0100)),
    "text as xlsx": ("a.xlsx", b"a,b"),
    "an e-book without a book": ("a.epub", zipped({"META-INF/container.xml": "<container/>"})),
    "text as mail": ("a.eml", b"Just text.\n\nAnd more."),
}


async def test_a_file_that_is_not_what_its_name_says_is_invalid(
    reader: Reader, write: Write
) -> None:
    for liar, (filename, content) in LIARS.items():
        with pytest.raises(Unreadable) as refused:
            await chunks_of(reader, write(content), filename)
        assert (liar, refused.value.code) == (liar, "invalid_file")
        assert refused.value.message.endswith(".")
    with pytest.raises(Unreadable) as refused:
        await chunks_of(reader, write("text"), "a.png")
    assert refused.value.code == "unsupported_file"
    assert len(children()) == 1  # none of them cost a process


async def test_a_file_that_never_ends_is_given_up_and_harms_no_other(write: Write) -> None:
    reader = Reader(processes=2, timeout_seconds=2.0, memory_bytes=1024 * MIB)
    endless = write(documents.pdf_of([b"BT /F1 1 Tf " + b"(a) Tj " * 5_000_000 + b"ET"]))
    given_up = asyncio.create_task(chunks_of(reader, endless, "a.pdf"))
    for number in range(20):
        (chunk,) = await chunks_of(reader, write(f"number {number}"), "a.txt")
        assert chunk.text == f"number {number}"
    with pytest.raises(Unreadable, match="more than 2 seconds") as refused:
        await given_up
    assert refused.value.code == "invalid_file"
    assert len(children()) == 1
    await reader.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
async def test_a_file_that_needs_too_much_memory_is_given_up(write: Write, tmp_path: Path) -> None:
    reader = Reader(processes=1, timeout_seconds=PLENTY_SECONDS, memory_bytes=64 * MIB)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(150 * MIB)
    with pytest.raises(Unreadable, match="memory") as refused:
        await chunks_of(reader, large, "a.txt")
    assert refused.value.code == "invalid_file"
    assert await chunks_of(reader, write("still here"), "a.txt")
    await reader.aclose()


async def test_a_process_that_dies_is_replaced(reader: Reader, write: Write) -> None:
    path = write("text")
    await chunks_of(reader, path, "a.txt")
    (child,) = children()
    child.kill()
    child.wait()
    assert await chunks_of(reader, path, "a.txt")
    assert children() != [child]


async def test_who_does_not_wait_any_more_leaves_no_process_at_work(
    reader: Reader, write: Write
) -> None:
    slow = write(documents.pdf_of([b"BT /F1 1 Tf " + b"(a) Tj " * 5_000_000 + b"ET"]))
    await chunks_of(reader, write("text"), "a.txt")
    (child,) = children()
    reading = asyncio.create_task(chunks_of(reader, slow, "a.pdf"))
    await asyncio.to_thread(wait_until_at_work, child)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert children() == []


async def test_a_reader_that_is_closed_says_that_it_is_not_the_file(write: Write) -> None:
    reader = Reader(processes=1, timeout_seconds=PLENTY_SECONDS, memory_bytes=1024 * MIB)
    slow = write(documents.pdf_of([b"BT /F1 1 Tf " + b"(a) Tj " * 5_000_000 + b"ET"]))
    await chunks_of(reader, write("text"), "a.txt")
    (child,) = children()
    reading = [asyncio.create_task(chunks_of(reader, slow, "a.pdf")) for _ in range(2)]
    await asyncio.to_thread(wait_until_at_work, child)
    await reader.aclose()
    for result in await asyncio.gather(*reading, return_exceptions=True):
        assert isinstance(result, Unreadable)
        assert result.code == "server_error"
    assert children() == []


async def test_a_file_that_is_not_there_is_our_fault(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="not there") as refused:
        await chunks_of(reader, tmp_path / "gone", "a.txt")
    assert refused.value.code == "server_error"


async def test_a_process_knows_no_secret_and_holds_no_socket(
    reader: Reader, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        await chunks_of(reader, write("text"), "a.txt")
        (child,) = children()
        assert "sk-secret" not in child.environ().values()
        assert child.net_connections("all") == []


PARENT: Final = """
import asyncio, sys
from pathlib import Path
from rethread.tools.file_search.reader import Reader

async def main():
    reader = Reader(processes=1, timeout_seconds=600, memory_bytes=2**30)
    await reader.read(Path(sys.argv[1]), "a.txt", max_tokens=800, overlap_tokens=400)
    print("ready", flush=True)
    await reader.read(Path(sys.argv[2]), "a.pdf", max_tokens=800, overlap_tokens=400)

asyncio.run(main())
"""


def test_a_process_ends_with_its_parent_also_after_kill_9(write: Write) -> None:
    slow = write(documents.pdf_of([b"BT /F1 1 Tf " + b"(a) Tj " * 5_000_000 + b"ET"]))
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(write("text")), str(slow)],
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        (child,) = psutil.Process(parent.pid).children()
        wait_until_at_work(child)
        parent.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
