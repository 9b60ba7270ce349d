"""What tests share: a database, a server process, a model's server.

Whatever is kept is kept in SQLite and in PostgreSQL: a test that asks for `db` or for a server
runs on both. One that is about one of them asks for `sqlite` or `postgres_url`.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, cast

import certifi
import pytest

from rethread.store.database import Database, open_database
from rethread.store.sqlite import Sqlite
from tests import sandboxes
from tests.fakes.model_server import ModelServer
from tests.postgres import VARIABLE, Postgres, running_postgres
from tests.server import ServerProcess, running_server

StartServer = Callable[..., ServerProcess]

DATABASES: Final = ("sqlite", "postgresql")
# A worker takes one file after the other. These take longest: begun first, none of them is what
# the others wait for in the end.
LONG: Final = (
    "fuzz/test_schemathesis.py",
    "crash/test_rounds.py",
    "faults/test_ingestion.py",
    "faults/test_searches.py",
    "model/test_model.py",
    "sdk/test_old_sdks.py",
    "faults/test_uploads.py",
    "faults/test_rolling_restart.py",
    "maintenance/test_reindex.py",
    "maintenance/test_move.py",
    "test_docs.py",
    "faults/test_database_away.py",
    "faults/test_crash.py",
    "sdk/test_library.py",
    "sdk/test_file_search.py",
    "sdk/test_node.py",
    "store/test_search.py",
    "sdk/test_replay.py",
)


def pytest_configure() -> None:
    """What a script starts in the background ignores Ctrl-C, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def named_postgres() -> str | None:
    """The URL of the server to use, if one was named; rethread knows no such variable."""
    url = os.environ.get(VARIABLE)
    for name in [name for name in os.environ if name.startswith("RETHREAD_")]:
        del os.environ[name]
    return url


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nobody here speaks TLS, yet each new client would read 140 certificates: 20 ms, of CPU."""
    end = "-----END CERTIFICATE-----\n"
    one = tmp_path_factory.mktemp("authorities") / "one.pem"
    one.write_text(Path(certifi.where()).read_text("utf-8").split(end)[0] + end, "utf-8")
    os.environ["SSL_CERT_FILE"] = str(one)


@pytest.fixture(scope="session")
def postgres(named_postgres: str | None) -> Iterator[Postgres]:
    """A PostgreSQL server, started when the first test asks for it."""
    with running_postgres(named_postgres) as server:
        yield server


@contextmanager
def new_database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """For a fixture with DATABASES as its parameters: None for a file, or an empty PostgreSQL."""
    if request.param == "sqlite":
        yield None
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.new_database()
    yield url
    postgres.give_back(url)


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty PostgreSQL database, its schema current."""
    url = postgres.new_database()
    yield url
    postgres.give_back(url)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Where to keep things: None for SQLite in a folder, or a PostgreSQL."""
    is_file = request.param == "sqlite"
    return None if is_file else cast(str, request.getfixturevalue("postgres_url"))


@pytest.fixture
async def db(tmp_path: Path, database_url: str | None) -> AsyncIterator[Database]:
    """An empty database of either kind, its schema current."""
    database = await open_database(tmp_path / "data", database_url)
    yield database
    await database.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Sqlite]:
    """An empty SQLite database, its schema current."""
    database = await open_database(tmp_path / "data")
    assert isinstance(database, Sqlite)
    yield database
    await database.close()


@pytest.fixture(scope="module", params=DATABASES)
def demo_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server with the built-in model, shared by a module's tests."""
    data_dir = tmp_path_factory.mktemp("demo") / "data"
    with new_database(request) as url, running_server(data_dir, database_url=url) as server:
        yield server


@pytest.fixture
def start_server(tmp_path: Path, database_url: str | None) -> Iterator[StartServer]:
    """Starts servers with the arguments given, `start_server("--upstream", url)`; ends them."""
    with ExitStack() as stack:
        count = 0

        def start(*arguments: str, env: dict[str, str] | None = None) -> ServerProcess:
            nonlocal count
            count += 1
            data_dir = tmp_path / f"server{count}" / "data"
            server = running_server(data_dir, *arguments, env=env, database_url=database_url)
            return stack.enter_context(server)

        yield start


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """A chat-completions server that can be told to misbehave, in a thread of its own."""
    with ModelServer.start_in_thread() as server:
        yield server


@pytest.fixture
def needs_sandbox() -> None:
    """For a test whose server runs code."""
    sandboxes.need_sandbox()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud what this machine could not test."""
    for line in sandboxes.summary(terminalreporter.getreports("skipped")):
        terminalreporter.write_line(line, red=True, bold=True)
