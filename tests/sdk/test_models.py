"""Models through the stock SDK: the built-in one, the upstream's, and aliases."""

from pathlib import Path

import pytest
from openai import AsyncOpenAI, NotFoundError

from tests.conftest import StartServer
from tests.fakes.model_server import ModelServer
from tests.sdk.clients import Scripted, sync_client


async def test_the_built_in_model_is_listed_and_read(client: AsyncOpenAI) -> None:
    page = await client.models.list()
    (model,) = page.data
    assert (model.id, model.object) == ("demo", "model")
    assert set(model.to_dict()) >= {"id", "object", "created", "owned_by"}
    assert await client.models.retrieve("demo") == model


async def test_an_unknown_model_is_404(client: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError, match="The model 'none' does not exist") as refused:
        await client.models.retrieve("none")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_the_models_of_the_upstream_are_listed(scripted: Scripted) -> None:
    assert {model.id for model in scripted.client.models.list()} == {"fake-model", "other-model"}


def test_an_alias_is_listed_and_leads_to_its_model(
    start_server: StartServer, model_server: ModelServer, tmp_path: Path
) -> None:
    config = tmp_path / "aliases.toml"
    config.write_text('[aliases]\n"gpt-4*" = "fake-model"\nhelper = "fake-model"\n')
    server = start_server("--config", str(config), "--upstream", model_server.url)
    with sync_client(server) as client:
        assert {model.id for model in client.models.list()} == {"fake-model", "helper"}
        for name in ("gpt-4o-mini", "helper", "fake-model"):
            assistant = client.beta.assistants.create(model=name, instructions="Hello")
            run = client.beta.threads.create_and_run_poll(assistant_id=assistant.id)
            assert (run.status, run.model) == ("completed", name)
            assert model_server.requests[-1].body["model"] == "fake-model"
