"""Which sandbox is used: the one that the operator names, or the first that this machine has.

Never the bare machine by itself: `none` has to be said.
"""

from pathlib import Path
from typing import Final, Literal

from rethread.tools.code_interpreter.sandbox import NoSandbox, Sandbox

SandboxName = Literal["auto", "bubblewrap", "docker", "podman", "none"]

INSTALL: Final = (
    "install bubblewrap (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap),"
    " or name another sandbox with --sandbox; docs/code-interpreter.md says which there are"
)


async def find_sandbox(
    name: SandboxName, *, runtime: Path | None = None, image: str | None = None
) -> Sandbox:
    """The sandbox, ready to start boxes; NoSandbox with what to install where there is none."""
    raise NoSandbox(f"No sandbox was found on this machine: {INSTALL}.")
