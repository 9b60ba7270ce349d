"""Attacks on who reads the kernel's messages: the session's code owns the kernel, its sockets and
its key, so anything can be said in its name. Each says it once, and returns.
"""

import hashlib
import hmac
import json
import os
import socket
import stat
import struct
import threading
import time
from typing import Any

from tests.escape.inside import HOST

MB = 2**20


def kernel() -> Any:
    from ipykernel.kernelapp import IPKernelApp

    return IPKernelApp.instance().kernel


def publish(*parts: bytes) -> None:
    """Say something to all who listen, as it is."""
    kernel().iopub_socket.send_multipart(list(parts))


def message(kind: str, content: object, *, parent: object = None) -> list[bytes]:
    """A message in the kernel's name, signed with its key."""
    session = kernel().session
    own = kernel().get_parent()["header"]
    said: list[object] = [session.msg_header(kind), own if parent is None else parent, {}]
    parts = [json.dumps(each, default=str).encode() for each in said]
    parts.append(content if isinstance(content, bytes) else json.dumps(content).encode())
    signature = hmac.new(session.key, b"".join(parts), hashlib.sha256).hexdigest().encode()
    return [b"<IDS|MSG>", signature, *parts]


def sockets_of_the_kernel() -> list[int]:
    """Its connected descriptors, below whatever library has them."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as one:
                    if one.getsockname() and one.getpeername() is not None:
                        found.append(number)
        except OSError:
            continue
    return found


def say_it_properly() -> object:
    """So that it is known that what follows is heard at all."""
    publish(*message("stream", {"name": "stdout", "text": "said properly"}))
    return None


def say_it_is_done() -> object:
    """While it goes on; what comes after must not become the next call's."""
    publish(*message("status", {"execution_state": "idle"}))
    publish(*message("stream", {"name": "stdout", "text": "after the end"}))
    return None


def speak_for_another_call() -> object:
    parents: list[object] = [{"msg_id": "none"}, {}, {"msg_id": None}, {"msg_id": ["x"]}, []]
    for parent in parents:
        publish(*message("stream", {"name": "stdout", "text": "of another call"}, parent=parent))
        publish(*message("execute_reply", {"status": "ok"}, parent=parent))
    return None


def sign_wrongly() -> object:
    parts = message("stream", {"name": "stdout", "text": "unsigned"})
    publish(parts[0], b"0" * 64, *parts[2:])
    return None


def say_it_malformed() -> object:
    for parts in (
        [],
        [b""],
        [b"<IDS|MSG>"],
        [b"<IDS|MSG>", b"", b"{", b"[", b"nul", b"\xff\xfe"],
        [b"<IDS|MSG>"] * 200,
        [b"<IDS|MSG>", b"", b"[]", b"[]", b"[]", b"[]"],
        [b"<IDS|MSG>", b"", b"1e999", b"null", b"-", b'"'],
        [bytes(range(256))] * 8,
    ):
        if parts:
            publish(*parts)
    return None


def say_it_with_other_types() -> object:
    contents: list[object] = [
        None,
        [],
        1,
        "x",
        {},
        {"text": None},
        {"text": {"a": 1}},
        {"text": 1e400},
        {"text": [1] * 9},
    ]
    for kind in ("stream", "display_data", "execute_result", "error", "status", "clear_output"):
        for content in contents:
            publish(*message(kind, content))
        publish(*message(kind, {"data": {"image/png": 7, "text/plain": ["x"]}, "traceback": "no"}))
    return None


def say_what_is_no_text() -> object:
    for text in (b'"\xff\xfe"', b'"\\ud800"', b'"\\u0000"', b'"\xed\xa0\x80"', b'"\\udfff\\ud800"'):
        publish(*message("stream", b'{"name": "stdout", "text": ' + text + b"}"))
        publish(*message("error", b'{"ename": "E", "evalue": "e", "traceback": [' + text + b"]}"))
    return None


def say_it_deeply() -> object:
    deep = b"[" * 1_000_000
    publish(*message("stream", b'{"name": "stdout", "text": ' + deep + b"]" * 1_000_000 + b"}"))
    publish(*message("display_data", b'{"data": {"text/plain": ' + deep + b"}}"))
    publish(b"<IDS|MSG>", b"", deep, deep, deep, deep)
    return None


def say_something_huge() -> object:
    publish(*message("stream", b'{"name": "stdout", "text": "' + b"x" * (40 * MB) + b'"}'))
    return None


def say_many_things() -> object:
    one = message("stream", {"name": "stdout", "text": "m" * 100})
    for _ in range(25_000):
        publish(*one)
    return None


def say_many_parts() -> object:
    publish(b"<IDS|MSG>", *[b"x"] * 20_000)
    return None


def ask_the_user() -> object:
    """Nobody is there to answer."""
    target = kernel().shell_stream
    if target is not None:
        target.send_multipart(message("input_request", {"prompt": "key?", "password": True}))
    return None


def say_it_below_the_protocol() -> object:
    """What is no frame at all, written into the descriptors themselves; it must end itself, as
    nothing is heard of it any more.
    """
    for number in sockets_of_the_kernel():
        try:
            os.set_blocking(number, False)
            os.write(number, b"\x02" + struct.pack(">Q", 2**63 - 1) + b"x" * 1000)
        except OSError:
            continue
    time.sleep(0.2)
    os._exit(0)


def say_frames_without_end() -> object:
    """The start of a long frame, then more of it than there is memory."""
    numbers = sockets_of_the_kernel()

    def push(number: int) -> None:
        os.set_blocking(number, True)
        try:
            os.write(number, b"\x02" + struct.pack(">Q", 2**40))
            for _ in range(600):
                os.write(number, b"x" * MB)
        except OSError:
            return

    for number in numbers:
        threading.Thread(target=push, args=(number,), daemon=True).start()
    time.sleep(1.0)
    os._exit(0)


def close_the_sockets() -> object:
    for number in sockets_of_the_kernel():
        os.close(number)
    return None


def put_links_in_the_place_of_the_sockets() -> object:
    """To a socket of the host's; then the connections are broken, so that new ones be made."""
    for name in os.listdir("/run/kernel"):
        try:
            os.unlink(f"/run/kernel/{name}")
            os.symlink(HOST["socket_paths"][0], f"/run/kernel/{name}")
        except OSError:
            continue
    for number in sockets_of_the_kernel():
        try:
            with socket.socket(fileno=os.dup(number)) as one:
                one.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
    return None


def end_itself() -> object:
    os._exit(0)


def end_everything() -> object:
    os.kill(1, 9)
    if os.fork() == 0:
        os.kill(-1, 9)
    time.sleep(5)
    return None
