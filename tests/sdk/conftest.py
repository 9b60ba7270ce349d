"""Servers that a worker's SDK tests share, and strict clients of them."""

from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.fakes.model_server import ModelServer
from tests.sdk.clients import Scripted, async_client, awaited, sync_client
from tests.server import ServerProcess, running_server


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the built-in model."""
    with running_server(tmp_path_factory.mktemp("demo") / "data") as server:
        yield server


@pytest.fixture(params=["sync", "async"])
async def client(demo: ServerProcess, request: pytest.FixtureRequest) -> AsyncIterator[AsyncOpenAI]:
    """The sync and the async client, in turn, of the server with the built-in model."""
    if request.param == "async":
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


@pytest.fixture(scope="session")
def scripted_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """A server whose silent streams are kept alive often, and its model server."""
    with (
        ModelServer.start_in_thread(models=("fake-model", "other-model")) as model,
        running_server(
            tmp_path_factory.mktemp("scripted") / "data",
            *("--upstream", model.url, "--keep-alive-seconds", "0.2"),
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
