"""A move brings everything, and what it cannot vouch for is not served."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from rethread.cli import main
from rethread.maintenance.tables import (
    OF_THE_INDEX,
    OF_THE_INSTALLATION,
    QUEUED_AGAIN,
    Columns,
    columns_of,
)
from rethread.store.database import FILE_NAME, Database, open_database
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Gate, text
from tests.maintenance.client import Client, connected
from tests.objects import stored_message, stored_thread
from tests.postgres import Postgres
from tests.server import running_server

BreakOff = Callable[[Process, Any, int], Awaitable[None]]

MESSAGES: Final = 4500  # more than two batches


def moved(source: Path | str, target: Path | str, *more: str) -> int:
    return main(["move", "--from", str(source), "--to", str(target), *more])


@pytest.fixture
def empty_url(postgres: Postgres) -> Iterator[str]:
    """A PostgreSQL database without even a schema."""
    url = postgres.empty_database()
    yield url
    postgres.drop(url)


def key_of(data_dir: Path) -> str:
    command = [sys.executable, "-m", "rethread", "keys", "create", "--project", "p"]
    made = subprocess.check_output([*command, "--data-dir", str(data_dir)], text=True)
    return made.strip()


def until(done: Any, what: str) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def furnish(client: Client) -> None:
    """Something of every kind, and gaps where something was deleted."""
    weather = {"type": "function", "function": {"name": "get_weather"}}
    assistants = [
        client.post("/assistants", {"model": "demo", "name": f"Nº {each}", "tools": tools})["id"]
        for each, tools in enumerate([[], [weather], []])
    ]
    client.ask("DELETE", f"/assistants/{assistants[2]}")
    threads = [
        client.post("/threads", {"metadata": {"kind": f"{each} \0 ü"}})["id"] for each in range(4)
    ]
    client.ask("DELETE", f"/threads/{threads[3]}")
    for thread_id in threads[:3]:
        ids = [
            client.post(f"/threads/{thread_id}/messages", {"role": "user", "content": content})[
                "id"
            ]
            for content in ("Hello \0 ☃", "Please get_weather.", "gone soon", "the end")
        ]
        client.ask("DELETE", f"/threads/{thread_id}/messages/{ids[2]}")
    for thread_id, assistant_id in zip(threads[:2], assistants[:2], strict=True):
        asked = {"assistant_id": assistant_id}
        run_id = client.post(f"/threads/{thread_id}/runs", asked)["id"]
        at_rest = ("completed", "requires_action")
        path = f"/threads/{thread_id}/runs/{run_id}"
        until(lambda: json.loads(client.get(path))["status"] in at_rest, path)  # noqa: B023


def test_a_server_on_the_target_gives_the_same_bytes_there_and_back_again(
    tmp_path: Path, empty_url: str
) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    key = key_of(source)
    search, asked = "/threads/search?q=hello", '{"metadata": {"sent": "twice"}}'
    with running_server(source) as server, connected(server, key=key) as client:
        furnish(client)
        once = client.ask("POST", "/threads", asked, **{"idempotency-key": "k"})
        until(lambda: len(json.loads(client.get(search))["data"]) == 3, "the search index")
        found, everything = client.get(search), client.everything()
        server.terminate()
    assert moved(f"sqlite:{source}", empty_url) == 0
    with (
        running_server(tmp_path / "none", database_url=empty_url) as server,
        connected(server, key=key) as client,
    ):
        assert client.everything() == everything
        until(lambda: client.get(search) == found, "the search index")
        again = client.ask("POST", "/threads", asked, **{"idempotency-key": "k"})
        assert again == once
        server.terminate()
    assert moved(empty_url, back) == 0
    with running_server(back) as server, connected(server, key=key) as client:
        assert client.everything() == everything
        until(lambda: client.get(search) == found, "the search index")


def test_numbers_go_on_past_the_highest_that_was_ever_given(
    tmp_path: Path, postgres_url: str, postgres: Postgres
) -> None:
    with running_server(tmp_path / "source") as server, connected(server) as client:
        ids = [client.post("/threads", {})["id"] for _ in range(3)]
        client.ask("DELETE", f"/threads/{ids[2]}")
        server.terminate()
    assert moved(tmp_path / "source", postgres_url) == 0
    add = (
        "INSERT INTO threads (id, project, created_at, body) VALUES ('t', 'p', 1, '')"
        " RETURNING number"
    )
    assert postgres.ask(add, url=postgres_url)[0][0] == 4
    assert moved(postgres_url, tmp_path / "back") == 0
    with closing(sqlite3_at(tmp_path / "back")) as connection:
        assert connection.execute(add.replace("'t'", "'u'")).fetchone() == (5,)


def test_a_run_that_was_under_way_is_taken_up_by_a_server_on_the_target(
    tmp_path: Path, postgres_url: str, model_server: ModelServer
) -> None:
    source = tmp_path / "source"
    gate = Gate()
    model_server.replies.append(text("Never ", "heard").first(gate))
    upstream = ("--upstream", model_server.url)
    with running_server(source, *upstream) as server, connected(server) as client:
        assistant_id = client.post("/assistants", {"model": "fake-model"})["id"]
        messages = [{"role": "user", "content": "Hello"}]
        asked = {"assistant_id": assistant_id, "thread": {"messages": messages}}
        run = client.post("/threads/runs", asked)
        gate.arrived.result(timeout=20)
        server.kill()
    gate.open()
    assert moved(source, postgres_url) == 0
    model_server.replies.append(text("Here ", "I am"))
    with (
        running_server(tmp_path / "none", *upstream, database_url=postgres_url) as server,
        connected(server) as client,
    ):
        path = f"/threads/{run['thread_id']}/runs/{run['id']}"
        until(lambda: json.loads(client.get(path))["status"] == "completed", "the run")


# Broken off


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """A folder with a thread of many messages."""
    db = await open_database(tmp_path / "source")
    thread_id = await stored_thread(db)
    await asyncio.gather(*(stored_message(db, thread_id, f"{n}") for n in range(MESSAGES)))
    await db.close()
    return tmp_path / "source"


def sqlite3_at(data_dir: Path) -> Any:
    import sqlite3

    return sqlite3.connect(data_dir / FILE_NAME, isolation_level=None)


def thread_in(source: Path) -> str:
    with closing(sqlite3_at(source)) as connection:
        return str(connection.execute("SELECT id FROM threads").fetchone()[0])


@asynccontextmanager
async def connection_to(url: str) -> "AsyncIterator[asyncpg.Connection[Any]]":
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def broken_off_by(break_off: BreakOff, source: Path, url: str) -> tuple[int, str]:
    """Break a move off in the second batch of messages; its exit code and what it told."""
    async with connection_to(url) as other, connection_to(url) as watching:
        # The second batch waits for somebody who is about to write one of its rows.
        writing = other.transaction()
        await writing.start()
        await other.execute(
            "INSERT INTO messages (thread_id, number, id, created_at, body)"
            " VALUES ($1, 3000, 'msg', 1, '')",
            thread_in(source),
        )
        moving = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "rethread", "move"),
            *("--from", str(source), "--to", url),
            stderr=subprocess.PIPE,
        )
        waiting = (
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(30):
            # It is the database's event; there is no other way to hear of it.
            while not (session := await watching.fetchval(waiting)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await break_off(moving, watching, session)
        _, told = await moving.communicate()
        await writing.rollback()
    assert moving.returncode is not None
    return moving.returncode, told.decode()


async def kill(moving: Process, *_: Any) -> None:
    moving.send_signal(signal.SIGKILL)


async def interrupt(moving: Process, *_: Any) -> None:
    moving.send_signal(signal.SIGINT)


async def end_session(_: Process, watching: Any, session: int) -> None:
    await watching.execute("SELECT pg_terminate_backend($1)", session)


@pytest.fixture
async def broken_off(source: Path, postgres_url: str) -> str:
    """The URL of a target whose move was killed after the first batch of messages."""
    await broken_off_by(kill, source, postgres_url)
    return postgres_url


@pytest.mark.parametrize(("break_off", "code"), [(interrupt, 130), (end_session, 1)])
async def test_a_move_that_is_broken_off_says_that_it_can_go_on(
    break_off: BreakOff, code: int, source: Path, postgres_url: str
) -> None:
    ended, told = await broken_off_by(break_off, source, postgres_url)
    assert (ended, "Traceback" in told) == (code, False)
    assert told.endswith("which goes on where it was\n")


def test_a_move_that_was_killed_goes_on_where_it_was(
    broken_off: str, source: Path, postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = postgres.ask("SELECT name, copied FROM moves", url=broken_off)
    assert [tuple(note) for note in notes] == [("messages", 2000)]
    assert moved(source, broken_off) == 0
    shown = capsys.readouterr()
    assert f"Moved {MESSAGES * 2 + 1:,} rows" in shown.out
    ids = [row[0] for row in postgres.ask("SELECT id FROM messages", url=broken_off)]
    assert len(set(ids)) == len(ids) == MESSAGES
    assert postgres.ask("SELECT to_regclass('moves')", url=broken_off)[0][0] is None


def test_half_a_move_is_not_served(broken_off: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "list", "--database-url", broken_off]) == 2
    told = capsys.readouterr().err
    assert "has only a part of what is being moved into it" in told


def test_half_a_move_is_not_finished_from_another_source(
    broken_off: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert main(["migrate", "--data-dir", str(other)]) == 0
    assert moved(other, broken_off) == 2
    assert f"has a part of what is being moved from sqlite:{source}" in capsys.readouterr().err
    assert moved(other, broken_off, "--restart") == 0


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        ("UPDATE messages SET body = 'x' WHERE number = 17", "number 17 is not the same"),
        ("UPDATE messages SET run_id = '' WHERE number = 17", "number 17 is not the same"),
        ("DELETE FROM messages WHERE number = 17", "number 17 is missing in the target"),
        (
            "INSERT INTO messages (thread_id, number, id, created_at, body) VALUES ('x',1,'',1,'')",
            f"messages has {MESSAGES + 1:,} rows in the target and {MESSAGES:,} in the source",
        ),
    ],
)
def test_a_row_that_is_wrong_in_the_target_is_found_and_named(
    tamper: str,
    told: str,
    broken_off: str,
    source: Path,
    postgres: Postgres,
    capsys: pytest.CaptureFixture[str],
) -> None:
    postgres.ask(tamper, url=broken_off)
    for _ in range(2):
        assert moved(source, broken_off) == 1
        assert told in capsys.readouterr().err
    assert main(["keys", "list", "--database-url", broken_off]) == 2
    assert moved(source, broken_off, "--restart") == 0
    assert main(["keys", "list", "--database-url", broken_off]) == 0


# Refusals


def test_a_target_that_is_not_empty_is_refused(
    source: Path, tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    create = ["keys", "create", "--project", "p"]
    assert main([*create, "--database-url", postgres_url]) == 0
    assert moved(source, postgres_url) == 2
    assert "is not empty: api_keys has 1 rows" in capsys.readouterr().err
    assert moved(source, postgres_url, "--restart") == 2
    assert main([*create, "--data-dir", str(tmp_path / "other")]) == 0
    assert moved(source, tmp_path / "other") == 2


def test_a_source_that_is_served_is_refused(
    tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_server(tmp_path / "source"):
        assert moved(tmp_path / "source", postgres_url) == 2
    assert "another rethread serves the data directory" in capsys.readouterr().err


def test_a_database_that_servers_share_is_refused_on_either_side(
    tmp_path: Path, source: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_server(tmp_path / "none", database_url=postgres_url):
        assert moved(postgres_url, tmp_path / "target") == 2
        assert "stop them first" in capsys.readouterr().err
        assert moved(source, postgres_url) == 2
        assert "stop them first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("nowhere", "postgresql://h/db", "there is no database in "),
        ("sqlite:here", "here", "the source and the target are the same"),
        ("mysql://h/db", "here", "'mysql:' is neither sqlite: nor postgresql:"),
        ("backup.db", "here", "rethread restore"),
        ("postgresql://u:hush@127.0.0.1:1/db", "here", "postgresql://u@127.0.0.1:1/db"),
    ],
)
def test_a_place_that_cannot_be_is_told_in_a_line(
    source: str,
    target: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert moved(source, target) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert "hush" not in shown
    assert shown.count("\n") == 1


# Nothing is forgotten


async def test_every_table_is_moved_unless_it_is_known_not_to_be(
    tmp_path: Path, postgres_url: str
) -> None:
    here = await moved_from(await open_database(tmp_path))
    there = await moved_from(await open_database(Path(), postgres_url))
    assert here.keys() == there.keys()
    for name, columns in here.items():
        assert set(columns.names) == set(there[name].names), name
        assert columns.key, name
        assert there[name].key, name


async def moved_from(db: Database) -> dict[str, Columns]:
    found = await columns_of(db)
    await db.close()
    left_out = OF_THE_INSTALLATION | QUEUED_AGAIN.keys()
    return {
        name: columns
        for name, columns in found.items()
        if name not in left_out and not name.startswith(OF_THE_INDEX)
    }
