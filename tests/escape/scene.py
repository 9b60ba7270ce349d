"""A real server whose sessions are attacked, and what of it is looked at from outside.

The built-in model runs the code of a message, so an attack goes the whole way: a client's message,
a run, a session in its sandbox, and back as the outputs of a step.
"""

import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil
from openai import OpenAI

from tests.escape.texts import MODULES, attack_names, module_text, some_of, within
from tests.sdk.clients import sync_client
from tests.server import ServerProcess, running_server

ORDINARY: Final = 64_321  # a user that nobody is
LOOK_SECONDS: Final = 0.05
GONE_SECONDS: Final = 20.0
RUN_EVENTS: Final = frozenset(
    f"thread.run.{status}" for status in ("completed", "failed", "incomplete", "expired")
)
VERDICT: Final = "VERDICT "
SHOWN: Final = 2000  # characters of a log, where a test fails
# What the logs say where an attack did not come to its end.
STOPPED: Final = ("The session has ended", "The code was stopped")
CODE: Final[Any] = [{"type": "code_interpreter"}]


class Terms(NamedTuple):
    """What the sessions of a server may take."""

    call_seconds: float = 60
    memory_mb: int = 256
    disk_mb: int = 32
    processes: int = 40
    sessions: int = 4
    warm: int = 1

    def flags(self) -> list[str]:
        """For `rethread serve`."""
        return [
            *("--code-memory-mib", str(self.memory_mb), "--code-disk-mib", str(self.disk_mb)),
            *("--code-processes", str(self.processes)),
            *("--code-call-seconds", str(self.call_seconds)),
            *("--code-sessions", str(self.sessions), "--code-warm", str(self.warm)),
        ]


class Heard(NamedTuple):
    """What a client heard of one piece of code."""

    status: str
    logs: str
    images: list[str]
    made: dict[str, bytes]
    """The files that came of it, by their names: how each begins."""

    @property
    def verdicts(self) -> dict[str, list[str]]:
        """What attacks got hold of and why no more, by their names, as far as they were tried."""
        lines = [line for line in self.logs.splitlines() if line.startswith(VERDICT)]
        found: dict[str, list[str]] = {}
        for line in lines:
            found |= json.loads(line.removeprefix(VERDICT))
        return found


class Host(NamedTuple):
    """What an attack may not get at, and where it shows if it does."""

    canaries: list[Path]
    secret: str
    mark: str
    listeners: "Listeners"

    def unchanged(self) -> bool:
        """Whether nothing was written to what lies there, and nobody came."""
        whole = all(path.read_text() == self.mark for path in self.canaries)
        return whole and not self.listeners.reached


class Listeners:
    """Sockets of every kind that the host has, and which of them somebody reached."""

    def __init__(self, folder: Path, name: str) -> None:
        self.reached: list[str] = []
        self.abstract_name = name
        self.path = str(folder / "listener")
        self.tcp = _listening(socket.AF_INET, ("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self._all = {
            "tcp": self.tcp,
            "abstract": _listening(socket.AF_UNIX, "\0" + name),
            "path": _listening(socket.AF_UNIX, self.path),
        }
        os.chmod(self.path, 0o777)
        for kind, listener in self._all.items():
            threading.Thread(target=self._accept, args=(kind, listener), daemon=True).start()
        threading.Thread(target=self._receive, daemon=True).start()

    def close(self) -> None:
        for listener in (*self._all.values(), self.udp):
            with listener:
                listener.shutdown(socket.SHUT_RDWR) if listener is not self.udp else None

    def _accept(self, kind: str, listener: socket.socket) -> None:
        try:
            while True:
                one, _ = listener.accept()
                self.reached.append(kind)
                one.close()
        except OSError:
            return

    def _receive(self) -> None:
        try:
            while self.udp.recv(100):
                self.reached.append("udp")
        except OSError:
            return


class Watched:
    """The most that the server and its sessions had, while something went on."""

    def __init__(self, server: psutil.Process) -> None:
        self._server = server
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.server_mb = self.processes = self.sessions_mb = 0
        self._thread.start()

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ends.wait(LOOK_SECONDS):
            try:
                self.server_mb = max(self.server_mb, self._server.memory_info().rss >> 20)
                below = self._server.children(recursive=True)
                self.processes = max(self.processes, len(below))
                self.sessions_mb = max(self.sessions_mb, sum(map(_resident_mb, below)))
            except psutil.NoSuchProcess:
                return


class Scene:
    """A server, a thread with a session, and the host around them."""

    def __init__(self, server: ServerProcess, client: OpenAI, host: Host, terms: Terms) -> None:
        self.server, self.client, self.host, self.terms = server, client, host, terms
        self.process = psutil.Process(server.process.pid)
        self._seen: set[str] = set()
        # The attacks are files of the assistant: a model would take long to write all that.
        files = [
            client.files.create(file=(f"{name}.py", self._text(name)), purpose="assistants").id
            for name in MODULES
        ]
        self.assistant_id = client.beta.assistants.create(
            model="demo", tools=CODE, tool_resources={"code_interpreter": {"file_ids": files}}
        ).id
        self.thread_id = self.new_thread()

    def new_thread(self) -> str:
        return self.client.beta.threads.create().id

    def told(self) -> dict[str, Any]:
        """What attacks are told of the host: they are to know all that could help them."""
        listeners = self.host.listeners
        return {
            "canaries": [str(path) for path in self.host.canaries],
            "runtime": [sys.prefix, sys.base_prefix],
            "command_mark": str(self.server.port),
            "secret_backwards": self.host.secret[::-1],
            "server_pid": self.server.process.pid,
            "server_port": self.server.port,
            "namespaces": _namespaces(),
            "has_filter": True,
            "node_name": socket.gethostname(),
            "daemon_mark": self.host.mark,
            "own_addresses": _own_addresses(),
            "listener_port": listeners.tcp.getsockname()[1],
            "datagram_port": listeners.udp.getsockname()[1],
            "abstract_name": listeners.abstract_name,
            "socket_paths": [listeners.path],
            "socket_marks": [listeners.abstract_name, listeners.path],
            "memory_mb": self.terms.memory_mb,
            "disk_mb": self.terms.disk_mb,
            "processes": self.terms.processes,
            "mark_of_another": f"of another thread {self.host.mark}",
        }

    def attack(self, module: str, *names: str, thread_id: str = "") -> dict[str, str]:
        """What a module's attacks got hold of, all of them or some; one after the other."""
        wanted = names or attack_names(module)
        heard = self.run(some_of(module, wanted), thread_id=thread_id)
        assert heard.verdicts.keys() == {*wanted}, heard.logs[-SHOWN:]
        return _through(heard)

    def attack_within(self, module: str, *names: str) -> dict[str, str]:
        """The same, each in the session's own process: where that ends, a session of another
        thread goes on behind the attack that has ended it, which has got nothing.
        """
        left, through = list(names), dict[str, str]()
        while left:
            heard = self.run(within(module, left), thread_id=self.new_thread())
            is_ended = any(words in heard.logs for words in STOPPED)
            assert is_ended or heard.verdicts.keys() == {*left}, (heard.status, heard.logs[-SHOWN:])
            through |= _through(heard)
            left = left[len(heard.verdicts) + 1 :]
        return through

    def attack_once(self, module: str, *names: str) -> Heard:
        """Attacks in the session's own process; each may be the session's end."""
        return self.run(within(module, names))

    def run(self, code: str, *, thread_id: str = "", attachments: list[str] | None = None) -> Heard:
        """Have code run in a thread's session: what came of it."""
        thread_id = thread_id or self.thread_id
        attached: Any = [{"file_id": one, "tools": CODE} for one in attachments or []]
        threads = self.client.beta.threads
        threads.messages.create(
            thread_id, role="user", content=f"```python\n{code}\n```", attachments=attached
        )
        with threads.runs.stream(thread_id=thread_id, assistant_id=self.assistant_id) as stream:
            events = [event for event in stream if event.event in RUN_EVENTS]
        run: Any = events[-1].data
        steps = threads.runs.steps.list(run.id, thread_id=thread_id, order="asc")
        outputs: list[Any] = [
            output
            for step in steps
            if step.step_details.type == "tool_calls"
            for call in step.step_details.tool_calls
            if call.type == "code_interpreter"
            for output in call.code_interpreter.outputs
        ]
        return Heard(
            run.status,
            "".join(one.logs for one in outputs if one.type == "logs"),
            [one.image.file_id for one in outputs if one.type == "image"],
            self._made(),
        )

    def answers(self, *, thread_id: str = "") -> bool:
        """Whether a session is there that computes as it should, whichever it is by now."""
        number = secrets.randbelow(10**6)
        heard = self.run(f"print('sum', {number} + 1)", thread_id=thread_id)
        return f"sum {number + 1}\n" in heard.logs

    def watched(self) -> Watched:
        return Watched(self.process)

    def is_well(self) -> bool:
        """Whether the server lives, serves others, and the host is as it was."""
        self.client.beta.assistants.list(limit=1)
        return self.server.process.poll() is None and self.host.unchanged()

    def wait_for(self, is_so: Callable[[], bool]) -> bool:
        """Whether something comes to be so."""
        ends = time.monotonic() + GONE_SECONDS
        while not is_so():
            if time.monotonic() > ends:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def _text(self, module: str) -> bytes:
        return module_text(module, self.told()).encode()

    def _made(self) -> dict[str, bytes]:
        """Files that were not there before, and how they begin."""
        files = self.client.files
        found = [one for one in files.list(purpose="assistants_output") if one.id not in self._seen]
        self._seen.update(one.id for one in found)
        return {one.filename: files.content(one.id).content[:4096] for one in found}


def _through(heard: Heard) -> dict[str, str]:
    return {name: got for name, (got, _) in heard.verdicts.items() if got}


def processes_with(mark: str) -> list[int]:
    """Processes of this machine that have it in their command line."""
    every = psutil.process_iter(["cmdline"])
    return [one.pid for one in every if any(mark in part for part in one.info["cmdline"] or [])]


@contextmanager
def running_scene(
    sandbox: str, *, ordinary: bool = False, terms: Terms | None = None
) -> Iterator[Scene]:
    """A server with that sandbox; as an ordinary user where these tests are run by root."""
    mark = f"canary-{secrets.token_hex(6)}"
    secret = secrets.token_hex(12)
    terms = terms or Terms()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="rethread-escape-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o777)
        data_dir = folder / "data"
        data_dir.mkdir()
        if ordinary:
            os.chown(data_dir, ORDINARY, ORDINARY)
        canaries = [folder / f"{mark}.txt", data_dir / f"{mark}.txt"]
        for path in canaries:
            path.write_text(mark)
            path.chmod(0o666)
        listeners = Listeners(folder, mark)
        stack.callback(listeners.close)
        server = stack.enter_context(
            running_server(
                data_dir,
                *("--sandbox", sandbox, *terms.flags()),
                env={"OPENAI_API_KEY": secret, "HOME": str(folder), "TMPDIR": str(folder)},
                before=as_ordinary() if ordinary else (),
            )
        )
        client = stack.enter_context(sync_client(server, timeout=90.0))
        yield Scene(server, client, Host(canaries, secret, mark, listeners), terms)


def as_ordinary() -> tuple[str, ...]:
    """A command that runs another one as nobody's user, who may read Python and this checkout.

    Where root's own home has that Python, the other sees a home with nothing else in it.
    """
    hidden = _hidden_parent(Path(sys.executable).resolve())
    drop = f'exec setpriv --reuid={ORDINARY} --regid={ORDINARY} --clear-groups -- "$@"'
    if hidden is None:
        return ("sh", "-c", drop, "as_ordinary")
    top, below = hidden
    within = top / below
    show = (
        f"cd '{within}' && mount -t tmpfs -o mode=755 none '{top}' && mkdir -p '{within}'"
        f" && mount --no-canonicalize --bind . '{within}' && cd / && "
    )
    return ("unshare", "--mount", "sh", "-c", show + drop, "as_ordinary")


def _hidden_parent(path: Path) -> tuple[Path, str] | None:
    """The folder above a path that others may not enter, and the next name on the way down."""
    for parent in reversed(path.parents):
        if not parent.stat().st_mode & 0o001:
            return parent, path.relative_to(parent).parts[0]
    return None


def _listening(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()
    return listener


def _namespaces() -> dict[str, str]:
    folder = Path("/proc/self/ns")
    return {name: os.readlink(folder / name) for name in os.listdir(folder)}


def _own_addresses() -> list[str]:
    found = [one.address for each in psutil.net_if_addrs().values() for one in each]
    return [address for address in found if address.count(".") == 3]


def _resident_mb(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss) >> 20
    except psutil.NoSuchProcess:
        return 0
