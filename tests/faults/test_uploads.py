"""An upload that is cut off, by its client or with its server, leaves no file and no bytes."""

import hashlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import openai

from tests.conftest import StartServer
from tests.fakes.s3_server import BUCKET, running_s3
from tests.faults.scene import stock_client
from tests.server import ServerProcess, running_server, wait_until

HEAD: Final = (
    b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nvision\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
)
MIB: Final = 2**20


def begin_upload(server: ServerProcess, size: int) -> socket.socket:
    """A connection on which all but the end of a file of so many bytes has been sent."""
    wire = socket.create_connection(("127.0.0.1", server.port))
    wire.sendall(
        b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: multipart/form-data; boundary=b\r\n"
        b"content-length: %d\r\n\r\n" % (len(HEAD) + 2 * size) + HEAD + bytes(size)
    )
    return wire


def lying(server: ServerProcess) -> list[Path]:
    """What lies where the content of files is kept."""
    return [path for path in (server.data_dir / "files").rglob("*") if path.is_file()]


def is_clean(server: ServerProcess) -> bool:
    """Whether nothing lies there, and nothing is to be taken away."""
    return not lying(server) and not server.ask("SELECT 1 FROM blob_trash")


def wait_for_bytes(server: ServerProcess, size: int) -> None:
    """Return when so much of an upload has been written."""
    wait_until(lambda: sum(path.stat().st_size for path in lying(server)) >= size)


def wait_until_tidy(server: ServerProcess) -> None:
    """Return when nothing lies there but what the database refers to, and nothing is missing."""
    server.ask("UPDATE blob_trash SET due_at = 0")  # what another server would have been given
    wait_until(lambda: not server.ask("SELECT 1 FROM blob_trash"))
    referred = {row[0] for row in server.ask("SELECT id FROM blobs")}
    assert {path.name for path in lying(server)} == referred


def test_a_client_that_goes_away_leaves_nothing(start_server: StartServer) -> None:
    server = start_server()
    with begin_upload(server, 8 * MIB):
        wait_for_bytes(server, 4 * MIB)
    wait_until(lambda: is_clean(server))  # a chore looks every other second
    assert server.ask("SELECT 1 FROM files") == []


def test_a_server_that_is_killed_leaves_nothing_of_an_upload(start_server: StartServer) -> None:
    server = start_server()
    with begin_upload(server, 8 * MIB):
        wait_for_bytes(server, 4 * MIB)
        server.kill()
    assert lying(server)
    server.restart()
    if server.database_url is not None:  # else nobody but the one that was killed can have had it
        server.ask("UPDATE blob_trash SET due_at = 1 WHERE due_at > 0")
    wait_until(lambda: is_clean(server))
    assert server.ask("SELECT 1 FROM files") == []


def test_a_server_that_is_killed_leaves_nothing_in_its_bucket(tmp_path: Path) -> None:
    with running_s3() as s3:
        place = ("--files", f"s3://{BUCKET}/files")
        with running_server(tmp_path / "data", *place, env=s3.environment) as server:
            with begin_upload(server, 24 * MIB):
                wait_until(s3.objects)
                server.kill()
            assert s3.objects()
            server.restart()
            wait_until(lambda: not s3.objects() and is_clean(server))
            assert server.ask("SELECT 1 FROM files") == []


def test_of_uploads_under_way_while_a_server_is_killed_the_answered_ones_are_whole(
    start_server: StartServer,
) -> None:
    server = start_server()
    answered: dict[str, bytes] = {}
    enough = threading.Event()

    def upload(number: int) -> None:
        with stock_client(server.url) as client, suppress(openai.APIError):
            while True:
                content = os.urandom(200_000)
                file = client.files.create(file=("a.bin", content), purpose="assistants")
                if number % 2:
                    client.files.delete(file.id)
                else:
                    answered[file.id] = hashlib.sha256(content).digest()
                if len(answered) >= 20:
                    enough.set()

    with ThreadPoolExecutor(4) as threads:
        for number in range(4):
            threads.submit(upload, number)
        enough.wait()
        server.kill()
    server.restart()
    wait_until_tidy(server)
    with stock_client(server.url) as client:
        for file_id, digest in answered.items():
            content = client.files.content(file_id).content
            assert hashlib.sha256(content).digest() == digest
