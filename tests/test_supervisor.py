"""Several processes on one socket: they are replaced, and they all end, whoever ends them."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Gate, text
from tests.faults.scene import PATIENCE_SECONDS, Scene, stock_client, text_of
from tests.server import ServerProcess, running_server, wait_until

TWO = ("--workers", "2")
DIES = """
import sys
from rethread.supervisor import supervise
def work(index):
    return 3
if __name__ == "__main__":
    sys.exit(supervise(2, work, on_stop=lambda: print("stopping", flush=True)))
"""


@contextmanager
def scene_of_two(
    folder: Path, url: str, model: ModelServer, *arguments: str
) -> Iterator[tuple[Scene, list[int]]]:
    """Two processes that listen, each for one run at a time; and their numbers."""
    arguments = ("--upstream", model.url, "--max-concurrent-runs", "1", *TWO, *arguments)
    with running_server(folder / "data", *arguments, database_url=url) as server:
        for _ in range(2):
            server.wait_for_log("listening")
        with stock_client(server.url) as client:
            yield Scene(server, model, client), workers_of(server)


def workers_of(server: ServerProcess) -> list[int]:
    """The processes that the server has started to serve, the oldest first."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def has_gone(pid: int) -> bool:
    """Whether there is no such process, or only its remains."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def stopping_lines(server: ServerProcess) -> list[str]:
    return [line for line in server.log if "stopping, at once on a second signal" in line]


def test_a_process_that_dies_is_replaced_and_its_run_is_driven_on(
    tmp_path: Path, postgres_url: str, model_server: ModelServer
) -> None:
    gates = [Gate(), Gate()]
    model_server.replies += [text("Hello").first(gate) for gate in gates]
    with scene_of_two(tmp_path, postgres_url, model_server) as (scene, workers):
        runs = []
        for _ in gates:  # one for each process
            asks = scene.asks_model()
            runs.append(scene.start(scene.thread()))
            asks()
        os.kill(workers[0], signal.SIGKILL)
        scene.server.wait_for_log("process died")
        scene.server.wait_for_log("runs taken up again count=1")
        scene.server.wait_for_log("listening")
        for gate in gates:
            gate.open()
        for run in runs:
            assert scene.rest(run).status == "completed"
            assert len(scene.messages(run)) == 1
        assert len(model_server.requests) == 3
        assert len(workers_of(scene.server)) == 2
        assert scene.server.terminate() == 0
        assert all(has_gone(pid) for pid in workers)


def test_a_signal_that_all_processes_get_counts_once(
    tmp_path: Path, postgres_url: str, model_server: ModelServer
) -> None:
    """A terminal sends a Ctrl-C to all of them, and a service manager its SIGTERM."""
    gate = Gate()
    model_server.replies.append(text("Hel", "lo").then(gate, after=1))
    grace = ("--shutdown-grace-seconds", "600")
    with scene_of_two(tmp_path, postgres_url, model_server, *grace) as (scene, workers):
        listener = scene.listen(scene.thread())
        listener.wait_for("Hel")
        for pid in (*workers, scene.server.process.pid):
            os.kill(pid, signal.SIGINT)
        wait_until(lambda: len(stopping_lines(scene.server)) == 2)
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        gate.open()
        assert listener.ended()[-2].name == "thread.run.completed"
        assert scene.server.process.wait(PATIENCE_SECONDS) == 0
        assert all(has_gone(pid) for pid in workers)
        assert len(stopping_lines(scene.server)) == 2
        assert not [line for line in scene.server.log if "Traceback" in line]


def test_a_second_signal_ends_all_at_once(
    tmp_path: Path, postgres_url: str, model_server: ModelServer
) -> None:
    model_server.replies.append(text("Hello").first(Gate()))
    grace = ("--shutdown-grace-seconds", "600")
    with scene_of_two(tmp_path, postgres_url, model_server, *grace) as (scene, workers):
        asks = scene.asks_model()
        scene.start(scene.thread())
        asks()
        scene.server.process.terminate()
        wait_until(lambda: len(stopping_lines(scene.server)) == 2)
        assert scene.server.terminate() == 0
        assert all(has_gone(pid) for pid in workers)


def test_processes_end_with_their_supervisor_however_that_ends(
    tmp_path: Path, postgres_url: str, model_server: ModelServer
) -> None:
    with scene_of_two(tmp_path, postgres_url, model_server) as (scene, workers):
        run = scene.rest(scene.start(scene.thread()))
        assert [text_of(message) for message in scene.messages(run)] == ["Hello from the model."]
        scene.server.process.kill()
        for pid in workers:
            wait_until(lambda pid=pid: has_gone(pid))  # type: ignore[misc]


def test_what_dies_as_soon_as_it_has_come_is_given_up(tmp_path: Path) -> None:
    program = tmp_path / "dies.py"
    program.write_text(DIES)
    ended = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode != 0
    assert ended.stdout == "stopping\n"


def refused(*arguments: str) -> str:
    """The one line that a start with these arguments ends with, and no warning beside it."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "rethread", "serve", "--port", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    return line


def test_more_than_one_process_on_sqlite_is_refused(tmp_path: Path) -> None:
    assert "2 workers need PostgreSQL" in refused("--data-dir", str(tmp_path), *TWO)


def test_what_cannot_be_served_is_said_once(postgres_url: str, tmp_path: Path) -> None:
    nobody = "postgresql://postgres@127.0.0.1:1/none"
    arguments = ("--data-dir", str(tmp_path), "--database-timeout-seconds", "0.1")
    assert "cannot use the database" in refused(*arguments, "--database-url", nobody, *TWO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for others in ((), ("--database-url", postgres_url, *TWO)):
            line = refused(*arguments, "--port", port, *others)
            assert re.search(rf"cannot listen on \S+:{port}: ", line)
