"""Which sandbox is used: the one that the operator names, or the first that this machine has.

Never the bare machine by itself: `none` has to be said.
"""

from pathlib import Path
from typing import Final, Literal

from rethread.tools.code_interpreter.sandbox import NoSandbox, Sandbox
from rethread.tools.code_interpreter.sandbox.bubble import Bubblewrap
from rethread.tools.code_interpreter.sandbox.runtime import find_runtime

SandboxName = Literal["auto", "bubblewrap", "docker", "podman", "none"]

INSTALL: Final = (
    "install bubblewrap (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap),"
    " or name another sandbox with --sandbox; docs/code-interpreter.md says which there are"
)


async def find_sandbox(
    name: SandboxName, *, runtime: Path | None = None, image: str | None = None
) -> Sandbox:
    """The sandbox, ready to start boxes; NoSandbox with what to install where there is none."""
    if name not in ("auto", "bubblewrap"):
        raise NoSandbox(f"The sandbox {name} is not there yet.")
    found = await find_runtime(runtime)
    try:
        return await Bubblewrap.found(found)
    except NoSandbox as problem:
        raise NoSandbox(f"Code can't be run: {problem.message}. To run it, {INSTALL}.") from problem
