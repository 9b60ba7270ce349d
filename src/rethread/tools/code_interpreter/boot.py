"""What the sandbox's Python runs: an IPython kernel on Unix sockets. Its source is its argument.

Not imported by the server: the runtime may be any virtual environment with ipykernel. The sockets
are `k-1` (shell), `k-4` (iopub) and some that nobody uses. Nothing is written but in /tmp.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Nobody debugs here: without it a kernel takes 7 MB less, and two thirds of the time to start.
sys.modules["debugpy"] = None  # type: ignore[assignment]

import zmq  # noqa: E402
from ipykernel.iostream import IOPubThread, OutStream  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402
from jupyter_client.jsonutil import json_default  # noqa: E402
from jupyter_client.session import Session  # noqa: E402
from traitlets.config import Config  # noqa: E402
from zmq.eventloop.zmqstream import ZMQStream  # noqa: E402

FLUSH_SECONDS = 0.05  # how long what was printed waits for more
PIECE_CHARACTERS = 256 * 1024  # of what was printed at once: the server takes in no long messages
# What waits to be read: who prints quicker than that waits, too, and does not fill the memory.
WAITING_CHARACTERS = 1024 * 1024
WAITING_MESSAGES = 16
CHILD_LINGER_MILLISECONDS = 3000
Flushed = tuple[Any, str]
PORTS = ("shell_port", "control_port", "stdin_port", "iopub_port", "hb_port")


def configuration(key: bytes, sockets: str) -> Config:
    """No colours, no history on the disk, no files of a profile."""
    config = Config()
    config.ConnectionFileMixin.transport = "ipc"
    config.ConnectionFileMixin.ip = f"{sockets}/k"
    for number, port in enumerate(PORTS, start=1):
        config.ConnectionFileMixin[port] = number
    config.IPKernelApp.log_level = 50  # it greets, otherwise
    config.IPKernelApp.connection_file = f"{sockets}/kernel.json"
    config.Session.key = key
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.separate_in = ""
    config.InlineBackend.figure_formats = {"png"}
    return config


def in_pieces(flushed: Callable[[OutStream], Iterator[Flushed]]) -> Callable[..., Any]:
    """The same texts, none of them long."""

    def flush_buffers(stream: Any) -> Iterator[Flushed]:
        stream.waiting_characters = 0
        for parent, text in flushed(stream):
            for start in range(0, len(text), PIECE_CHARACTERS):
                yield parent, text[start : start + PIECE_CHARACTERS]

    return flush_buffers


def waiting(write: Callable[[OutStream, str], int | None]) -> Callable[..., int | None]:
    """The same, and a wait where too much of it has not been read yet."""

    def written(stream: Any, text: str) -> int | None:
        count = write(stream, text)
        stream.waiting_characters += len(text)
        if stream.waiting_characters > WAITING_CHARACTERS:
            stream.flush()
        return count

    return written


def packing(pack: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """The same bytes, and a question mark for what is no UTF-8: such a message would be lost."""

    def packed(content: Any) -> bytes:
        try:
            whole = pack(content)
            whole.decode("utf-8")
        except UnicodeError:
            text = json.dumps(content, default=json_default, ensure_ascii=False)
            return text.encode("utf-8", "replace")
        return whole

    return packed


def hear_children(path: str) -> None:
    """Have what processes print that were forked come over a Unix socket, and not over TCP."""

    def listen(thread: Any) -> None:
        thread._pipe_uuid = os.urandom(16)
        pipe = thread.socket.context.socket(zmq.PULL)
        pipe.linger = 0
        pipe.bind(f"ipc://{path}")
        thread._pipe_in = ZMQStream(pipe, thread.io_loop)
        thread._pipe_in.on_recv(thread._handle_pipe_msg)

    def connect(_: Any) -> tuple[zmq.Context[Any], zmq.Socket[Any]]:
        context = zmq.Context()  # a fork cannot use its parent's
        pipe = context.socket(zmq.PUSH)
        pipe.linger = CHILD_LINGER_MILLISECONDS
        pipe.connect(f"ipc://{path}")
        return context, pipe

    IOPubThread._setup_pipe_in = listen  # type: ignore[method-assign]
    IOPubThread._setup_pipe_out = connect  # type: ignore[method-assign]


class App(IPKernelApp):
    """A kernel that loses no output, however slowly it is read: it waits for its reader."""

    def init_iopub(self, context: Any) -> None:
        """Sockets that are made from here on wait where they would drop a message."""
        context.setsockopt(zmq.XPUB_NODROP, 1)
        context.sndhwm = WAITING_MESSAGES
        super().init_iopub(context)  # type: ignore[no-untyped-call]


def main(sockets: str) -> None:
    """Answer until killed."""
    key = Path(sockets, "key").read_bytes()
    OutStream.flush_interval = FLUSH_SECONDS
    OutStream._flush_buffers = in_pieces(  # type: ignore[method-assign]
        OutStream._flush_buffers
    )
    OutStream.waiting_characters = 0  # type: ignore[attr-defined]
    OutStream.write = waiting(OutStream.write)  # type: ignore[method-assign]
    hear_children(f"{sockets}/children")
    app = App.instance(config=configuration(key, sockets))
    app.initialize([])  # type: ignore[no-untyped-call]
    session: Session = app.session
    session.pack = packing(session.pack)
    shell = app.kernel.shell
    shell.system = shell.system_raw  # the other one wants a terminal, which a sandbox has not
    shell.ask_exit = sys.exit  # `exit()` ends the code, and not the session
    app.start()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(sys.argv[1])
