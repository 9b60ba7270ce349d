"""Two servers are restarted one after the other under load: no client notices.

The clients are behind a load balancer (`Turns`), which knows only to go elsewhere when a
connection is refused. They try nothing again.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
import pytest

from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Gate, text
from tests.faults.pair import Pair, Turns, all_events, heard, pair_of_servers
from tests.faults.scene import PATIENCE_SECONDS, Listener, streamed_text, text_of
from tests.postgres import Postgres
from tests.server import ServerProcess, running_server

WORDS: Final = tuple(f"w{number} " for number in range(10))
PATIENT: Final = ("--shutdown-grace-seconds", "600", "--poll-hold-seconds", "600")
TALKERS: Final = 4
WRITERS: Final = 4
TALKS_MEANWHILE: Final = 6  # conversations that are held between one step and the next


@pytest.fixture(scope="module")
def both(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, model: ModelServer
) -> Iterator[Pair]:
    """The module's servers, which let finish what is under way, and would hold a poll for long."""
    folder = tmp_path_factory.mktemp("rolling")
    with pair_of_servers(postgres, folder, model, *PATIENT) as pair:
        yield pair


class Told(NamedTuple):
    """What a client was told in one conversation."""

    thread_id: str
    run_id: str
    stream: bytes
    messages: list[Any]


class Load:
    """Clients that hold conversations, one after another, until the end of the block."""

    def __init__(self, pair: Pair, assistant_id: str) -> None:
        self.told: list[Told] = []
        self._pair = pair
        self._assistant_id = assistant_id
        self._is_over = threading.Event()
        self._news = threading.Condition()

    def __enter__(self) -> "Load":
        self._pool = ThreadPoolExecutor(TALKERS + WRITERS)
        self._clients = [
            self._pool.submit(self._work, number, self._talk if number < TALKERS else self._write)
            for number in range(TALKERS + WRITERS)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._pool.shutdown()

    def wait_for_more(self) -> None:
        """Return when some more conversations have been held, or one has gone wrong."""
        with self._news:
            count = len(self.told) + TALKS_MEANWHILE
            assert self._news.wait_for(
                lambda: len(self.told) >= count or self._failures(), PATIENCE_SECONDS
            )

    def check(self) -> None:
        """Raise what a client has met."""
        for client in self._clients:
            client.result()

    def _failures(self) -> list[Future[None]]:
        return [client for client in self._clients if client.done() and client.exception()]

    def _work(self, number: int, work: Callable[[httpx2.Client], None]) -> None:
        # Every other one connects anew for each request, as some proxies do.
        headers = {"connection": "close"} if number % 2 else {}
        transport = Turns(self._pair.ports)
        url = self._pair.here.server.url
        try:
            with httpx2.Client(
                transport=transport, base_url=url, headers=headers, timeout=PATIENCE_SECONDS
            ) as client:
                while not self._is_over.is_set():
                    work(client)
        finally:
            with self._news:
                self._news.notify_all()

    def _write(self, client: httpx2.Client) -> None:
        """As quickly as it is answered, for many a request to meet the moment of a stop."""
        thread_id = _asked(client.post("/threads", json={})).json()["id"]
        _asked(client.get(f"/threads/{thread_id}/messages"))

    def _talk(self, client: httpx2.Client) -> None:
        thread_id = _asked(client.post("/threads", json={})).json()["id"]
        path = f"/threads/{thread_id}"
        message = {"role": "user", "content": "Hello?"}
        _asked(client.post(f"{path}/messages", json=message))
        run = {"assistant_id": self._assistant_id, "stream": True}
        stream = _asked(client.post(f"{path}/runs", json=run)).content
        messages = _asked(client.get(f"{path}/messages")).json()["data"]
        [run_id] = [run["id"] for run in _asked(client.get(f"{path}/runs")).json()["data"]]
        with self._news:
            self.told.append(Told(thread_id, run_id, stream, messages))
            self._news.notify_all()


def _asked(response: httpx2.Response) -> httpx2.Response:
    assert response.status_code == 200, response.text
    return response


def test_a_rolling_restart_under_load_fails_no_request_and_loses_no_event(pair: Pair) -> None:
    pair.here.model.answer = lambda _: text(*WORDS, seconds_between=0.01)
    asked_before = len(pair.here.model.requests)
    with Load(pair, pair.here.assistant()) as load:
        load.wait_for_more()
        for scene in pair:
            assert scene.server.terminate() == 0
            load.wait_for_more()
            scene.server.restart()
            load.wait_for_more()
    load.check()
    assert len(pair.here.model.requests) - asked_before == len(load.told)
    for told in load.told:
        events = heard(told.stream)
        assert events[-2].name == "thread.run.completed"
        assert streamed_text(events) == "".join(WORDS)
        assert [message["role"] for message in told.messages] == ["assistant", "user"]
        assert all_events(pair.there.server, told.thread_id, told.run_id) == told.stream


def test_a_server_that_begins_where_another_still_finishes_takes_no_run_from_it(
    pair: Pair, tmp_path: Path
) -> None:
    gate = Gate()
    pair.here.model.replies.append(text("One ", "two").then(gate, after=1))
    asked_before = len(pair.here.model.requests)
    thread_id = pair.here.thread()
    listener = pair.here.listen(thread_id)
    listener.wait_for("One ")
    old = pair.here.server
    ending = begin_to_stop(old)
    assert old.database_url is not None
    with running_server(
        tmp_path / "data",
        *("--upstream", pair.here.model.url),
        port=old.port,
        database_url=old.database_url,
    ) as new:
        new.wait_for_log("listening")
        gate.open()
        assert streamed_text(heard_by(listener)) == "One two"
        assert ending() == 0
        [message] = pair.there.messages(pair.there.run_on(thread_id))
        assert text_of(message) == "One two"
        assert len(pair.here.model.requests) - asked_before == 1
        assert not [line for line in new.log if "runs taken up" in line]
    old.restart()


def heard_by(listener: Listener) -> list[Any]:
    listener.ended()
    return heard(listener.raw)


def begin_to_stop(server: ServerProcess) -> Callable[[], int]:
    """SIGTERM, and the server takes no connections any more. Call it for the exit code."""
    pool = ThreadPoolExecutor(1)
    ending = pool.submit(server.terminate)
    pool.shutdown(wait=False)
    with suppress(httpx2.ConnectError):
        while True:
            httpx2.get(f"{server.root}/healthz")
    return lambda: ending.result(PATIENCE_SECONDS)


def test_a_poll_that_is_held_is_answered_when_its_server_stops(pair: Pair) -> None:
    gate = Gate()
    pair.there.model.replies.append(text("Hello").first(gate))
    run = pair.there.start(pair.there.thread())
    url = f"{pair.here.server.url}/threads/{run.thread_id}/runs/{run.id}"
    with ThreadPoolExecutor(1) as pool, httpx2.Client(timeout=PATIENCE_SECONDS) as client:
        client.get(url)  # from here on it is connected
        polling = pool.submit(client.get, url, headers={"x-stainless-poll-helper": "true"})
        assert pair.here.server.terminate() == 0
        assert polling.result().json()["status"] in ("queued", "in_progress")
    gate.open()
    assert pair.there.rest(run).status == "completed"
    pair.here.server.restart()


def test_a_message_that_waits_for_a_run_waits_on_while_its_server_stops(pair: Pair) -> None:
    gate = Gate()
    pair.there.model.replies.append(text("Hello").first(gate))
    run = pair.there.start(pair.there.thread())
    url = f"{pair.here.server.url}/threads/{run.thread_id}/messages"
    message = {"role": "user", "content": "And?"}
    headers = {"rethread-on-active-run": "wait"}
    with ThreadPoolExecutor(1) as pool, httpx2.Client(timeout=PATIENCE_SECONDS) as client:
        client.get(url)
        adding = pool.submit(client.post, url, json=message, headers=headers)
        ending = begin_to_stop(pair.here.server)
        gate.open()
        assert _asked(adding.result()).json()["object"] == "thread.message"
        assert ending() == 0
    pair.here.server.restart()
