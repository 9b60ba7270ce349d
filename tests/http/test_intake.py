"""Bodies that are read past the HTTP parser: whole, and nothing of what comes behind them."""

import os
import socket
from types import SimpleNamespace
from typing import Any, Final

import httpx2
import pytest

from rethread.http import intake
from tests.server import ServerProcess

MIB: Final = 2**20
ALMOST_AN_END: Final = b"\r\n--a\r\n\r\n--\r\n-"


def upload(content: bytes) -> bytes:
    """A request that uploads it."""
    body = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nvision\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + content
        + b"\r\n--b--\r\n"
    )
    head = b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n" % len(body)
    return head + b"content-type: multipart/form-data; boundary=b\r\n\r\n" + body


def test_large_bodies_and_what_comes_behind_them_are_told_apart(
    demo_server: ServerProcess,
) -> None:
    content = os.urandom(3 * MIB) + ALMOST_AN_END + os.urandom(3 * MIB + 7)
    get = b"GET /v1/files?limit=2 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", demo_server.port)) as wire:
        wire.sendall(upload(content) + upload(content[::-1]) + get)
        answers = b"".join(iter(lambda: wire.recv(MIB), b""))
    assert answers.count(b"HTTP/1.1 200") == 3
    listed = httpx2.get(f"{demo_server.url}/files?limit=2").json()["data"]
    for file, sent in zip(listed, (content[::-1], content), strict=True):
        assert httpx2.get(f"{demo_server.url}/files/{file['id']}/content").content == sent


async def test_what_has_come_of_a_slow_body_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def first() -> dict[str, Any]:
        return {"type": "http.request", "body": b"begun", "more_body": True}

    def nothing(*_: object) -> None: ...

    transport = SimpleNamespace(
        pause_reading=nothing,
        set_protocol=nothing,
        resume_reading=nothing,
        is_closing=lambda: False,
    )
    monkeypatch.setattr(intake, "PATIENCE_SECONDS", 0.01)
    connection: Any = SimpleNamespace(transport=transport, body_has_ended=nothing)
    body = intake.Intake(connection, 5 + 2 * MIB, first)
    assert (await body.receive())["body"] == b"begun"
    for part in (b"some", b"more"):
        body.get_buffer(-1)[:4] = part
        body.buffer_updated(4)
        assert await body.receive() == {"type": "http.request", "body": part, "more_body": True}
