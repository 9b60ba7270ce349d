"""What the command line says before anything runs. What the commands do is tested on a server."""

import subprocess
import sys
from pathlib import Path

import pytest

from rethread import __version__
from rethread.cli import main
from rethread.config import SETTINGS

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def exit_code(*argv: str) -> object:
    """Of a command that argparse ends by itself."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    return ended.value.code


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("serve",),
        ("keys",),
        ("keys", "create"),
        ("keys", "list"),
        ("keys", "revoke"),
        ("chat",),
        ("backup",),
        ("restore",),
        ("migrate",),
        ("move",),
        ("version",),
    ],
    ids=" ".join,
)
def test_every_command_has_help(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*command, "--help") == 0
    assert " ".join(("usage: rethread", *command)) in capsys.readouterr().out


def test_the_help_of_serve_knows_every_setting_and_its_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exit_code("serve", "--help")
    shown = " ".join(capsys.readouterr().out.split())
    for setting in SETTINGS:
        if setting.flag:
            assert setting.flag in shown
            assert f"{setting.help} (default: {setting.default_text})" in shown


def test_the_version_is_a_command_and_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"rethread {__version__}\n" * 2


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("serve", "--prot", "1"),
        ("serve", "--por", "1"),
        ("keys",),
        ("keys", "create"),
        ("keys", "revoke"),
        ("server",),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("rethread: ")
    assert shown.err.count("\n") == 1
    assert "--help" in shown.err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (
            ("serve", "--prot", "1"),
            "unrecognized arguments: --prot 1; did you mean --port? (see rethread serve --help)",
        ),
        (
            ("keys", "create", "--project", "p", "--zz=x"),
            "unrecognized arguments: --zz=x (see rethread keys create --help)",
        ),
        (("version", "now"), "unrecognized arguments: now (see rethread version --help)"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_an_unknown_flag_leads_to_the_help_of_its_command(
    argv: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*argv) == 2
    assert capsys.readouterr().err == f"rethread: {told}\n"


def test_a_list_without_keys_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "list", "--data-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert shown.out.split()[0] == "ID"
    assert shown.err == "No key was made yet: rethread keys create --project NAME\n"


def test_chat_with_an_address_without_a_scheme_says_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["chat", "--base-url", "localhost:8484"]) == 1
    assert "is http:// missing in front of it?" in capsys.readouterr().err


def test_chat_with_a_server_that_is_not_there_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["chat", "--base-url", "http://127.0.0.1:1/v1"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("rethread: Cannot talk to http://127.0.0.1:1/v1")
    assert shown.err.endswith("; is `rethread serve` running?\n")
    assert (shown.out, shown.err.count("\n")) == ("", 1)


def test_help_does_not_wait_for_the_server_s_imports() -> None:
    program = (
        "import sys, rethread.cli as cli\n"
        "try: cli.main(['serve', '--help'])\n"
        "except SystemExit: print(*sys.modules)"
    )
    shown = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True)
    assert not {"asyncio", "aiohttp", "msgspec", "rethread.app"} & set(shown.split())
