"""`rethread doctor`: what this machine has for running a model's code, and whether it holds.

It changes nothing, and starts nothing that stays. What is tried is in `sandbox.checking`.
"""

import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from rethread.tools.code_interpreter.sandbox import NoSandbox, Sandbox, StartFailed
from rethread.tools.code_interpreter.sandbox.checking import checked
from rethread.tools.code_interpreter.sandbox.choosing import SandboxName, find_sandbox
from rethread.tools.code_interpreter.sandbox.processes import said_by
from rethread.tools.code_interpreter.sandbox.runtime import find_runtime

Say = Callable[[str], None]

PROGRAMS: Final = ("bwrap", "docker", "podman")


class Switch(NamedTuple):
    """Something of the kernel that bubblewrap needs, and what to do where it is off."""

    path: str
    is_on: Callable[[str], bool]
    advice: str


SWITCHES: Final = (
    Switch(
        "/proc/sys/user/max_user_namespaces",
        lambda value: value != "0",
        "user namespaces are off: sysctl user.max_user_namespaces=10000",
    ),
    Switch(
        "/proc/sys/kernel/unprivileged_userns_clone",
        lambda value: value == "1",
        "user namespaces are for root: sysctl kernel.unprivileged_userns_clone=1",
    ),
    Switch(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        lambda value: value == "0",
        "AppArmor may keep bubblewrap from making user namespaces: see docs/code-interpreter.md",
    ),
)


async def examine(name: SandboxName, *, runtime: Path | None, image: str | None, say: Say) -> bool:
    """Say what is found, line by line; whether code can be run, and safely."""
    say("What there is")
    for line in await _found(runtime):
        say(f"  {line}")
    say("")
    try:
        sandbox = await find_sandbox(name, runtime=runtime, image=image)
    except NoSandbox as problem:
        say(problem.message)
        return False
    try:
        return await _tried(sandbox, say)
    finally:
        await sandbox.aclose()


async def _tried(sandbox: Sandbox, say: Say) -> bool:
    if sandbox.name == "none":  # nothing to try: whatever is tried would be done to this machine
        say("none keeps nothing from the code. For code of a model, name another --sandbox.")
        return False
    say(f"Code in the sandbox {sandbox.name}")
    try:
        checks = await checked(sandbox)
    except StartFailed as problem:
        say(f"  FAILED  does not start: {problem.message}")
        return False
    for check in checks:
        result = "ok    " if check.holds else "FAILED"
        say(f"  {result}  {check.promise}" + (f": {check.problem}" if check.problem else ""))
    holds = all(check.holds for check in checks)
    verdict = (
        f"{sandbox.name} can run code of a model."
        if holds
        else (
            f"Do not run code of a model by {sandbox.name} on this machine before that is mended."
        )
    )
    say(f"\n{verdict}")
    return holds


async def _found(runtime: Path | None) -> Iterable[str]:
    lines = []
    for program in PROGRAMS:
        path = shutil.which(program)
        version = await said_by(path, "--version") if path else "not installed"
        lines.append(f"{program:<10}{(version or 'does not run').strip()}")
    try:
        found = await find_runtime(runtime)
        lines.append(f"{'runtime':<10}{found.host_python}: {found.offers}")
    except NoSandbox as problem:
        lines.append(f"{'runtime':<10}{problem.message}")
    if sys.platform == "linux":
        advice = [each.advice for each in SWITCHES if not _is_on(each)]
        lines += [f"{'kernel':<10}{each}" for each in advice or ["has what bubblewrap needs"]]
    return lines


def _is_on(switch: Switch) -> bool:
    """Whether it is on; what this kernel does not know is not off."""
    try:
        return switch.is_on(Path(switch.path).read_text("ascii").strip())
    except OSError:
        return True
