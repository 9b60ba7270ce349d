"""The command `rethread`: parses, calls, prints; decides nothing.

Built on argparse, since it is in the standard library and installs nothing.
Every command imports what it needs when it runs, so that `--help` answers at once.

Exit codes: 0 done; 1 it failed; 2 a wrong setting or command line; 130 Ctrl-C.
(One noun in more than 400 lines: each command takes a few.)
"""

# ruff: noqa: PLC0415 - imports stand inside the commands, see above.

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from rethread import __version__
from rethread.config import (
    CONFIG_FILE,
    SETTINGS,
    Setting,
    Settings,
    check_upstream_key,
    load,
    nearest,
)
from rethread.errors import Misconfigured, RethreadError

if TYPE_CHECKING:
    from rethread.app import KeyInfo

DEFAULT_BASE_URL: Final = "http://127.0.0.1:8484/v1"
SANDBOX_SETTINGS: Final = ("sandbox", "code_runtime", "code_image")
EMBEDDING_SETTINGS: Final = (
    "embeddings",
    "embedding_model",
    "embedding_dimensions",
    "embedding_upstream",
    "embedding_api_key",
)

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of one command; an error is one line on stderr."""
    try:
        asked, unknown = build_parser().parse_known_args(argv)
        if unknown:
            asked.parser.refuse(unknown)
        run: Command = asked.run
        return run(asked)
    except Misconfigured as error:
        return _fail(error.message, code=2)
    except RethreadError as error:
        return _fail(error.message, code=1)
    except KeyboardInterrupt:
        return 130


def _fail(message: str, *, code: int) -> int:
    print(f"rethread: {message}", file=sys.stderr)
    return code


# The parser


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that says what is wrong in one line, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Never returns: the line, and exit code 2."""
        self.exit(2, f"rethread: {message} (see {self.prog} --help)\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Never returns: what this command does not know, and the flag that may be meant."""
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        asked = next((word for word in unknown if word.startswith("--")), "")
        meant = nearest(asked.partition("=")[0], flags)
        self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")


def build_parser() -> argparse.ArgumentParser:
    """Every command and flag."""
    parser = Parser(
        prog="rethread", description="The Assistants API, on your own server.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"rethread {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser
    )
    _add_serve(commands)
    _add_keys(commands)
    _add_chat(commands)
    _add_upkeep(commands)
    doctor = _add_command(
        commands, "doctor", "Try whether this machine can run a model's code safely.", _doctor
    )
    _add_settings(doctor, [each for each in SETTINGS if each.name in SANDBOX_SETTINGS])
    _add_command(commands, "version", "Print the version.", _version)
    return parser


def _add_command(
    commands: "argparse._SubParsersAction[Parser]", name: str, summary: str, run: Command
) -> Parser:
    parser = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    parser.set_defaults(run=run, parser=parser)
    return parser


def _add_serve(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = _add_command(commands, "serve", "Start the server.", _serve)
    parser.epilog = (
        "Every flag is also a variable (--data-dir: RETHREAD_DATA_DIR; --upstream:"
        " RETHREAD_UPSTREAM_URL) and a key in the TOML file (data_dir, upstream)."
        " Flags win over variables, variables over the file."
        " The file also holds the tables [aliases] and [context_windows]."
    )
    _add_settings(parser, SETTINGS)


def _add_keys(commands: "argparse._SubParsersAction[Parser]") -> None:
    summary = "Make, list and revoke API keys."
    parser = commands.add_parser("keys", help=summary, description=summary, allow_abbrev=False)
    actions = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser
    )
    create = _add_command(
        actions, "create", "Make a key. It is shown once, as the last line.", _create_key
    )
    create.add_argument(
        "--project", required=True, metavar="NAME", help="The project whose objects the key opens."
    )
    create.add_argument(
        "--name", metavar="LABEL", help="A label to know the key by in `rethread keys list`."
    )
    listing = _add_command(actions, "list", "List the keys, without their secrets.", _list_keys)
    revoke = _add_command(actions, "revoke", "Make a key useless, at once and for good.", _revoke)
    revoke.add_argument("id", metavar="ID", help="The key's id, as `rethread keys list` shows it.")
    for each in (create, listing, revoke):
        _add_place(each)


def _add_upkeep(commands: "argparse._SubParsersAction[Parser]") -> None:
    backup = _add_command(
        commands, "backup", "Copy the database into one file, also while a server runs.", _backup
    )
    backup.add_argument("file", metavar="FILE", help="The file to write.")
    restore = _add_command(
        commands,
        "restore",
        "Put a backup in the place of the database. Stop the server first.",
        _restore,
    )
    restore.add_argument("file", metavar="FILE", help="The file that `rethread backup` wrote.")
    migrate = _add_command(
        commands, "migrate", "Bring the database's schema up to date, as a start does.", _migrate
    )
    _add_place(migrate)
    move = _add_command(
        commands,
        "move",
        "Copy everything into an empty database, verified. Stop the servers first.",
        _move,
    )
    move.epilog = (
        "A place is a data folder (sqlite:DIR, or just DIR) or postgresql://user@host/name; the"
        " password may stand in PGPASSWORD or ~/.pgpass. A move that was broken off goes on where"
        " it was when it is run again. The source stays as it is."
    )
    move.add_argument("--from", dest="source", required=True, metavar="PLACE", help="The source.")
    move.add_argument("--to", dest="target", required=True, metavar="PLACE", help="The target.")
    move.add_argument(
        "--restart",
        action="store_true",
        help="Empty a target that a broken-off move left, and begin again.",
    )
    reindex = _add_command(
        commands,
        "reindex",
        "Make the vectors of files anew, for another --embeddings. Stop a SQLite's server first.",
        _reindex,
    )
    reindex.epilog = (
        "Stores that have the vectors of another model, or none, get those of the one that the"
        " settings name. Broken off, it goes on where it was when it is run again."
    )
    reindex.add_argument(
        "--all", action="store_true", help="Those of all stores, and the index of words too."
    )
    _add_place(reindex, "upstream", "upstream_api_key", *EMBEDDING_SETTINGS)
    for each, replaced in ((backup, "FILE"), (restore, "the database that is there")):
        each.add_argument("--force", action="store_true", help=f"Replace {replaced}.")
        _add_place(each, "files")


def _add_chat(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = _add_command(commands, "chat", "Talk to an assistant in the terminal.", _chat)
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help=f"The server to talk to (default: $RETHREAD_BASE_URL, or {DEFAULT_BASE_URL}).",
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="The key to send (default: $RETHREAD_API_KEY, or $OPENAI_API_KEY, or none).",
    )
    parser.add_argument("--model", metavar="M", help="The model (default: the server's first).")
    parser.add_argument(
        "--assistant", metavar="ID", help="An assistant that is there (default: one is made)."
    )
    parser.add_argument("--instructions", metavar="TEXT", help="What the assistant is told.")


def _add_place(parser: argparse.ArgumentParser, *more: str) -> None:
    """The settings that say where everything is kept."""
    names = ("data_dir", "database_url", *more)
    _add_settings(parser, [setting for setting in SETTINGS if setting.name in names])


def _add_settings(parser: argparse.ArgumentParser, settings: Iterable[Setting]) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=f"TOML file with settings (default: $RETHREAD_CONFIG, or {CONFIG_FILE} if there).",
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for each in settings:
        if each.flag is None:
            continue
        group = groups.get(each.group) or parser.add_argument_group(each.group)
        groups[each.group] = group
        words = f"{each.help} (default: {each.default_text})".replace("%", "%%")
        # No `type` and no `choices`: the loader checks every source in the same words.
        if each.is_switch:
            group.add_argument(
                each.flag, action=argparse.BooleanOptionalAction, dest=each.name, help=words
            )
        else:
            group.add_argument(each.flag, metavar=each.kind.placeholder, dest=each.name, help=words)


# The commands


def _settings(asked: argparse.Namespace) -> Settings:
    return load(vars(asked), os.environ)


def _serve(asked: argparse.Namespace) -> int:
    settings = _settings(asked)
    check_upstream_key(settings)

    from rethread.app import serve

    return serve(settings)


def _create_key(asked: argparse.Namespace) -> int:
    import asyncio

    from rethread.app import create_key

    key = asyncio.run(create_key(_settings(asked), project=asked.project, label=asked.name))
    print(
        f"Key {key.id} for the project '{key.project}'. Keep it: it is not shown again.",
        file=sys.stderr,
    )
    print(key.secret)
    return 0


def _list_keys(asked: argparse.Namespace) -> int:
    import asyncio

    from rethread.app import list_keys

    keys = asyncio.run(list_keys(_settings(asked)))
    if not keys:
        print("No key was made yet: rethread keys create --project NAME", file=sys.stderr)
    rows = [("ID", "PROJECT", "NAME", "KEY", "CREATED", "REVOKED"), *map(_row, keys)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    return 0


def _row(key: "KeyInfo") -> tuple[str, str, str, str, str, str]:
    revoked = "-" if key.revoked_at is None else _when(key.revoked_at)
    return key.id, key.project, key.label or "-", key.hint, _when(key.created_at), revoked


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _revoke(asked: argparse.Namespace) -> int:
    import asyncio

    from rethread.app import revoke_key

    if not asyncio.run(revoke_key(_settings(asked), asked.id)):
        return _fail(f"no key '{asked.id}' is in force (see rethread keys list)", code=1)
    print(f"Revoked {asked.id}.", file=sys.stderr)
    return 0


def _chat(asked: argparse.Namespace) -> int:
    from rethread.chat import chat

    environ = os.environ
    return chat(
        asked.base_url or environ.get("RETHREAD_BASE_URL") or DEFAULT_BASE_URL,
        asked.api_key or environ.get("RETHREAD_API_KEY") or environ.get("OPENAI_API_KEY"),
        model=asked.model,
        assistant_id=asked.assistant,
        instructions=asked.instructions,
    )


def _migrate(asked: argparse.Namespace) -> int:
    import asyncio

    from rethread.maintenance.migrate import migrate_schema

    settings = _settings(asked)
    print(asyncio.run(migrate_schema(settings.data_dir, settings.database_url)))
    return 0


def _backup(asked: argparse.Namespace) -> int:
    from rethread.maintenance.backup import back_up

    settings = _with_file(asked)
    made = back_up(
        settings.data_dir,
        Path(asked.file),
        files_folder=_files_folder(settings),
        may_replace=asked.force,
    )
    print(f"Backed up {settings.data_dir} to {asked.file}: {made}.")
    return 0


def _restore(asked: argparse.Namespace) -> int:
    from rethread.maintenance.backup import restore

    settings = _with_file(asked)
    made = restore(
        Path(asked.file),
        settings.data_dir,
        files_folder=_files_folder(settings),
        may_replace=asked.force,
    )
    print(f"Restored {asked.file} to {settings.data_dir}: {made}.")
    return 0


def _files_folder(settings: Settings) -> Path | None:
    """Where the content of files is; None, and said so, for what is not in a folder."""
    from rethread.blobs.places import folder_at

    folder = folder_at(settings.data_dir, settings.files)
    if folder is None:
        print(f"The content of files is in {settings.files}, and not part of this.")
    return folder


def _reindex(asked: argparse.Namespace) -> int:
    import asyncio

    from rethread.app import indexing
    from rethread.maintenance.reindex import reindex

    settings = _settings(asked)

    async def run() -> str:
        async with indexing(settings) as (db, embedder):
            return str(await reindex(db, embedder, everything=asked.all))

    try:
        print(asyncio.run(run()))
    except KeyboardInterrupt:
        return _fail("broken off; run the same command again, which goes on where it was", code=130)
    return 0


def _doctor(asked: argparse.Namespace) -> int:
    import asyncio

    from rethread.maintenance.doctor import examine

    settings = _settings(asked)
    is_well = asyncio.run(
        examine(
            settings.sandbox,
            runtime=settings.code_runtime,
            image=settings.code_image,
            say=print,
        )
    )
    return 0 if is_well else 1


def _move(asked: argparse.Namespace) -> int:
    import asyncio

    from rethread.maintenance.move import move
    from rethread.maintenance.places import place_of

    source, target = place_of(asked.source), place_of(asked.target)
    try:
        print(asyncio.run(move(source, target, anew=asked.restart)))
    except KeyboardInterrupt:
        return _fail("broken off; run the same command again, which goes on where it was", code=130)
    return 0


def _with_file(asked: argparse.Namespace) -> Settings:
    """The settings of a command that is about a file; for PostgreSQL, what does the same."""
    from rethread.maintenance.places import tools_for

    settings = _settings(asked)
    if settings.database_url is not None:
        raise Misconfigured(tools_for(settings.database_url, asked.file))
    return settings


def _version(_: argparse.Namespace) -> int:
    print(f"rethread {__version__}")
    return 0
