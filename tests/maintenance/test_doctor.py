"""`rethread doctor`: what it finds on this machine, and on one where something is missing."""

import os
import subprocess
import sys
from pathlib import Path

from tests.sandboxes import need_sandbox


def doctor(*arguments: str, path: str | None = None) -> tuple[int, str]:
    """The exit code, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "rethread", "doctor", *arguments],
        env={**os.environ, "PATH": path or os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_sandbox_that_holds_is_said_to_hold() -> None:
    need_sandbox()
    code, said = doctor()
    assert said.count("  ok  ") == 10
    assert "FAILED" not in said
    assert (code, said.splitlines()[-1]) == (0, "bubblewrap can run code of a model.")


def test_where_there_is_none_it_is_said_what_to_install(tmp_path: Path) -> None:
    code, said = doctor(path=str(tmp_path))
    assert code == 1
    assert "bwrap     not installed" in said
    assert "bubblewrap is not installed. Code needs a sandbox:" in said
    assert "apt install bubblewrap" in said


def test_a_runtime_that_has_no_kernel_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    code, said = doctor("--code-runtime", str(environment))
    assert code == 1
    python = environment / "bin" / "python"
    missing = f"{python} has no ipykernel. Install it: {python} -m pip install ipykernel"
    assert f"No code can be run here: {missing}. See docs/code-interpreter.md," in said
    assert "needs a sandbox" not in said


def test_no_sandbox_is_never_well() -> None:
    code, said = doctor("--sandbox", "none")
    assert code == 1
    assert "none keeps nothing from the code." in said
