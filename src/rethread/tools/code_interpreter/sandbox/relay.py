"""The first program in a container: Unix sockets there are reached over its standard streams.

A folder that a container shares with its machine can't carry Unix sockets everywhere (Docker
Desktop, gVisor). So the kernel's sockets stay in the container, and `relaying` opens connections
to them in frames: a kind, the number of a connection, a length, and so many bytes. Run with
`python -c SOURCE SOCKETS ARGUMENT...`, with nothing of rethread to import; it starts `python
ARGUMENT...`, and ends with it, or when nobody holds its standard input any more.
"""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import BinaryIO

HEADER = struct.Struct(">cII")
MOST_BYTES = 64 * 1024
LOOK_SECONDS = 0.02
LAST_SECONDS = 1.0
# To the container: a file to write, an interrupt, a connection to open; both ways: bytes, and the
# end of a connection. From it: a socket that is there now.
FILE, INTERRUPT, OPEN, BYTES, CLOSE, SOCKET = b"f", b"i", b"o", b"b", b"c", b"s"


class Relay:
    """The connections, and the program that they lead to."""

    def __init__(self, sockets: str, arguments: list[str]) -> None:
        self._sockets, self._arguments = sockets, arguments
        self._connections: dict[int, socket.socket] = {}
        self._reading: list[threading.Thread] = []
        self._frames: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
        self._writing = threading.Lock()
        self._program: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Do what the frames say; the exit code of the program."""
        os.dup2(2, 1)  # what the program prints is no frame
        threading.Thread(target=self._hear, daemon=True).start()
        while self._program is None:
            time.sleep(LOOK_SECONDS)
        threading.Thread(target=self._tell, daemon=True).start()
        code = self._program.wait()
        for reading in list(self._reading):  # what it has sent is not lost
            reading.join(LAST_SECONDS)
        return code if code >= 0 else 128 - code

    def _hear(self) -> None:
        asked = sys.stdin.buffer
        while len(header := asked.read(HEADER.size)) == HEADER.size:
            kind, number, length = HEADER.unpack(header)
            self._do(kind, number, asked.read(length))
        if self._program is not None:
            self._program.kill()
        os._exit(0)

    def _do(self, kind: bytes, number: int, content: bytes) -> None:
        if kind == FILE:
            name, _, text = content.partition(b"\0")
            with open(os.path.join(os.fsencode(self._sockets), name), "wb") as file:
                file.write(text)
        elif kind == INTERRUPT:
            if self._program is None:  # the first one says that all files are there
                self._program = subprocess.Popen(  # noqa: S603
                    [sys.executable, *self._arguments], stdin=subprocess.DEVNULL
                )
            else:
                self._program.send_signal(signal.SIGINT)
        elif kind == OPEN:
            self._open(number, os.path.join(self._sockets, content.decode()))
        elif number in self._connections:
            self._pass_on(kind, self._connections[number], content)

    def _open(self, number: int, path: str) -> None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            self._send(CLOSE, number)
            return
        self._connections[number] = connection
        reading = threading.Thread(target=self._read, args=(number, connection), daemon=True)
        self._reading.append(reading)
        reading.start()

    def _pass_on(self, kind: bytes, connection: socket.socket, content: bytes) -> None:
        with contextlib.suppress(OSError):  # the reading thread sees that it has gone
            if kind == BYTES:
                connection.sendall(content)
            else:
                connection.shutdown(socket.SHUT_RDWR)

    def _read(self, number: int, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while some := connection.recv(MOST_BYTES):
                self._send(BYTES, number, some)
        self._send(CLOSE, number)
        del self._connections[number]
        connection.close()

    def _tell(self) -> None:
        """Say which sockets come up."""
        told: set[str] = set()
        while True:
            for name in set(os.listdir(self._sockets)) - told:
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as trying:
                    trying.connect(os.path.join(self._sockets, name))
                    self._send(SOCKET, 0, name.encode())
                    told.add(name)
            time.sleep(LOOK_SECONDS if len(told) < 8 else 1)

    def _send(self, kind: bytes, number: int, content: bytes = b"") -> None:
        with self._writing:
            frame = memoryview(HEADER.pack(kind, number, len(content)) + content)
            while frame:
                frame = frame[self._frames.write(frame) or 0 :]


if __name__ == "__main__":
    os._exit(Relay(sys.argv[1], sys.argv[2:]).run())  # its threads wait for ever
