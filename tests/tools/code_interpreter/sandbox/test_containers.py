"""Containers, as far as they can be seen without any: the command line, and what is said."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio

from rethread.tools.code_interpreter.sandbox import (
    DATA,
    SOCKETS,
    Command,
    Limits,
    NoSandbox,
    Place,
    Sandbox,
    hand_in,
)
from rethread.tools.code_interpreter.sandbox.choosing import find_sandbox
from rethread.tools.code_interpreter.sandbox.containers import command_line

PLACE = Place(Path("/p"), Path("/p/data"), Path("/p/run"), 1234)
COMMAND = Command(("-c", "print(1)", "argument"), {"ONE": "1"})


def line(**limits: int) -> list[str]:
    return command_line("docker", "image", "name", PLACE, COMMAND, Limits(**limits))


def flags(words: list[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for flag, value in pairwise(words):
        if flag.startswith("--"):
            found.setdefault(flag, []).append(value)
    return found


def test_a_container_has_no_network_no_rights_and_nothing_to_write_to_but_its_folders() -> None:
    given = flags(line())
    assert given["--network"] == ["none"]
    assert given["--cap-drop"] == ["ALL"]
    assert given["--security-opt"] == ["no-new-privileges"]
    assert given["--user"] == ["1234:1234"]
    assert "--read-only" in given
    assert given["--mount"] == [f"type=bind,src=/p/data,dst={DATA}"]
    assert "--privileged" not in given
    assert "--volume" not in given


def test_a_container_has_the_limits_and_no_swap_beyond_them() -> None:
    given = flags(line(memory_bytes=2**29, processes=50, open_files=200, disk_bytes=1000, cpus=2))
    assert given["--memory"] == given["--memory-swap"] == [str(2**29)]
    assert given["--pids-limit"] == ["50"]
    assert given["--cpus"] == ["2"]
    assert given["--ulimit"] == ["nofile=200:200", "fsize=1000:1000", "core=0:0"]


def test_the_command_stands_behind_the_image_and_the_server_s_variables_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    words = line()
    assert words[words.index("image") + 1] == "python"
    assert tuple(words[-3:]) == COMMAND.arguments
    assert "ONE=1" in flags(words)["--env"]
    assert "sk-secret" not in " ".join(words)


# Runs the command that a container is to run, as it is, with the folders that it would have.
ENGINE = """#!{python}
import os, sys, tempfile
words = sys.argv[1:]
if words[0] == "info":
    print('{{"runc": {{}}, "runsc": {{}}}}')
elif words[0] == "kill":
    os.killpg(int(open("{folder}/" + words[-1]).read()), 9)
else:
    command = words[words.index("image") + 1 :]
    if "--name" in words:
        open("{folder}/" + words[words.index("--name") + 1], "w").write(str(os.getpid()))
        data = words[words.index("--mount") + 1].partition("src=")[2].partition(",")[0]
        folders = {{"{data}": data, "{sockets}": tempfile.mkdtemp(dir="{folder}")}}
        assert words[words.index("--runtime") + 1] == "runsc"
        os.chdir(data)
        for inside, here in folders.items():
            command = [each.replace(inside, here) for each in command]
    os.execv("{python}", [sys.executable, *command[1:]])
"""
TALK = f"""
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind("{SOCKETS}/talk")
server.listen()
print(open("{SOCKETS}/key").read(), os.getcwd() == os.path.realpath("{DATA}"))
while True:
    client = server.accept()[0]
    try:
        while heard := client.recv(65536):
            client.sendall(heard.upper())
    except KeyboardInterrupt:
        client.sendall(b"interrupted")
        sys.exit(0)
"""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "docker")
        text = ENGINE.format(python=sys.executable, folder=folder, data=DATA, sockets=SOCKETS)
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield


@pytest_asyncio.fixture
async def sandbox(engine: None) -> AsyncIterator[Sandbox]:
    sandbox = await find_sandbox("docker", image="image")
    yield sandbox
    await sandbox.aclose()


async def test_the_sockets_of_a_container_are_reached_over_its_standard_streams(
    sandbox: Sandbox,
) -> None:
    place = sandbox.new_place()
    hand_in(place, "key", b"the key")
    box = await sandbox.start(place, Command(("-c", TALK), {}), Limits())
    async with asyncio.timeout(60):
        while not (place.sockets / "talk").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.02)
    reader, writer = await asyncio.open_unix_connection(place.sockets / "talk")
    for size in (5, 3_000_000):
        writer.write(b"x" * size)
        assert await reader.readexactly(size) == b"X" * size
    box.interrupt()
    assert await reader.read() == b"interrupted"
    writer.close()
    await box.closed()
    assert (box.stderr, box.over) == ("the key True\n", None)


async def test_a_container_is_killed_by_its_engine_and_ended_where_its_files_are_too_large(
    sandbox: Sandbox,
) -> None:
    fill = "import time; open('full', 'wb').write(bytes(2 << 20)); time.sleep(60)"
    box = await sandbox.start(
        sandbox.new_place(), Command(("-c", fill), {}), Limits(disk_bytes=2**20)
    )
    await box.closed()
    assert box.over == "disk"


async def test_an_engine_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoSandbox, match="podman is not installed"):
        await find_sandbox("podman", image="image")


async def test_an_engine_needs_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NoSandbox, match="--code-image"):
        await find_sandbox("docker")
    with pytest.raises(NoSandbox, match="docker does not answer: `docker info` says why"):
        await find_sandbox("docker", image="image")
    (tmp_path / "docker").write_text("#!/bin/sh\n[ $1 = info ]\n")
    with pytest.raises(NoSandbox, match="docker can't run image"):
        await find_sandbox("docker", image="image")
