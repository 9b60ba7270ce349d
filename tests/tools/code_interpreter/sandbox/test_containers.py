"""Containers, as far as they can be seen without any: the command line, and what is said."""

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from rethread.tools.code_interpreter.sandbox import (
    DATA,
    SOCKETS,
    Command,
    Limits,
    NoSandbox,
    Place,
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
    assert given["--mount"] == [
        f"type=bind,src=/p/data,dst={DATA}",
        f"type=bind,src=/p/run,dst={SOCKETS}",
    ]
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
    assert words[words.index("image") :] == ["image", "python", *COMMAND.arguments]
    assert "ONE=1" in flags(words)["--env"]
    assert "sk-secret" not in " ".join(words)


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
    with pytest.raises(NoSandbox, match="docker can't run image"):
        await find_sandbox("docker", image="image")
