"""Where settings come from, which one wins, and what is said about a wrong one."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rethread.config import OTHER_VARIABLES, PRESETS, SETTINGS, Settings, load
from rethread.config import check_upstream_key as check_key
from rethread.errors import Misconfigured

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_with_nothing_given_the_defaults_hold() -> None:
    assert load({}, {}) == Settings()


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(empty_directory: Path) -> None:
    (empty_directory / "rethread.toml").write_text('host = "file"\nport = 1\nlog_level = "error"\n')
    settings = load({"host": "flag"}, {"RETHREAD_HOST": "variable", "RETHREAD_PORT": "2"})
    assert (settings.host, settings.port, settings.log_level) == ("flag", 2, "error")


def test_an_empty_variable_is_an_absent_one() -> None:
    assert load({}, {"RETHREAD_UPSTREAM_URL": "", "RETHREAD_PORT": " "}) == Settings()


def test_the_file_is_named_by_a_flag_or_else_by_a_variable(empty_directory: Path) -> None:
    (empty_directory / "a.toml").write_text("port = 1")
    (empty_directory / "b.toml").write_text("port = 2")
    assert load({"config": "a.toml"}, {"RETHREAD_CONFIG": "b.toml"}).port == 1
    assert load({}, {"RETHREAD_CONFIG": "b.toml"}).port == 2


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_refuses_what_it_is_not_and_names_the_source(
    setting: Any, empty_directory: Path
) -> None:
    (empty_directory / "rethread.toml").write_text(f"{setting.name} = [1]")
    with pytest.raises(Misconfigured, match=rf"^rethread.toml: {setting.name}: must be ") as caught:
        load({}, {})
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("flags", "environ", "message"),
    [
        ({"port": "70000"}, {}, "--port: must be a whole number from 0 to 65535, not '70000'"),
        (
            {},
            {"RETHREAD_ON_ACTIVE_RUN": "queue"},
            "RETHREAD_ON_ACTIVE_RUN: must be one of reject, wait, retry, not 'queue'",
        ),
        (
            {},
            {"RETHREAD_STALL_TIMEOUT_SECONDS": "nan"},
            "RETHREAD_STALL_TIMEOUT_SECONDS: must be a number from 0.1 to 1000000000, not 'nan'",
        ),
        (
            {},
            {"RETHREAD_ALLOW_ANONYMOUS": "maybe"},
            "RETHREAD_ALLOW_ANONYMOUS: must be true or false, not 'maybe'",
        ),
        (
            {},
            {"RETHREAD_UPSTREAM": "ollama"},
            "RETHREAD_UPSTREAM: no such setting; did you mean RETHREAD_UPSTREAM_URL?",
        ),
        ({"config": "gone.toml"}, {}, "gone.toml: cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_source(
    flags: dict[str, object], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(flags, environ)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"prot = 1", "rethread.toml: no such setting: 'prot'; did you mean port?"),
        (b"[server]\nport = 1", "rethread.toml: no such setting: 'server'"),
        (b"port =", "rethread.toml: isn't TOML: Invalid value"),
        (b'host = "\xff"', "rethread.toml: isn't TOML: "),
        (b"[aliases]\ngpt = 1", "rethread.toml: aliases: 'gpt' must be a line of text, not 1"),
        (
            b'[aliases]\n"gpt-4*" = "qwen3"\nhost = "0.0.0.0"',
            "rethread.toml: [aliases]: 'host' is a setting, no model: put it above the file's",
        ),
        (
            b"[context_windows]\ncontext_window = 4096",
            "rethread.toml: [context_windows]: 'context_window' is a setting, no model",
        ),
    ],
)
def test_a_wrong_file_is_one_line_that_says_where(
    empty_directory: Path, content: bytes, message: str
) -> None:
    (empty_directory / "rethread.toml").write_bytes(content)
    with pytest.raises(Misconfigured, match=f"^{re.escape(message)}"):
        load({}, {})


def test_a_number_too_large_for_any_float_is_refused(empty_directory: Path) -> None:
    (empty_directory / "rethread.toml").write_text(f"keep_alive_seconds = 1{'0' * 400}")
    with pytest.raises(Misconfigured, match="keep_alive_seconds: must be a number"):
        load({}, {})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_an_upstream_by_name(name: str) -> None:
    settings = load({"upstream": name}, {})
    assert settings.upstream_url == PRESETS[name].base_url
    assert settings.context_window == PRESETS[name].context_window


@pytest.mark.parametrize(
    "upstream",
    [
        "olama",
        "localhost:11434",
        "ftp://host/v1",
        "http://",
        "http://host:port/v1",
        "http://host/v1?x=1",
        "http://ho st/v1",
        "http://[::1/v1",
    ],
)
def test_an_upstream_that_is_neither_preset_nor_url_is_refused_with_the_list(upstream: str) -> None:
    with pytest.raises(Misconfigured, match=r"^--upstream: .*openai, ollama, vllm"):
        load({"upstream": upstream}, {})


@pytest.mark.parametrize(
    ("upstream", "meant"),
    [
        ("olama", "ollama"),
        ("localhost:8000", "http://localhost:8000/v1"),
        ("localhost", "http://localhost/v1"),
        ("10.0.0.5:8000/v1", "http://10.0.0.5:8000/v1"),
        ("models.example.com/v1", "http://models.example.com/v1"),
    ],
)
def test_a_refused_upstream_is_told_what_was_meant(upstream: str, meant: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        load({"upstream": upstream}, {})
    assert caught.value.message.endswith(f"; did you mean {meant}?")
    assert load({"upstream": meant}, {}).upstream == meant


def test_a_password_in_the_upstream_is_refused_and_not_repeated() -> None:
    with pytest.raises(Misconfigured, match="upstream_api_key") as caught:
        load({"upstream": "https://me:hunter2@host/v1"}, {})
    assert "hunter2" not in caught.value.message


def test_an_upstream_url_loses_the_slash_at_its_end() -> None:
    assert load({"upstream": "http://host:1/v1/"}, {}).upstream_url == "http://host:1/v1"


@pytest.mark.parametrize(
    ("upstream", "field"),
    [
        ("openai", "max_completion_tokens"),
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("https://azure.com.example.org/v1", "max_tokens"),
        ("ollama", "max_tokens"),
        (None, "max_tokens"),
    ],
)
def test_the_limit_of_tokens_has_the_name_that_the_upstream_takes(
    upstream: str | None, field: str
) -> None:
    assert load({"upstream": upstream}, {}).token_limit_field == field


def test_a_preset_takes_its_usual_key_unless_one_is_given() -> None:
    environ = {"OPENAI_API_KEY": "sk-usual\n", "OPENROUTER_API_KEY": "sk-router"}
    assert load({"upstream": "openai"}, environ).upstream_api_key == "sk-usual"
    assert load({"upstream": "openrouter"}, environ).upstream_api_key == "sk-router"
    environ["RETHREAD_UPSTREAM_API_KEY"] = "sk-given"
    assert load({"upstream": "openai"}, environ).upstream_api_key == "sk-given"


def test_a_usual_key_goes_to_nobody_else() -> None:
    environ = {"OPENAI_API_KEY": "sk-usual"}
    assert load({"upstream": "https://elsewhere.example/v1"}, environ).upstream_api_key is None
    assert load({"upstream": "groq"}, environ).upstream_api_key is None


def test_a_hosted_upstream_without_its_key_is_refused() -> None:
    with pytest.raises(Misconfigured, match="set OPENAI_API_KEY or RETHREAD_UPSTREAM_API_KEY"):
        check_key(load({"upstream": "openai"}, {}))
    check_key(load({"upstream": "openai"}, {"OPENAI_API_KEY": "sk-1"}))
    check_key(load({"upstream": "ollama"}, {}))
    check_key(load({}, {}))


def test_a_key_shows_neither_in_repr_nor_in_an_error() -> None:
    assert "sk-secret" not in repr(load({"upstream_api_key": "sk-secret"}, {}))
    with pytest.raises(Misconfigured, match="printable ASCII") as caught:
        load({}, {"RETHREAD_UPSTREAM_API_KEY": "sk-secret\r\nx"})
    assert "sk-secret" not in caught.value.message


def test_the_first_alias_of_the_file_that_matches_counts(empty_directory: Path) -> None:
    (empty_directory / "rethread.toml").write_text(
        '[aliases]\n"gpt-4o" = "big"\n"gpt-*" = "small"\n[context_windows]\n"b*" = 1000\n'
    )
    settings = load({}, {})
    assert [settings.model_for(name) for name in ("gpt-4o", "gpt-4o-mini", "qwen")] == [
        "big",
        "small",
        "qwen",
    ]
    assert settings.context_window_for("big") == 1000
    assert settings.context_window_for("small") == 32_768


def test_data_lies_where_the_desktop_says_unless_that_is_relative() -> None:
    assert load({}, {"XDG_DATA_HOME": "/data"}).data_dir == Path("/data/rethread")
    home = Path.home() / ".local/share/rethread"
    assert load({}, {"XDG_DATA_HOME": "data"}).data_dir == home


def test_a_folder_is_made_absolute(empty_directory: Path) -> None:
    assert load({"data_dir": "here"}, {}).data_dir == empty_directory / "here"
    assert load({"data_dir": "~/there"}, {}).data_dir == Path.home() / "there"


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_only_loopback_is_loopback(host: str, is_loopback: bool) -> None:
    assert load({"host": host}, {}).is_loopback is is_loopback


def test_the_example_file_shows_every_setting_with_its_default() -> None:
    example = (ROOT / "rethread.example.toml").read_text()
    lines = re.findall(r"^# ((?:\w+|\".+\") = .*|\[\w+\])$", example, re.MULTILINE)
    shown = tomllib.loads("\n".join(lines))
    assert set(shown) == {setting.name for setting in SETTINGS}
    plain = {each.name: each.default for each in SETTINGS if each.shown is None}
    assert {name: shown[name] for name in plain} == plain


def test_no_two_settings_share_a_variable() -> None:
    variables = [each.variable for each in SETTINGS if each.variable] + list(OTHER_VARIABLES)
    assert len(variables) == len(set(variables))


def test_reading_settings_imports_nothing_that_is_slow() -> None:
    program = "import sys, rethread.config; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True)
    assert not {"asyncio", "aiohttp", "msgspec", "uvicorn"} & set(loaded.split())
