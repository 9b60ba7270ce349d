"""Azure's clients: another path, another header, the same conversation."""

import asyncio
from pathlib import Path

import pytest
from openai import AsyncAzureOpenAI, AuthenticationError, AzureOpenAI

from rethread.store import keys
from rethread.store.database import open_database
from tests.conftest import StartServer
from tests.server import ServerProcess

VERSION = "2024-05-01-preview"


@pytest.mark.parametrize("deployment", [None, "my-deployment"])
def test_azures_client_has_a_conversation(demo: ServerProcess, deployment: str | None) -> None:
    client = AzureOpenAI(
        azure_endpoint=demo.root,
        api_key="any",
        api_version=VERSION,
        azure_deployment=deployment,
        _strict_response_validation=True,
    )
    with client:
        assistant = client.beta.assistants.create(model="demo", instructions="Hello")
        thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
        with client.beta.threads.runs.stream(
            thread_id=thread.id, assistant_id=assistant.id
        ) as stream:
            stream.until_done()
            assert stream.get_final_run().status == "completed"
        run = client.beta.threads.runs.create_and_poll(
            thread_id=thread.id, assistant_id=assistant.id
        )
        assert run.status == "completed"


async def test_azures_async_client_has_one_too(demo: ServerProcess) -> None:
    client = AsyncAzureOpenAI(azure_endpoint=demo.root, api_key="any", api_version=VERSION)
    async with client:
        assistant = await client.beta.assistants.create(model="demo", instructions="Hello")
        run = await client.beta.threads.create_and_run_poll(assistant_id=assistant.id)
        assert run.status == "completed"


def test_the_key_in_azures_header_is_heeded(start_server: StartServer) -> None:
    server = start_server()

    async def made(data_dir: Path) -> str:
        db = await open_database(data_dir)
        key = await keys.create(db, project="azure", label=None, now=1)
        await db.close()
        return key.secret

    secret = asyncio.run(made(server.data_dir))

    def client(api_key: str) -> AzureOpenAI:
        return AzureOpenAI(
            azure_endpoint=server.root, api_key=api_key, api_version=VERSION, max_retries=0
        )

    with client(secret) as good:
        assert good.beta.assistants.create(model="demo").model == "demo"
    with client("sk-wrong") as bad, pytest.raises(AuthenticationError):
        bad.beta.assistants.list()
