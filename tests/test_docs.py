"""The docs know everything that can be used, lead somewhere, and what they show works."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import pytest

from rethread.cli import build_parser
from rethread.config import OTHER_VARIABLES, PRESETS, SETTINGS, Setting
from rethread.contract.events import EventName
from rethread.errors import ModelErrorCode
from rethread.http.routes import ROUTES, Route
from tests.server import ServerProcess

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "src" / "rethread"
DOCS: Final = sorted((ROOT / "docs").rglob("*.md"))
PAGES: Final = [*sorted(ROOT.glob("*.md")), *DOCS]
BASE: Final = "http://127.0.0.1:8484"

# A fence's first line names its language; the closing one has none.
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
SOURCE_CODE: Final = re.compile(r'\bcode(?:: str)? ?= ?f?"([^"]+)"')
HEADER_READ: Final = re.compile(r'header\(b"([a-z-]+)"\)')
RUNS_CODE: Final = '"type": "code_interpreter"'
MAKE_TARGET: Final = re.compile(r"`make ([a-z]+)")

# Runs every block of a page in a namespace of its own.
RUN_BLOCKS: Final = "import json, sys\nfor block in json.load(sys.stdin): exec(block, {})"


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The page's fenced blocks of a language."""
    return [body for kind, body in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]


def anchors(page: Path) -> set[str]:
    """What a link can name behind a #: every heading, as GitHub writes it."""
    text = re.sub(BLOCK, "", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def error_codes() -> set[str]:
    """Every `code` that the source gives to an error."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for code in SOURCE_CODE.findall(path.read_text("utf-8")):
            found |= {code.replace("{word}", word) for word in ("integer", "decimal")}
    return found - set(get_args(ModelErrorCode))


def commands() -> Iterator[str]:
    """`rethread keys create` and so on, as the parser has them."""
    parsers = [build_parser()]
    while parsers:
        parser = parsers.pop()
        actions = [action for action in parser._actions if hasattr(action, "add_parser")]
        for action in actions:
            assert isinstance(action.choices, dict)
            parsers += action.choices.values()
        if not actions:
            yield parser.prog


# Everything is there


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_stands_in_the_api(route: Route) -> None:
    first_cells = [cells[0] for cells in rows(read("docs/api.md"))]
    assert first_cells.count(f"`{route.method} {route.path}`") == 1


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_stands_in_the_configuration(setting: Setting) -> None:
    text = read("docs/configuration.md")
    if setting.is_table:
        assert f"[{setting.name}]" in text
        return
    given = [f"`{setting.flag}`", f"`{setting.variable}`", f"`{setting.name}`"]
    found = [cells for cells in rows(text) if cells[:3] == given]
    assert [cells[3] for cells in found] == [setting.default_text]
    assert found[0][4].strip("| ") == setting.help


def test_no_setting_is_documented_that_is_not_there() -> None:
    flags = {cells[0] for cells in rows(read("docs/configuration.md")) if cells[0][:3] == "`--"}
    assert flags == {f"`{setting.flag}`" for setting in SETTINGS if setting.flag}


def test_every_preset_stands_in_the_configuration_with_its_url_and_key() -> None:
    documented = [
        [cell.strip("` |") for cell in cells[:3]] for cells in rows(read("docs/configuration.md"))
    ]
    for name, preset in PRESETS.items():
        assert [name, preset.base_url, preset.key_variable or "none"] in documented


def test_every_other_variable_stands_in_the_configuration() -> None:
    first_cells = {cells[0] for cells in rows(read("docs/configuration.md"))}
    assert {f"`{variable}`" for variable in OTHER_VARIABLES} <= first_cells


def test_every_command_stands_in_the_configuration() -> None:
    first_cells = [cells[0] for cells in rows(read("docs/configuration.md"))]
    for command in commands():
        assert any(cell.startswith(f"`{command}") for cell in first_cells), command


def test_every_error_code_stands_in_the_api_with_its_status() -> None:
    documented = {
        cells[0].strip("`")
        for cells in rows(read("docs/api.md").partition("\n## Errors\n")[2])
        if len(cells) == 3 and re.fullmatch(r"[45]\d\d", cells[1])
    }
    assert documented - {"none"} == error_codes()


def test_every_reason_of_a_failed_run_stands_in_the_api() -> None:
    first_cells = {cells[0] for cells in rows(read("docs/api.md"))}
    assert {f"`{code}`" for code in get_args(ModelErrorCode)} <= first_cells


def test_every_event_stands_in_the_api() -> None:
    text = read("docs/api.md")
    assert [name for name in get_args(EventName) if f"`{name}`" not in text] == []


def test_every_header_that_is_read_stands_in_the_api() -> None:
    first_cells = " ".join(cells[0] for cells in rows(read("docs/api.md"))).lower()
    for path in SOURCE.joinpath("http").glob("*.py"):
        for header in HEADER_READ.findall(path.read_text("utf-8")):
            assert header in first_cells, header


# Links lead somewhere


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(BLOCK, "", page.read_text("utf-8"))
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(page.read_text("utf-8")))
        for target in {(page.parent / link).resolve() for link in links if link} - reached:
            inside = sorted(target.glob("*.md")) if target.is_dir() else [target]
            waiting += [each for each in inside if each.suffix == ".md" and each.is_file()]
    assert set(DOCS) <= reached


def test_every_make_target_that_is_named_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    named = {name for page in PAGES for name in MAKE_TARGET.findall(page.read_text("utf-8"))}
    assert {"run", "test"} <= named <= targets


# What they show works


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_block_of_code_can_be_read(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)
    for block in blocks(page, "toml"):
        tomllib.loads(block)
    for block in blocks(page, "json"):
        json.loads(block)


def test_every_python_block_runs_against_a_server(demo_server: ServerProcess) -> None:
    printed = run_blocks(demo_server, run_code=False)
    assert len(re.findall("You said: «Hello!»", printed)) == 1  # the three lines of the README
    assert "get_time answered: «12:30»" in printed


def test_every_block_whose_model_runs_code_does_so(
    needs_sandbox: None, demo_server: ServerProcess
) -> None:
    assert run_blocks(demo_server, run_code=True).startswith("285\n")


def run_blocks(server: ServerProcess, *, run_code: bool) -> str:
    """What the pages' Python prints: all that has code run for it, or all else."""
    shown = [block for page in PAGES for block in blocks(page, "python")]
    here = [block.replace(BASE, server.root) for block in shown if (RUNS_CODE in block) == run_code]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", RUN_BLOCKS],
        input=json.dumps(here),
        capture_output=True,
        check=False,  # below, with what it said
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("version", ["v4", "latest"])
def test_every_node_block_runs_against_a_server(
    demo_server: ServerProcess, tmp_path: Path, version: str
) -> None:
    modules = ROOT / "tests" / "sdk" / "node" / version / "node_modules"
    if not (modules / ".done").exists():
        pytest.skip(f"no openai ({version}) for node: scripts/setup-node sets it up")
    (tmp_path / "node_modules").symlink_to(modules.resolve())
    shown = [block for page in PAGES for block in blocks(page, "js")]
    assert shown
    for number, block in enumerate(shown):
        program = tmp_path / f"{number}.mjs"
        program.write_text(block.replace(BASE, demo_server.root), "utf-8")
        run = subprocess.run(
            ["node", program], capture_output=True, check=False, text=True, timeout=60
        )
        assert run.returncode == 0, run.stderr


def test_the_readme_s_three_lines_are_those_that_the_start_prints(
    demo_server: ServerProcess,
) -> None:
    demo_server.wait_for_log("listening")  # the first log line comes after the whole greeting
    printed = [line.strip() for line in demo_server.log if line.startswith("    ")]
    shown = blocks(ROOT / "README.md", "python")[0].replace(BASE, demo_server.root)
    assert shown.splitlines() == printed


def test_the_diagram_of_a_run_s_states_is_current() -> None:
    script = ROOT / "scripts" / "lifecycle_diagram"
    made = subprocess.check_output([sys.executable, script], text=True)
    assert made in blocks(ROOT / "docs" / "how-it-works.md", "mermaid"), (
        "run scripts/lifecycle_diagram and put its output into docs/how-it-works.md"
    )
