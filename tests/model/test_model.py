"""Whatever clients do to a project, in any order: every answer is as plain lists and dicts say.

`RETHREAD_MODEL_EXAMPLES=2000` makes it a long soak, on other examples each time.
"""

import asyncio
import os
from functools import partial
from itertools import count
from typing import Final

import httpx2
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from rethread.store import keys
from rethread.store.database import open_database
from tests.conftest import StartServer
from tests.fakes.model_server import ModelServer
from tests.model.clients import Clients
from tests.model.project import TIMEOUT_SECONDS, Project
from tests.model.scene import Stage

EXAMPLES: Final = int(os.environ.get("RETHREAD_MODEL_EXAMPLES") or 0)
SETTINGS: Final = settings(
    max_examples=EXAMPLES or 40,
    stateful_step_count=50,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_every_answer_is_as_plain_lists_say(
    start_server: StartServer, model_server: ModelServer, database_url: str | None
) -> None:
    server = start_server("--upstream", model_server.url)
    with asyncio.Runner() as runner, httpx2.Client(timeout=TIMEOUT_SECONDS) as http:
        db = runner.run(open_database(server.data_dir, database_url))
        numbers = count(1)

        def new_project() -> Project:
            project = f"project-{next(numbers)}"
            key = runner.run(keys.create(db, project=project, label=None, now=1))
            return Project(http, server.url, key.secret)

        stage = Stage(model_server, new_project, stranger=new_project())
        try:
            run_state_machine_as_test(
                partial(Clients, stage),  # type: ignore[arg-type]  # called, once an example
                settings=SETTINGS,
            )
        finally:
            runner.run(db.close())
