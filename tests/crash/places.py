"""What is crashed: one of three servers, the database below them, or an only server on SQLite."""

import asyncio
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from tests.fakes.model_server import ModelServer
from tests.own_postgres import own_postgres
from tests.server import ServerProcess, running_server

Scenario = Literal["servers", "database", "sqlite"]
SCENARIOS: Final[tuple[Scenario, ...]] = get_args(Scenario)
SERVERS: Final = 3
TRACEBACK: Final = re.compile(r"^Traceback .*\n(?:[ \t].*\n|\n)*.*\n", re.MULTILINE)
QUIET: Final = ("--log-level", "warning")


@dataclass
class Place:
    """Servers, and what is done to them: `crash` takes a number that chooses the victim.

    `tracebacks` are those that stood in the servers' logs, each once.
    """

    servers: Sequence[ServerProcess]
    crash: Callable[[int], Any]
    recover: Callable[[int], Any]
    tracebacks: set[str] = field(default_factory=set)

    @property
    def ports(self) -> list[int]:
        """Where the servers listen, also after a crash."""
        return [server.port for server in self.servers]

    async def crashed(self, victim: int) -> None:
        """Crash it, beside the loop."""
        await asyncio.to_thread(self.crash, victim)
        self.look_at_logs()  # a restart begins a new one

    async def recovered(self, victim: int) -> None:
        """Start it again, beside the loop."""
        await asyncio.to_thread(self.recover, victim)

    def look_at_logs(self) -> None:
        """Collect what went wrong in a way that nobody has thought of."""
        for server in self.servers:
            for found in TRACEBACK.finditer("".join(server.log)):
                self.tracebacks.add(found.group())


@contextmanager
def place_of(scenario: Scenario, model: ModelServer) -> Iterator[Place]:
    """The processes of a scenario, gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rethread-crash-")))
        if scenario == "sqlite":
            only = stack.enter_context(
                running_server(folder / "0" / "data", "--upstream", model.url, *QUIET)
            )
            yield Place([only], lambda _: only.kill(), lambda _: only.restart())
            return
        # Nothing is switched off: a commit waits for the disk.
        postgres = stack.enter_context(own_postgres())
        servers = [
            stack.enter_context(
                running_server(
                    folder / str(number) / "data",
                    *("--upstream", model.url, *QUIET),
                    database_url=postgres.url,
                )
            )
            for number in range(SERVERS)
        ]
        if scenario == "database":
            yield Place(servers, lambda _: postgres.stop("immediate"), lambda _: postgres.start())
            return
        yield Place(
            servers,
            lambda victim: servers[victim % SERVERS].kill(),
            lambda victim: servers[victim % SERVERS].restart(),
        )
