"""The texts that sessions are given: what attacks share, then the attacks of a module.

The modules are ordinary ones, so that they are checked as all code is; here nothing of them runs.
"""

import ast
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
SHARED: Final = "from tests.escape.inside import"
MODULES: Final = tuple(sorted(path.stem for path in (HERE / "attacks").glob("*.py")))


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


def module_text(module: str, host: dict[str, Any]) -> str:
    """Code that has all attacks of a module, and knows of the host what there is to know."""
    own = (HERE / "attacks" / f"{module}.py").read_text()
    lines = [line for line in own.splitlines() if not line.startswith(SHARED)]
    told = f"HOST.update(json.loads({json.dumps(json.dumps(host))}))"
    names = ", ".join(attack_names(module))
    shared = (HERE / "inside.py").read_text()
    return "\n".join([shared, told, *lines, f"ATTACKS = [{names}]", ""])


def some_of(module: str, names: Collection[str]) -> str:
    """Code that tries attacks; the text of their module lies in the folder that it begins in."""
    return f"{_loaded(module)}report([{_list(module, names)}])"


def within(module: str, names: Collection[str]) -> str:
    """The same, in the session's own process."""
    return f"{_loaded(module)}report_own({_list(module, names)})"


def _loaded(module: str) -> str:
    return f"exec(open('{module}.py').read())\n"


def _list(module: str, names: Collection[str]) -> str:
    everything = attack_names(module)
    assert {*names} <= {*everything}, names
    return "*ATTACKS" if [*names] == everything else ", ".join(names)
