"""Two servers on one PostgreSQL, before one model server; and a client that takes them in turn."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2

from tests.fakes.model_server import ModelServer
from tests.faults.scene import PATIENCE_SECONDS, Happened, Scene, parsed, stock_client
from tests.postgres import Postgres
from tests.server import ServerProcess, running_server

TAKEN_OVER_SECONDS: Final = 15.0  # after the death of a server, at the latest


class Pair(NamedTuple):
    """The same conversation as seen through each of the two."""

    here: Scene
    there: Scene

    @property
    def ports(self) -> tuple[int, int]:
        """Where they listen."""
        return self.here.server.port, self.there.server.port


@contextmanager
def pair_of_servers(
    postgres: Postgres, folder: Path, model: ModelServer, *arguments: str
) -> Iterator[Pair]:
    """Two servers on a new database, gone afterwards."""
    url = postgres.new_database()
    with ExitStack() as stack:
        stack.callback(postgres.give_back, url)
        servers = [
            stack.enter_context(
                running_server(
                    folder / name / "data",
                    *("--upstream", model.url, *arguments),
                    database_url=url,
                )
            )
            for name in ("here", "there")
        ]
        clients = [stack.enter_context(stock_client(server.url)) for server in servers]
        yield Pair(
            *(Scene(server, model, client) for server, client in zip(servers, clients, strict=True))
        )


def forget_script(model: ModelServer) -> None:
    """Have the model server answer as if no test had been."""
    model.replies.clear()
    model.answer = None


class Turns(httpx2.BaseTransport):
    """What a load balancer does: each request goes to the next server, past one that refuses it.

    What was sent once is not sent again.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = tuple(ports)
        self._numbers = count()
        self._transport = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of the first one that takes the connection."""
        first = next(self._numbers)
        for place in range(first, first + len(self._ports)):
            request.url = request.url.copy_with(port=self._ports[place % len(self._ports)])
            try:
                return self._transport.handle_request(request)
            except httpx2.ConnectError as problem:
                refused = problem
        raise refused

    def close(self) -> None:
        """Close its connections."""
        self._transport.close()


@contextmanager
def client_in_turn(pair: Pair) -> Iterator[Any]:
    """The stock SDK behind that balancer."""
    http_client = httpx2.Client(transport=Turns(pair.ports), timeout=PATIENCE_SECONDS)
    with stock_client(pair.here.server.url, http_client=http_client) as client:
        yield client


def all_events(server: ServerProcess, thread_id: str, run_id: str) -> bytes:
    """The run's log, as a server sends it, once the run rests."""
    url = f"{server.url}/threads/{thread_id}/runs/{run_id}/events"
    response = httpx2.get(url, timeout=PATIENCE_SECONDS)
    assert response.status_code == 200, response.text
    return response.content


def assert_whole(events: Sequence[Happened]) -> None:
    """A stream from its run's first event to `done`: each number is there, and once."""
    assert [int(event.id) for event in events[:-1]] == list(range(1, len(events)))
    assert events[-1] == Happened(events[-2].id, "done", "[DONE]")


def heard(raw: bytes | bytearray) -> list[Happened]:
    """The events of a whole stream, checked to be all there."""
    events = parsed(bytes(raw))
    assert_whole(events)
    return events
