"""PostgreSQL goes away: requests wait a bounded time, are told so, and the server recovers.

The servers here wait for one second. SQLite's side of it is a full disk: `test_health`.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from openai import OpenAI

from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Gate, text
from tests.faults.scene import (
    PATIENCE_SECONDS,
    Scene,
    fetch,
    parsed,
    post,
    stock_client,
    streamed_text,
    text_of,
    together,
)
from tests.own_postgres import OwnPostgres, own_postgres
from tests.server import ServerProcess, running_server

PASSWORD: Final = "secret-3d1f"
USER: Final = "limited"
NOBODY_IN: Final = f"ALTER ROLE {USER} CONNECTION LIMIT 0"
TERMINATE: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1"
MESSAGE: Final = {"role": "user", "content": "Hello?"}


@pytest.fixture(scope="module")
def database() -> Iterator[OwnPostgres]:
    """A PostgreSQL that the tests take away and bring back; its user is no superuser."""
    with own_postgres("fsync=off") as database:
        database.ask(f"CREATE ROLE {USER} LOGIN")
        database.ask(f"GRANT CREATE ON SCHEMA public TO {USER}")
        yield database


@pytest.fixture(scope="module")
def url(database: OwnPostgres) -> str:
    """What the servers are told."""
    return database.url.replace("postgres@", f"{USER}:{PASSWORD}@")


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, model: ModelServer, url: str
) -> Iterator[ServerProcess]:
    """One server before it."""
    with server_at(tmp_path_factory.mktemp("away"), model, url) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[OpenAI]:
    """The stock SDK, which does not try again by itself."""
    with stock_client(server.url) as client:
        yield client


def server_at(
    folder: Path, model: ModelServer, url: str, *arguments: str
) -> AbstractContextManager[ServerProcess]:
    return running_server(
        folder / "data",
        *("--upstream", model.url, "--database-timeout-seconds", "1", *arguments),
        database_url=url,
    )


@contextmanager
def stopped(database: OwnPostgres) -> Iterator[None]:
    database.stop("immediate")
    try:
        yield
    finally:
        database.start()


@contextmanager
def full(database: OwnPostgres) -> Iterator[None]:
    """No connection is to be had, and those that were are lost."""
    database.ask(NOBODY_IN)
    database.ask(TERMINATE, USER)
    try:
        yield
    finally:
        database.ask(f"ALTER ROLE {USER} CONNECTION LIMIT -1")


def frozen(database: OwnPostgres) -> AbstractContextManager[None]:
    return database.frozen()


def until_ready(server: ServerProcess) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while fetch("GET", f"{server.root}/readyz")[0] != 200:
        assert time.monotonic() < until
        time.sleep(0.02)


def check_unavailable(answer: tuple[int, dict[str, str], bytes]) -> None:
    status, headers, body = answer
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "server_error"
    assert error["message"].startswith("The database ")
    assert "127.0.0.1" not in error["message"]


@pytest.mark.parametrize("away", [stopped, frozen, full])
def test_requests_are_told_in_time_and_the_server_recovers_by_itself(
    scene: Scene, database: OwnPostgres, away: Any
) -> None:
    url, root = scene.server.url, scene.server.root
    thread_id = scene.thread()
    with away(database):
        answers = together(
            lambda: post(f"{url}/threads", {}),
            lambda: post(f"{url}/threads/{thread_id}/messages", MESSAGE),
            lambda: fetch("GET", f"{url}/threads/{thread_id}"),
            lambda: fetch("GET", f"{root}/readyz"),
            lambda: fetch("GET", f"{root}/healthz"),
        )
        for answer in answers[:3]:
            check_unavailable(answer)
        assert answers[3][0] == 503
        assert json.loads(answers[3][2])["store"].startswith("The database does not answer")
        assert answers[4][0] == 200
    until_ready(scene.server)
    assert scene.beta.threads.retrieve(thread_id).id == thread_id
    scene.assert_free(thread_id)
    log = "".join(scene.server.log)
    assert PASSWORD not in log
    assert "Traceback" not in log


def test_a_restart_costs_a_wait_and_no_request(scene: Scene, database: OwnPostgres) -> None:
    thread_id = scene.thread()
    for way in ("fast", "immediate"):
        restarting = threading.Thread(target=database.restart, args=(way,))
        restarting.start()
        number = 0
        while restarting.is_alive() or number < 5:
            number += 1
            scene.beta.threads.messages.create(thread_id, role="user", content=f"{way} {number}")
        restarting.join()
        found = [text_of(message) for message in scene.beta.threads.messages.list(thread_id)]
        assert found[:number] == [f"{way} {n}" for n in range(number, 0, -1)][:20]


def test_a_row_that_somebody_has_locked_is_unavailable_and_the_others_are_not(
    scene: Scene, database: OwnPostgres
) -> None:
    thread_id, free_id = scene.thread(), scene.thread()
    url = scene.server.url
    with locked(database, f"SELECT 1 FROM threads WHERE id = '{thread_id}' FOR UPDATE"):
        held, *others = together(
            lambda: post(f"{url}/threads/{thread_id}/messages", MESSAGE),
            lambda: post(f"{url}/threads/{free_id}/messages", MESSAGE),
            lambda: fetch("GET", f"{url}/threads/{thread_id}/messages"),
            lambda: fetch("GET", f"{scene.server.root}/readyz"),
        )
        check_unavailable(held)
        assert [answer[0] for answer in others] == [200, 200, 200]
    scene.assert_free(thread_id)
    assert len(scene.beta.threads.messages.list(free_id).data) == 2


@contextmanager
def locked(database: OwnPostgres, sql: str) -> Iterator[None]:
    """Another session holds what the SQL locks."""
    with asyncio.Runner() as runner:
        other = runner.run(asyncpg.connect(database.url))
        runner.run(other.execute("BEGIN"))
        runner.run(other.execute(sql))
        try:
            yield
        finally:
            runner.run(other.close())


def test_a_stream_goes_on_where_the_database_was_restarted_under_it(
    scene: Scene, database: OwnPostgres
) -> None:
    gate, thread_id = Gate(), scene.thread()
    scene.model.replies.append(text("Half", " an", " answer.").then(gate, after=1))
    listener = scene.listen(thread_id)
    listener.wait_for("Half")
    database.restart("immediate")
    gate.open()
    happened = listener.ended()
    assert streamed_text(happened) == "Half an answer."
    assert [int(each.id) for each in happened[:-1]] == list(range(1, len(happened)))
    assert happened[-1].name == "done"
    assert scene.rest(scene.run_on(thread_id)).status == "completed"


def test_a_stream_that_the_database_was_away_from_for_too_long_breaks_off_and_the_run_does_not(
    scene: Scene, database: OwnPostgres
) -> None:
    gate, thread_id = Gate(), scene.thread()
    scene.model.replies.append(text("Half", " an", " answer.").then(gate, after=1))
    listener = scene.listen(thread_id)
    listener.wait_for("Half")
    with stopped(database):
        gate.open()
        scene.server.wait_for_log("driver failed")
        assert listener.ended()[-1].name == "thread.message.delta"
        assert "stream broken off" in scene.server.wait_for_log("stream broken off")
    until_ready(scene.server)
    run = scene.rest(scene.run_on(thread_id))
    found = [(message.status, text_of(message)) for message in scene.messages(run)]
    assert found == [("incomplete", "Half"), ("completed", "Hello from the model.")]
    assert "Traceback" not in "".join(scene.server.log)


def test_a_stream_on_another_server_goes_on_after_the_wake_ups_were_lost(
    scene: Scene, database: OwnPostgres, model: ModelServer, url: str, tmp_path: Path
) -> None:
    gate, thread_id = Gate(), scene.thread()
    scene.model.replies.append(text("Half", " an", " answer.").then(gate, after=1))
    with server_at(tmp_path, model, url) as other:
        listener = scene.listen(thread_id)
        listener.wait_for("Half")
        run_id = scene.run_on(thread_id).id
        events = f"{other.url}/threads/{thread_id}/runs/{run_id}/events"
        following = ThreadPoolExecutor(1).submit(fetch, "GET", events)
        bells = "SELECT pid FROM pg_stat_activity WHERE query ~ 'clock_timestamp|pg_notify'"
        for (pid,) in database.ask(bells):
            database.ask("SELECT pg_terminate_backend($1)", pid)
        other.wait_for_log("the database is back")
        gate.open()
        status, _, followed = following.result(PATIENCE_SECONDS)
        assert status == 200
        assert streamed_text(listener.ended()) == "Half an answer."
        assert streamed_text(parsed(followed)) == "Half an answer."


def test_a_start_waits_for_a_database_that_is_starting_too(
    database: OwnPostgres, model: ModelServer, url: str, tmp_path: Path
) -> None:
    with socket.socket() as knocked:
        database.stop()
        knocked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        knocked.bind(("127.0.0.1", database.port))
        knocked.listen()
        starting = threading.Thread(target=start_when_knocked, args=(database, knocked))
        starting.start()
        with server_at(tmp_path, model, url, "--database-timeout-seconds", "20") as server:
            starting.join()
            assert fetch("GET", f"{server.root}/readyz")[0] == 200


def start_when_knocked(database: OwnPostgres, knocked: socket.socket) -> None:
    connection, _ = knocked.accept()
    knocked.close()
    connection.close()
    database.start()


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("127.0.0.1:1/rethread", "Connection refused"),
        ("nowhere.invalid/rethread", ""),
        ("{host}/no_such_database", 'database "no_such_database" does not exist'),
    ],
)
def test_without_a_database_the_start_fails_with_one_line(
    tmp_path: Path, database: OwnPostgres, at: str, told: str
) -> None:
    at = at.format(host=f"127.0.0.1:{database.port}")
    ended = subprocess.run(
        [sys.executable, "-m", "rethread", "serve", "--database-timeout-seconds", "0.2"],
        env={
            **{name: value for name, value in os.environ.items() if "RETHREAD" not in name},
            "RETHREAD_DATABASE_URL": f"postgresql://{USER}:{PASSWORD}@{at}",
            "RETHREAD_DATA_DIR": str(tmp_path / "data"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"rethread: cannot use the database postgresql://{USER}@{at}: ")
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert PASSWORD not in ended.stderr


def test_a_stop_while_the_database_is_away_is_a_stop(
    database: OwnPostgres, model: ModelServer, url: str, tmp_path: Path
) -> None:
    with server_at(tmp_path, model, url) as server, stopped(database):
        assert server.terminate() == 0
        assert PASSWORD not in "".join(server.log)
        assert "Traceback" not in "".join(server.log)
