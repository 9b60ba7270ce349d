"""What tests share: a database, a server process, a model's server."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rethread.store.database import Database, open_database
from tests.fakes.model_server import ModelServer
from tests.server import ServerProcess, running_server

StartServer = Callable[..., ServerProcess]


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database, its schema current."""
    database = await open_database(tmp_path / "data")
    yield database
    await database.close()


@pytest.fixture(scope="module")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the built-in model, shared by a module's tests."""
    with running_server(tmp_path_factory.mktemp("demo") / "data") as server:
        yield server


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers with the arguments given, `start_server("--upstream", url)`; ends them."""
    with ExitStack() as stack:
        count = 0

        def start(*arguments: str, env: dict[str, str] | None = None) -> ServerProcess:
            nonlocal count
            count += 1
            data_dir = tmp_path / f"server{count}" / "data"
            return stack.enter_context(running_server(data_dir, *arguments, env=env))

        yield start


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """A chat-completions server that can be told to misbehave, in a thread of its own."""
    with ModelServer.start_in_thread() as server:
        yield server
