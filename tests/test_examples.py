"""Every example runs as it stands against a real server, and prints what its last lines say.

The comment that ends an example holds its output; line breaks in it are for the reader only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.sandboxes import need_sandbox
from tests.server import ServerProcess

ROOT: Final = Path(__file__).parents[1]
EXAMPLES: Final = ROOT / "examples"
NODE_SDKS: Final = ROOT / "tests" / "sdk" / "node"
TIMEOUT_SECONDS: Final = 60
RUNS_CODE: Final = '"type": "code_interpreter"'


def expected_words(example: Path, comment: str) -> list[str]:
    """The output that an example promises."""
    _, mark, promised = example.read_text("utf-8").partition(f"\n{comment} Output:\n")
    assert mark, f"{example.name} does not end with its output"
    return [word for line in promised.splitlines() for word in line.removeprefix(comment).split()]


def printed_words(server: ServerProcess, *command: str | Path) -> list[str]:
    """What a command prints that talks to the server."""
    run = subprocess.run(
        command,
        check=False,  # below, with what it said
        env={**os.environ, "RETHREAD_BASE_URL": server.url},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT_SECONDS,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_a_python_example_prints_what_it_promises(demo_server: ServerProcess, name: str) -> None:
    example = EXAMPLES / name
    if RUNS_CODE in example.read_text("utf-8"):
        need_sandbox()
    # The SDK calls the whole API deprecated; any other warning is one too many.
    flags = ("-X", "utf8", "-W", "error", "-W", "ignore::DeprecationWarning")
    printed = printed_words(demo_server, sys.executable, *flags, example)
    assert printed == expected_words(example, "#")


@pytest.mark.parametrize("version", ["v4", "latest"])
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("node/*.mjs")))
def test_a_node_example_prints_what_it_promises(
    demo_server: ServerProcess, tmp_path: Path, name: str, version: str
) -> None:
    modules = NODE_SDKS / version / "node_modules"
    if not (modules / ".done").exists():
        pytest.skip(f"no openai ({version}) for node: scripts/setup-node sets it up")
    # Node looks for modules beside the program.
    (tmp_path / "node_modules").symlink_to(modules.resolve())
    example = shutil.copy(EXAMPLES / "node" / name, tmp_path)
    assert printed_words(demo_server, "node", example) == expected_words(Path(example), "//")
