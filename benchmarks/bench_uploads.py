"""A file of 512 MB, uploaded in one request and in parts: the server's memory, and how fast it is.

The rate is held against `dd` with an fsync at its end, onto the same disk. What is sent comes out
of the page cache by sendfile, so that the client takes as little of the machine as it can.
"""

import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.measure import Process, median, process, report

SIZE: Final = 512 * 2**20
PART: Final = 64 * 2**20
ROUNDS: Final = 3
BOUNDARY: Final = "0123456789abcdef0123456789abcdef"  # as long as the SDKs'
LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def benchmark() -> None:
    """Each round: dd, then the same bytes in one request, then in parts."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        source = Path(folder) / "source"
        with source.open("wb") as opened:
            for _ in range(SIZE // 2**20):
                opened.write(os.urandom(2**20))
        bare: list[float] = []
        whole: list[float] = []
        parts: list[float] = []
        held: list[float] = []
        for number in range(ROUNDS):
            bare.append(_dd(source, Path(folder) / "bare"))
            for upload, seconds in ((_in_one, whole), (_in_parts, parts)):
                data_dir = Path(folder) / f"data{number}"
                command = ("rethread", "serve", "--port", "0", "--data-dir", str(data_dir))
                with process(*command, "--log-level", "warning") as server:
                    took, memory = _measured(server, upload, source)
                seconds.append(took)
                held.append(memory)
                subprocess.run(["rm", "-r", str(data_dir)], check=True)
    mib = SIZE / 2**20
    for what, seconds in (("in one request", whole), ("in parts", parts)):
        rates = [mib / each for each in seconds], [mib / each for each in bare]
        report(f"512 MB {what}, against dd", *map(median, rates), unit="MiB/s", goal=">= 0.5")
    print(f"memory above rest, most of all rounds: {max(held):.0f} MiB (goal: <= 64)")


def _dd(source: Path, target: Path) -> float:
    command = ["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync", "status=none"]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    took = time.perf_counter() - began
    target.unlink()
    return took


def _in_one(port: int, source: Path) -> None:
    with socket.create_connection(("127.0.0.1", port)) as wire:
        _send_form(wire, "/v1/files", source, 0, SIZE, file_field="file")


def _in_parts(port: int, source: Path) -> None:
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wanted = {
            "filename": "a",
            "purpose": "assistants",
            "bytes": SIZE,
            "mime_type": "text/plain",
        }
        upload = _ask(wire, "/v1/uploads", wanted)["id"]
        part_ids = [
            _send_form(wire, f"/v1/uploads/{upload}/parts", source, at, PART, file_field="data")
            for at in range(0, SIZE, PART)
        ]
        _ask(wire, f"/v1/uploads/{upload}/complete", {"part_ids": part_ids})


def _send_form(
    wire: socket.socket, path: str, source: Path, at: int, size: int, *, file_field: str
) -> str:
    head = (
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{file_field}"; filename="a"\r\n\r\n'
    )
    if file_field == "file":
        field = 'content-disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
        head = f"--{BOUNDARY}\r\n{field}{head}"
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    length = len(head) + size + len(tail)
    wire.sendall(
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n"
        f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode()
        + head.encode()
    )
    with source.open("rb") as opened:
        wire.sendfile(opened, at, size)
    wire.sendall(tail)
    return str(_answer(wire)["id"])


def _ask(wire: socket.socket, path: str, wanted: object) -> dict[str, str]:
    body = json.dumps(wanted).encode()
    wire.sendall(
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        "content-type: application/json\r\n\r\n".encode()
        + body
    )
    return _answer(wire)


def _answer(wire: socket.socket) -> dict[str, str]:
    read = b""
    while b"\r\n\r\n" not in read:
        read += wire.recv(65536)
    head, _, body = read.partition(b"\r\n\r\n")
    found = LENGTH.search(head)
    assert found is not None
    while len(body) < int(found[1]):
        body += wire.recv(65536)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(body.decode())
    answered: dict[str, str] = json.loads(body)
    return answered


def _measured(
    server: Process, upload: Callable[[int, Path], None], source: Path
) -> tuple[float, float]:
    """How many seconds it took, and the most MiB that the server had more than before."""
    with _watched(server) as seen:
        began = time.perf_counter()
        upload(server.port, source)
        took = time.perf_counter() - began
    return took, max(seen) - seen[0]


@contextmanager
def _watched(server: Process) -> Iterator[list[float]]:
    time.sleep(1)  # it has warmed up
    seen = [server.memory_mib()]
    has_ended = threading.Event()

    def watch() -> None:
        while not has_ended.wait(0.005):
            seen.append(server.memory_mib())

    watching = threading.Thread(target=watch)
    watching.start()
    yield seen
    has_ended.set()
    watching.join()


if __name__ == "__main__":
    benchmark()
