"""What looks for work goes on looking, whatever went wrong once."""

from openai import OpenAI

from tests.conftest import StartServer
from tests.faults.scene import WEATHER, stock_client


def waiting_run(client: OpenAI) -> tuple[str, str]:
    """The ids of a thread and of its run that waits for a tool's output."""
    assistant = client.beta.assistants.create(model="demo", instructions="Hi.", tools=[WEATHER])
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": "Call get_weather."}]},
    )
    assert run.status == "requires_action"
    return run.thread_id, run.id


def test_runs_are_claimed_again_after_a_fault_that_nobody_expected(
    start_server: StartServer,
) -> None:
    server = start_server()
    with stock_client(server.url) as client:
        thread_id, run_id = waiting_run(client)
        server.ask("ALTER TABLE work RENAME TO gone")
        server.wait_for_log("claim failed")
        server.ask("ALTER TABLE gone RENAME TO work")
        cancelling = client.beta.threads.runs.cancel(run_id, thread_id=thread_id)
        assert cancelling.status == "cancelling"
        ended = client.beta.threads.runs.poll(run_id, thread_id=thread_id)
        assert ended.status == "cancelled"
