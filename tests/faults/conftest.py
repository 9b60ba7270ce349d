"""What these tests share: a model server that misbehaves, a server before it, the stock SDK.

A module that sets `ARGUMENTS` gets its server with them; one server serves a module.
"""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.conftest import DATABASES, new_database
from tests.fakes.model_server import ModelServer
from tests.faults.pair import Pair, forget_script
from tests.faults.scene import Scene, stock_client
from tests.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    """The module's model server."""
    with ModelServer.start_in_thread() as model:
        yield model


@pytest.fixture(scope="module", params=DATABASES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: ModelServer
) -> Iterator[ServerProcess]:
    """The module's server, which asks that model server."""
    arguments: tuple[str, ...] = getattr(request.module, "ARGUMENTS", ())
    data_dir = tmp_path_factory.mktemp("faults") / "data"
    arguments = ("--upstream", model.url, *arguments)
    with (
        new_database(request) as url,
        running_server(data_dir, *arguments, database_url=url) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[OpenAI]:
    """The stock SDK, which does not try again by itself."""
    with stock_client(server.url) as client:
        yield client


@pytest.fixture
def scene(server: ServerProcess, model: ModelServer, client: OpenAI) -> Iterator[Scene]:
    """A conversation before a model server without a script."""
    model.replies.clear()
    model.answer = None
    yield Scene(server, model, client)
    model.replies.clear()
    model.answer = None


@pytest.fixture
def pair(both: Pair, model: ModelServer) -> Iterator[Pair]:
    """The servers of a module that has `both`, at work, before a model server without a script."""
    forget_script(model)
    for scene in both:
        if scene.server.process.poll() is not None:
            scene.server.restart()
    yield both
    forget_script(model)
