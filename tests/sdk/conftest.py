"""Servers that a worker's SDK tests share, and strict clients of them."""

from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.conftest import DATABASES, new_database
from tests.fakes.model_server import ModelServer
from tests.sdk.clients import Scripted, async_client, awaited, sync_client
from tests.server import ServerProcess, running_server


@pytest.fixture(scope="session", params=DATABASES)
def demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server with the built-in model."""
    with new_database(request) as url:
        data_dir = tmp_path_factory.mktemp("demo") / "data"
        with running_server(data_dir, database_url=url) as server:
            yield server


@pytest.fixture
async def client(demo: ServerProcess) -> AsyncIterator[AsyncOpenAI]:
    """The sync client of a server on SQLite, and the async client of one on PostgreSQL."""
    if demo.database_url is not None:
        async with async_client(demo) as client:
            yield client
    else:
        with sync_client(demo) as sync:
            yield awaited(sync)


@pytest.fixture
def one_client(demo: ServerProcess) -> Iterator[OpenAI]:
    """The sync client, for what need not be tried twice."""
    with sync_client(demo) as client:
        yield client


@pytest.fixture(scope="session", params=DATABASES)
def scripted_parts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scripted]:
    """A server whose silent streams are kept alive often, and its model server."""
    with (
        new_database(request) as url,
        ModelServer.start_in_thread(models=("fake-model", "other-model")) as model,
        running_server(
            tmp_path_factory.mktemp("scripted") / "data",
            *("--upstream", model.url, "--keep-alive-seconds", "0.2"),
            database_url=url,
        ) as server,
        sync_client(server) as client,
    ):
        yield Scripted(server, model, client)


@pytest.fixture
def scripted(scripted_parts: Scripted) -> Scripted:
    """The same, with nothing scripted yet."""
    scripted_parts.model.replies.clear()
    scripted_parts.model.answer = None
    return scripted_parts
