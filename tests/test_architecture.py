"""The shape of the code: who may import whom, how long things are, what modules say first."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
SOURCE: Final = ROOT / "src" / "rethread"
MODULES: Final = sorted(SOURCE.rglob("*.py"))
MAX_FUNCTION_LINES: Final = 70
MAX_MODULE_LINES: Final = 400

by_module = pytest.mark.parametrize(
    "module", MODULES, ids=[str(path.relative_to(SOURCE)) for path in MODULES]
)


def docstring_of(module: Path) -> str:
    return ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""


def functions_of(module: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_imports_point_the_way_that_the_contracts_say() -> None:
    checking = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checking.returncode == 0, checking.stdout + checking.stderr
    assert "0 broken" in checking.stdout


@by_module
def test_a_module_begins_with_what_it_is(module: Path) -> None:
    first = docstring_of(module).split("\n")[0]
    assert first.endswith((".", ":", "?"))


@by_module
def test_a_long_module_says_why_it_is_one(module: Path) -> None:
    lines = len(module.read_text("utf-8").splitlines())
    assert lines <= MAX_MODULE_LINES or f"more than {MAX_MODULE_LINES} lines" in docstring_of(
        module
    )


@by_module
def test_a_function_can_be_seen_at_once(module: Path) -> None:
    too_long = {
        function.name: length
        for function in functions_of(module)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert too_long == {}


def test_where_the_databases_differ_is_said_in_the_same_words() -> None:
    """What SQLite alone understands stands under the mark that one grep finds."""
    for module in sorted((SOURCE / "store").glob("*.py")):
        if module.name == "sqlite.py":
            continue
        lines = module.read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            if "rowid" in line and not line.startswith("#"):
                above = "\n".join(lines[max(0, number - 12) : number])
                assert "differs:" in above, f"{module.name}:{number + 1}"
