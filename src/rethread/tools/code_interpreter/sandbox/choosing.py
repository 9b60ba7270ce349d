"""Which sandbox is used: the one that the operator names, or the first that this machine has.

Never the bare machine by itself: `none` has to be said.
"""

from pathlib import Path
from typing import Final, Literal

from rethread.tools.code_interpreter.sandbox import NoSandbox, Sandbox
from rethread.tools.code_interpreter.sandbox.bare import Bare
from rethread.tools.code_interpreter.sandbox.bubble import Bubblewrap
from rethread.tools.code_interpreter.sandbox.containers import Container
from rethread.tools.code_interpreter.sandbox.runtime import find_runtime

SandboxName = Literal["auto", "bubblewrap", "docker", "podman", "none"]

READ: Final = "See docs/code-interpreter.md, or try `rethread doctor`."


async def find_sandbox(
    name: SandboxName, *, runtime: Path | None = None, image: str | None = None
) -> Sandbox:
    """The sandbox, ready to start boxes; NoSandbox with what to install where there is none."""
    try:
        if name == "docker" or name == "podman":
            return await Container.found(name, image)
        found = await find_runtime(runtime)
        return Bare(found) if name == "none" else await Bubblewrap.found(found)
    except NoSandbox as problem:
        raise NoSandbox(f"No code can be run here: {problem.message}. {READ}") from problem
