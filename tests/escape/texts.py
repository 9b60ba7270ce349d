"""The texts that sessions are given: what attacks share, then the attacks of a module.

The modules are ordinary ones, so that they are checked as all code is; here nothing of them runs.
"""

import ast
import json
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
SHARED: Final = "from tests.escape.inside import"


def attack_names(module: str) -> list[str]:
    """The attacks of a module: its functions that take nothing and return an object."""
    tree = ast.parse((HERE / "attacks" / f"{module}.py").read_text())
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and not node.args.args
        and isinstance(node.returns, ast.Name)
        and node.returns.id == "object"
    ]


def attack_text(module: str, host: dict[str, Any], *, only: frozenset[str] = frozenset()) -> str:
    """Code that tries a module's attacks, or some of them, and prints what each got."""
    own = (HERE / "attacks" / f"{module}.py").read_text()
    lines = [line for line in own.splitlines() if not line.startswith(SHARED)]
    names = [name for name in attack_names(module) if not only or name in only]
    return "\n".join(
        [shared_text(host), *lines, f"report([{', '.join(names)}])"],
    )


def shared_text(host: dict[str, Any]) -> str:
    """What every attack needs, and what it is told of the host."""
    told = f"HOST.update(json.loads({json.dumps(json.dumps(host))}))"
    return (HERE / "inside.py").read_text() + "\n" + told + "\n"


def single_text(module: str, name: str, host: dict[str, Any]) -> str:
    """Code that tries one attack in the session's own process, and prints what it got."""
    assert name in attack_names(module), name
    return attack_text(module, host).rsplit("\n", 1)[0] + f"\nreport_own({name})\n"
