"""Bodies that are too large, stop coming, or are no HTTP: refused soon, and by an answer."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import httpx2
import pytest

from rethread.errors import TooSlow
from rethread.http import body
from tests.server import ServerProcess

GIGABYTE: Final = 1 << 30
MEGABYTE: Final = 1 << 20
LIMIT: Final = 64 * MEGABYTE
# The server may take this much more before it closes: what a system's buffers hold.
SLACK: Final = 64 * MEGABYTE
MEMORY_MIB: Final = 300
PATIENCE_SECONDS: Final = 20.0


@pytest.fixture(autouse=True)
def answers_on(demo_server: ServerProcess) -> Iterator[None]:
    """After every test the server makes a thread, on a connection of its own."""
    yield
    assert httpx2.post(f"{demo_server.url}/threads", timeout=30).status_code == 200
    assert not [line for line in demo_server.log if "Traceback" in line]


class Pieces:
    """A body of a gigabyte, in pieces; counts those that were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.taken < GIGABYTE:
            self.taken += MEGABYTE
            yield b" " * MEGABYTE


@pytest.mark.parametrize("is_chunked", [False, True], ids=["content-length", "chunked"])
def test_a_gigabyte_is_refused_without_being_read_whole(
    demo_server: ServerProcess, *, is_chunked: bool
) -> None:
    pieces = Pieces()
    headers = {} if is_chunked else {"content-length": str(GIGABYTE)}
    with httpx2.Client(base_url=demo_server.url, timeout=30) as client:
        response = client.post("/threads", content=iter(pieces), headers=headers)
    assert response.status_code == 413
    assert response.json()["error"] == {
        "message": f"The request is too large: its body may have {LIMIT} bytes at most.",
        "type": "invalid_request_error",
        "param": None,
        "code": "request_too_large",
    }
    assert response.headers["connection"] == "close"
    assert pieces.taken <= (LIMIT if is_chunked else 0) + SLACK
    assert demo_server.memory_mib() < MEMORY_MIB


@pytest.mark.parametrize("expects", ["", "Expect: 100-continue\r\n"], ids=["", "expect"])
def test_a_declared_gigabyte_is_refused_before_a_byte_of_it(
    demo_server: ServerProcess, expects: str
) -> None:
    headers = f"Host: localhost\r\n{expects}Content-Length: {GIGABYTE}\r\n"
    head = f"POST /v1/threads HTTP/1.1\r\n{headers}\r\n"
    with closing(connected(demo_server)) as wire:
        wire.sendall(head.encode())
        assert wire.recv(12) == b"HTTP/1.1 413"


def test_a_body_at_the_limit_is_read_and_one_past_it_is_not(demo_server: ServerProcess) -> None:
    url = f"{demo_server.url}/threads"
    fits = b"{" + b" " * (LIMIT - 2) + b"}"
    assert httpx2.post(url, content=fits, timeout=30).status_code == 200
    assert httpx2.post(url, content=fits + b" ", timeout=30).status_code == 413


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nContent-Le",
        b"",
    ],
    ids=["in the body", "in a chunk", "in the headers", "before it began"],
)
def test_clients_that_stop_in_the_middle_make_nothing_and_hold_nobody_up(
    demo_server: ServerProcess, sent: bytes
) -> None:
    wires = [connected(demo_server) for _ in range(50)]
    for wire in wires:
        wire.sendall(sent)
    assert httpx2.get(f"{demo_server.url}/assistants", timeout=5).status_code == 200
    for wire in wires:
        wire.close()


def test_a_body_that_ends_too_soon_makes_nothing(demo_server: ServerProcess) -> None:
    whole = b'{"model": "demo", "name": "half"}'
    head = b"POST /v1/assistants HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (
        len(whole) + 1
    )
    with closing(connected(demo_server)) as wire:
        wire.sendall(head + whole)
        wire.shutdown(socket.SHUT_WR)
        while wire.recv(65536):
            pass  # whatever it says, it closes
    listed = httpx2.get(f"{demo_server.url}/assistants").json()["data"]
    assert [each for each in listed if each["name"] == "half"] == []


async def test_a_body_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def receive() -> dict[str, Any]:
        if (told := first.pop()) is None:
            await never.wait()
        return told or {}

    never = asyncio.Event()
    first: list[dict[str, Any] | None] = [None, {"body": b"{", "more_body": True, "type": ""}]
    monkeypatch.setattr(body, "SILENCE_SECONDS", 0.01)
    with pytest.raises(TooSlow, match="stopped coming"):
        await body.read_body({"headers": []}, receive, limit=100)


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"FOO /v1/threads HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/assistants/asst_\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/assistants?limit=\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/threads HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/threads HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /v1/threads HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/assistants?x=" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda sent: str(sent[:40]),
)
def test_what_is_no_http_is_told_so_in_openai_s_shape(
    demo_server: ServerProcess, sent: bytes
) -> None:
    with closing(connected(demo_server)) as wire:
        wire.sendall(sent)
        told = b""
        with contextlib.suppress(ConnectionResetError):  # behind the answer, if more was sent
            while piece := wire.recv(65536):
                told += piece
    head, _, said = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert set(json.loads(said)["error"]) == {"message", "type", "param", "code"}


def test_headers_without_an_end_are_cut_off(demo_server: ServerProcess) -> None:
    with closing(connected(demo_server)) as wire:
        wire.sendall(b"GET /v1/assistants HTTP/1.1\r\nHost: x\r\nX-Endless: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < GIGABYTE:
                wire.sendall(b"a" * MEGABYTE)
                sent += MEGABYTE
    assert sent <= SLACK
    assert demo_server.memory_mib() < MEMORY_MIB


def test_headers_of_a_usual_size_are_no_matter(demo_server: ServerProcess) -> None:
    headers = {"authorization": "Bearer " + "k" * 16_000, "x-other": "y" * 16_000}
    answer = httpx2.get(f"{demo_server.url}/assistants", headers=headers)
    assert answer.status_code == 200


def connected(server: ServerProcess) -> socket.socket:
    """A connection to the server."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)
