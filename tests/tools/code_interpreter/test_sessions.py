"""A thread keeps its session while it can, and its files when it can't."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

import psutil
import pytest

from rethread.blobs.folder import Folder
from rethread.contract.steps import CodeOutput, ImageOutput, LogsOutput
from rethread.errors import ModelError
from rethread.store import code_files, code_sessions, files, threads, vector_store_files
from rethread.store.database import Database
from rethread.tools.code_interpreter import pool, sessions
from rethread.tools.code_interpreter.keeping import keep
from rethread.tools.code_interpreter.sandbox import (
    Box,
    Command,
    Limits,
    NoSandbox,
    Place,
    Sandbox,
    StartFailed,
)
from rethread.tools.code_interpreter.sandbox.bare import Bare
from rethread.tools.code_interpreter.sandbox.runtime import Runtime
from rethread.tools.code_interpreter.sessions import ANEW, Executed, Output, Sessions, Terms

PROJECT: Final = "project"
THREADS: Final = ("thread_a", "thread_b", "thread_c")
TERMS: Final = Terms(Limits(), 60, 1000, idle_seconds=3600, sessions=16, warm=0)


class Counted(Bare):
    """The bare machine, and which places there are."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.places: set[Place] = set()

    def new_place(self) -> Place:
        self.places.add(place := super().new_place())
        return place

    def remove_place(self, place: Place) -> None:
        super().remove_place(place)
        self.places.discard(place)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - what ends by itself says so nowhere
            await asyncio.sleep(0.02)


class Scene:
    """A database with threads and files, and servers that share it."""

    def __init__(self, db: Database, blobs: Folder, runtime: Runtime) -> None:
        self.db = db
        self.runtime = runtime
        self.blobs = blobs
        self.servers: list[Sessions] = []
        self.boxes: list[Counted] = []
        self.given: list[str] = []

    def server(self, terms: Terms = TERMS) -> Sessions:
        """One server more."""
        sandbox = Counted(self.runtime)

        async def find() -> Sandbox:
            return sandbox

        self.boxes.append(sandbox)
        name = f"server_{len(self.servers)}"
        self.servers.append(Sessions(self.db, self.blobs, find, terms, server=name))
        return self.servers[-1]

    async def give(self, filename: str, content: bytes) -> str:
        """A file of the client's, for all threads."""

        async def pieces() -> AsyncGenerator[bytes]:
            yield content

        file_id = await keep(self.db, self.blobs, PROJECT, filename, pieces())
        self.given.append(file_id)
        return file_id

    async def run(
        self,
        server: Sessions,
        code: str,
        *,
        thread_id: str = "thread_a",
        on_output: Callable[[], object] = bool,
    ) -> tuple[str, Executed]:
        """The text that came of the code, and all that did."""
        there = await files.many(self.db, PROJECT, self.given)
        given = [there[file_id] for file_id in self.given if file_id in there]
        heard: list[Output] = []

        def hear(output: Output) -> None:
            heard.append(output)
            on_output()

        done = await server.run(PROJECT, thread_id, given, code, on_output=hear)
        assert len({output.index for output in heard}) == len(done.outputs)
        return text_of(done.outputs), done

    async def content(self, file_id: str) -> bytes:
        """What a file has."""
        blob = (await files.get(self.db, PROJECT, file_id)).blob
        return b"".join([piece async for piece in self.blobs.read(blob)])


def text_of(outputs: Sequence[CodeOutput]) -> str:
    return "".join(output.logs for output in outputs if isinstance(output, LogsOutput))


@pytest.fixture
async def scene(sqlite: Database, runtime: Runtime, tmp_path: Path) -> AsyncIterator[Scene]:
    """With threads, and no server yet."""
    blobs = Folder(tmp_path / "files")
    for thread_id in THREADS:
        await sqlite.write(threads.adding(PROJECT, thread_id, b"{}", now=1))
    scene = Scene(sqlite, blobs, runtime)
    yield scene
    for server in scene.servers:
        await server.close()
    await blobs.close()


async def test_code_reads_its_files_and_what_it_makes_becomes_files(scene: Scene) -> None:
    server = scene.server()
    await scene.give("data.csv", b"a,b\n")
    text, done = await scene.run(
        server,
        "import os\n"
        "print(open('data.csv').read(), end='')\n"
        "os.makedirs('out/deep'); open('out/deep/made.txt', 'w').write('made')\n"
        "open('gone.txt', 'w').write('x'); os.symlink('/etc/passwd', 'link')\n"
        "open(b'\\xff', 'w').close()\n"
        "from IPython.display import Image\n"
        "Image(bytes.fromhex('89504e470d0a1a0a'), format='png')",
    )
    assert text == "a,b\n"
    assert isinstance(done.outputs[1], ImageOutput)
    image = await files.get(scene.db, PROJECT, done.outputs[1].image.file_id)
    assert image.filename.endswith(".png")
    assert [made.path for made in done.made] == ["gone.txt", "out/deep/made.txt"]
    made = await files.get(scene.db, PROJECT, done.made[1].file_id)
    assert (made.filename, made.purpose) == ("made.txt", "assistants_output")
    assert await scene.content(made.id) == b"made"

    await scene.give("later.csv", b"later")
    text, done = await scene.run(
        server,
        "print(open('later.csv').read()); os.remove('gone.txt'); os.remove(b'\\xff')\n"
        "os.remove('data.csv'); open('data.csv', 'w').write('changed')",
    )
    assert [made.path for made in done.made] == ["data.csv"]
    assert list(await code_files.of_thread(scene.db, "thread_a")) == [
        "data.csv",
        "out/deep/made.txt",
    ]


async def test_a_session_on_another_server_has_the_files_and_the_model_is_told(
    scene: Scene,
) -> None:
    first, second = scene.server(), scene.server()
    original = await scene.give("data.csv", b"original")
    await scene.run(first, "x = 1; open('made.txt', 'w').write('made'); open('lost', 'w')")
    await scene.run(first, "import os; os.remove('data.csv'); open('data.csv', 'w').write('new')")
    lost = (await code_files.of_thread(scene.db, "thread_a"))["lost"]
    for deleted in (original, lost):
        await vector_store_files.delete_file(scene.db, PROJECT, deleted, now=1)
    show = "import os; print(sorted(os.listdir()), open('data.csv').read(), 'x' in dir())"
    text, done = await scene.run(second, show)
    assert text == "['data.csv', 'made.txt'] new False\n"
    assert done.note == ANEW
    text, done = await scene.run(first, "'x' in dir()")
    assert (text, done.note) == ("False\n", ANEW)
    assert (await scene.run(first, "open('made.txt', 'a').write('!')"))[1].note == ""


async def test_what_code_makes_in_a_session_that_was_replaced_meanwhile_is_not_kept(
    scene: Scene,
) -> None:
    server, has_begun = scene.server(), asyncio.Event()
    waiting = """
import os, time
os.remove('made.txt'); open('late.txt', 'w').write('late')
print('begun')
while not os.path.exists('go'):
    time.sleep(0.01)
"""
    await scene.run(server, "open('made.txt', 'w').write('made')")
    running = asyncio.create_task(scene.run(server, waiting, on_output=has_begun.set))
    await has_begun.wait()
    await code_sessions.begin(scene.db, "thread_a", "another", server="elsewhere")
    [place] = scene.boxes[0].places
    (place.data / "go").touch()
    _, done = await running
    assert done.made == []
    assert list(await code_files.of_thread(scene.db, "thread_a")) == ["made.txt"]


async def test_the_session_that_was_idle_for_longest_goes_first_and_none_that_is_in_use(
    scene: Scene, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    server = scene.server(TERMS._replace(sessions=2))
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\nx"
    for thread_id in ("thread_a", "thread_b"):
        await scene.run(server, "x = 1", thread_id=thread_id)
    async with asyncio.TaskGroup() as group:
        busy = await begun(group, scene, server, wait, thread_id="thread_a")
        _, in_place_of_b = await scene.run(server, "x = 2", thread_id="thread_c")
        also_busy = await begun(group, scene, server, wait, thread_id="thread_c")
        waiting = group.create_task(scene.run(server, "1", thread_id="thread_b"))
        await asyncio.sleep(0)
        assert not busy.done()
        go.touch()
    assert [busy.result()[0], also_busy.result()[0]] == ["\n1\n", "\n2\n"]
    assert [in_place_of_b.note, waiting.result()[1].note] == ["", ANEW]


async def test_no_place_is_taken_from_a_thread_whose_run_is_under_way(scene: Scene) -> None:
    server = scene.server(TERMS._replace(sessions=1))
    async with asyncio.TaskGroup() as group:
        with server.in_run("thread_a"):
            await scene.run(server, "x = 1")
            asked = server.run(PROJECT, "thread_b", [], "2", on_output=lambda _: None)
            waiting = group.create_task(asked)
            await asyncio.sleep(0)  # it has looked for a place
            assert (await scene.run(server, "x"))[0] == "1\n"
            assert not waiting.done()
    assert text_of(waiting.result().outputs) == "2\n"


async def begun(
    group: asyncio.TaskGroup, scene: Scene, server: Sessions, code: str, *, thread_id: str
) -> asyncio.Task[tuple[str, Executed]]:
    """A call under way."""
    has_begun = asyncio.Event()
    call = group.create_task(
        scene.run(
            server, f"print(flush=True)\n{code}", thread_id=thread_id, on_output=has_begun.set
        )
    )
    await has_begun.wait()
    return call


async def test_sessions_that_nobody_needs_any_more_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SWEEP_SECONDS", 0.02)
    idle, deleted = scene.server(TERMS._replace(idle_seconds=0.1)), scene.server()
    await scene.run(idle, "1")
    await scene.run(deleted, "1", thread_id="thread_b")
    await threads.delete(scene.db, PROJECT, "thread_b")
    await until(lambda: not any(box.places for box in scene.boxes))
    rows = await scene.db.read("SELECT thread_id, id, server FROM code_sessions")
    assert rows == [("thread_a", "", "")]


async def test_a_kernel_that_waits_takes_the_first_call_and_all_end_with_the_server(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 1000)
    server = scene.server(TERMS._replace(warm=1))
    box = scene.boxes[0]
    server.start()
    text, _ = await scene.run(server, "import os; print(os.getpid())")
    assert len(box.places) == 1  # none other was started for it
    await until(lambda: len(box.places) == 2)
    assert (await scene.run(server, "print(os.getpid())"))[0] == text
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0.01)
    go = tmp_path / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"
    async with asyncio.TaskGroup() as group:
        await begun(group, scene, server, wait, thread_id="thread_b")
        await until(lambda: len(box.places) == 3)  # also while code is run
        go.touch()
    await server.close()
    scene.servers.clear()
    await until(lambda: not psutil.pid_exists(int(text)))  # its own parent, killed too, ends it
    assert box.places == set()


async def test_a_call_says_why_its_code_was_stopped_and_what_became_of_it(
    scene: Scene,
) -> None:
    server = scene.server(TERMS._replace(call_seconds=0.5))
    text, _ = await scene.run(server, "x = 1\nwhile True: pass")
    assert text.endswith("KeyboardInterrupt: \nThe code was stopped: it ran for more than 0.5 "
                         "seconds.\n")  # fmt: skip
    text, done = await scene.run(server, "open('kept', 'w').write('x'); import os; os._exit(1)")
    assert text == (
        "The Python process has exited or crashed. The session has ended: its variables are gone, "
        "its files are kept.\n"
    )
    assert [made.path for made in done.made] == ["kept"]
    text, done = await scene.run(server, "open('kept').read()")
    assert (text, done.note) == ("'x'\n", ANEW)


async def test_a_sandbox_that_was_not_there_is_looked_for_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Sandbox | None] = [Bare(scene.runtime), None, None]

    async def find() -> Sandbox:
        sandbox = answers.pop()
        if sandbox is None:
            raise NoSandbox(f"Install it ({len(answers)}).")
        return sandbox

    server = Sessions(scene.db, scene.blobs, find, TERMS, server="server")
    assert [await server.refusal(), await server.refusal()] == ["Install it (2)."] * 2
    monkeypatch.setattr(sessions, "LOOK_AGAIN_SECONDS", 0)
    scene.servers.append(Sessions(scene.db, scene.blobs, find, TERMS, server="server"))
    looking = scene.servers[0]
    assert [await looking.refusal(), await looking.refusal()] == ["Install it (1).", None]


async def test_where_no_session_can_be_had_the_run_is_told(scene: Scene) -> None:
    class Broken(Bare):
        async def start(self, place: Place, command: Command, limits: Limits) -> Box:
            raise StartFailed("secret")

    async def none() -> Sandbox:
        raise NoSandbox("Install it.")

    async def broken() -> Sandbox:
        return Broken(scene.runtime)

    for find, words in ((none, "Install it."), (broken, "No session for code")):
        server = Sessions(scene.db, scene.blobs, find, TERMS, server="server")
        assert await server.refusal() == ("Install it." if find is none else None)
        with pytest.raises(ModelError, match=words) as refused:
            await scene.run(server, "1")
        assert refused.value.reason == "code_interpreter"
        await server.close()
