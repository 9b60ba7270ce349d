"""Listeners only listen: one that leaves stops nothing, one that does not read slows nobody."""

import json
import socket
from contextlib import ExitStack
from typing import Any

from tests.fakes.replies import PATIENCE_SECONDS, Gate, text
from tests.faults.scene import Scene, parsed, streamed_text, text_of

SLOW_LISTENERS = 20
PIECE = "slow and steady " * 1024  # 16 KiB
PIECES = 400  # 6 MiB in all: more than a connection's buffers hold
BUFFERED_MIB = SLOW_LISTENERS * PIECES / 64  # if each listener's share were kept for it


def test_a_client_that_leaves_its_stream_does_not_stop_the_run(scene: Scene) -> None:
    gate = Gate()
    scene.model.replies.append(text("Still", " here.").then(gate, after=1))
    thread_id = scene.thread()
    with scene.beta.threads.runs.create(
        thread_id=thread_id, assistant_id=scene.assistant(), stream=True
    ) as stream:
        for event in stream:
            if event.event == "thread.message.delta":
                break
    gate.open()
    run = scene.rest(scene.run_on(thread_id))
    assert run.status == "completed"
    assert text_of(scene.messages(run)[0]) == "Still here."


def test_two_listeners_hear_the_same_whenever_they_come(scene: Scene) -> None:
    gate = Gate()
    scene.model.replies.append(text("To", " both.").then(gate, after=1))
    thread_id = scene.thread()
    first = scene.listen(thread_id, key="both")
    first.wait_for('"To"')
    second = scene.listen(thread_id, key="both")
    second.wait_for('"To"')
    gate.open()
    assert first.ended() == second.ended()
    assert streamed_text(first.heard()) == "To both."


def slow_listener(scene: Scene, thread_id: str, body: Any, key: str) -> socket.socket:
    """A client that asks for a stream and does not read it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE_SECONDS)
    connection.connect(("127.0.0.1", scene.server.port))
    content = json.dumps(body, separators=(",", ":")).encode()  # as the other listener
    head = (
        f"POST /v1/threads/{thread_id}/runs HTTP/1.1\r\nhost: localhost\r\n"
        f"idempotency-key: {key}\r\nconnection: close\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    connection.recv(16, socket.MSG_PEEK)  # it is being answered
    return connection


def whole_answer(connection: socket.socket) -> bytes:
    """The rest of a chunked answer's body."""
    received = bytearray()
    while piece := connection.recv(1 << 20):
        received += piece
    rest, body = received.partition(b"\r\n\r\n")[2], bytearray()
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return bytes(body)


def test_slow_clients_cost_bounded_memory_and_slow_nobody(scene: Scene) -> None:
    """The same run twice: heard by one quick listener, then also by many who do not read."""
    before = 0.0
    for slow_count in (0, SLOW_LISTENERS):
        gate, thread_id, key = Gate(), scene.thread(), f"slow-{slow_count}"
        scene.model.replies.append(text(*[PIECE] * PIECES).then(gate, after=1))
        quick = scene.listen(thread_id, key=key)
        quick.wait_for("slow and steady")
        body = {"assistant_id": scene.assistant_of(thread_id), "stream": True}
        with ExitStack() as stack:
            slow = [
                stack.enter_context(slow_listener(scene, thread_id, body, key))
                for _ in range(slow_count)
            ]
            gate.open()
            heard = quick.ended()
            assert streamed_text(heard) == PIECE * PIECES
            if not slow:
                before = scene.server.memory_mib()  # what such a run costs by itself
                continue
            assert scene.server.memory_mib() - before < BUFFERED_MIB / 2
            # They only have to read on: nothing is lost to them.
            assert parsed(whole_answer(slow[0])) == heard
