"""Clocks that are wrong or jump: order, times, leases and expiry go by the database's.

The servers of this module believe their machine's clock, which is an hour ahead, an hour back,
or as a test sets it. What they cannot be lied to about is how long something takes.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from openai.types.beta.threads import Run

from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Call, Gate, text, tool_calls
from tests.faults.pair import forget_script
from tests.faults.scene import WEATHER, Scene, fetch, stock_client, text_of
from tests.postgres import Postgres
from tests.server import ServerProcess, running_server, wait_until

HOUR: Final = 3600
# Python runs a module of this name before any other.
WRONG_CLOCK: Final = """
import os, pathlib, time
true_time, offset = time.time, pathlib.Path(os.environ["CLOCK_OFFSET"])
time.time = lambda: true_time() + float(offset.read_text())
time.time_ns = lambda: int(time.time() * 1e9)
"""
NOW: Final = "SELECT CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp())) AS BIGINT)"
BEATS: Final = "SELECT MIN(seen_at) FROM servers"


class Place(NamedTuple):
    """Servers with wrong clocks, and where the last one's offset in seconds is written."""

    ahead: Scene
    behind: Scene
    jumping: Scene
    offset: Path

    @property
    def servers(self) -> tuple[Scene, Scene, Scene]:
        """All of them."""
        return self.ahead, self.behind, self.jumping

    def now(self) -> int:
        """What the database's clock shows."""
        return int(self.ahead.server.ask(NOW)[0][0])

    def jump(self, seconds: int) -> None:
        """Set the last one's clock to be wrong by so much."""
        # In one step: the server reads it at any time.
        new = self.offset.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.offset)


@pytest.fixture(scope="module")
def place(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, model: ModelServer
) -> Iterator[Place]:
    """The module's servers; runs that are made on the one that lags live for a second only."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "sitecustomize.py").write_text(WRONG_CLOCK)
    url = postgres.new_database()
    with ExitStack() as stack:
        stack.callback(postgres.give_back, url)

        def start(name: str, offset_seconds: int, *, life_seconds: int = 600) -> Scene:
            offset = folder / f"{name}.offset"
            offset.write_text(str(offset_seconds))
            server = running_server(
                folder / name / "data",
                *("--upstream", model.url, "--run-expiry-seconds", str(life_seconds)),
                env={"PYTHONPATH": str(folder), "CLOCK_OFFSET": str(offset)},
                database_url=url,
            )
            started = stack.enter_context(server)
            return Scene(started, model, stack.enter_context(stock_client(started.url)))

        yield Place(
            start("ahead", HOUR),
            start("behind", -HOUR, life_seconds=1),
            start("jumping", 0),
            folder / "jumping.offset",
        )


def has_beaten(server: ServerProcess, *, since: float) -> bool:
    """Whether all servers have said that they are alive after that time, in milliseconds."""
    oldest: int = server.ask(BEATS)[0][0]
    return oldest > since


def now_is(scene: Scene, run: Run) -> Run:
    """The run as it is now."""
    return scene.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)


@pytest.fixture(autouse=True)
def _new_script(model: ModelServer) -> None:
    forget_script(model)


def test_the_servers_believe_their_clocks(place: Place) -> None:
    for scene, offset in ((place.ahead, HOUR), (place.behind, -HOUR)):
        _, headers, _ = fetch("GET", f"{scene.server.root}/healthz")
        shown = parsedate_to_datetime(headers["date"]).timestamp()
        assert abs(shown - time.time() - offset) < HOUR / 2


def test_what_is_made_bears_the_time_of_the_database(place: Place) -> None:
    for scene in place.servers:
        before = place.now()
        thread_id = scene.thread()
        run = scene.rest(scene.start(thread_id))
        thread = scene.beta.threads.retrieve(thread_id)
        [message] = scene.messages(run)
        [step] = scene.steps(run)
        after = place.now()
        assert run.started_at is not None
        assert run.completed_at is not None
        assert message.completed_at is not None
        assert step.completed_at is not None
        times = (
            thread.created_at,
            *(run.created_at, run.started_at, run.completed_at),
            *(message.created_at, message.completed_at),
            *(step.created_at, step.completed_at),
        )
        assert all(before <= time <= after for time in times), (before, times, after)


def test_lists_are_in_the_order_in_which_their_objects_were_made(place: Place) -> None:
    thread_id = place.ahead.thread("0")
    for number in range(1, 9):
        place.servers[number % 3].beta.threads.messages.create(
            thread_id, role="user", content=str(number)
        )
    for scene in place.servers:
        listed = scene.beta.threads.messages.list(thread_id, order="asc", limit=3)
        assert [text_of(message) for message in listed] == [str(number) for number in range(9)]
        times = [message.created_at for message in listed]
        assert times == sorted(times)


def test_a_run_expires_when_its_time_is_over_by_the_database(place: Place) -> None:
    """Every server looks for overdue runs, and ends those of all: none by its own clock."""
    long_ones = []
    for scene in (place.ahead, place.jumping):
        scene.model.replies.append(tool_calls(Call("call_1", "get_weather", "{}")))
        long_ones.append(scene.rest(scene.start(scene.thread(), tools=[WEATHER])))
    place.behind.model.replies.append(text("Never said.").first(Gate()))
    before = place.now()
    short = place.behind.start(place.behind.thread())
    assert short.expires_at is not None
    assert before < short.expires_at == short.created_at + 1
    wait_until(lambda: now_is(place.ahead, short).status == "expired")
    assert short.expires_at <= place.now()
    for run in long_ones:
        assert now_is(place.behind, run).status == "requires_action"


def test_a_clock_that_jumps_under_a_run_takes_neither_its_lease_nor_its_time(place: Place) -> None:
    gate = Gate()
    place.jumping.model.replies.append(text("One ", "two").then(gate, after=1))
    asked_before = len(place.jumping.model.requests)
    thread_id = place.jumping.thread()
    listener = place.jumping.listen(thread_id)
    listener.wait_for("One ")
    for seconds in (HOUR, -HOUR):
        place.jump(seconds)
        before = place.now() * 1000
        wait_until(partial(has_beaten, place.ahead.server, since=before))
    gate.open()
    events = listener.ended()
    assert events[-2].name == "thread.run.completed"
    [message] = place.behind.messages(place.behind.run_on(thread_id))
    assert text_of(message) == "One two"
    assert len(place.jumping.model.requests) - asked_before == 1
    for scene in place.servers:
        assert not [line for line in scene.server.log if "taken" in line or "Traceback" in line]
