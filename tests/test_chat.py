"""`rethread chat` through a pipe: a conversation with the real server, as a person types it."""

import subprocess
import sys

from openai import OpenAI

from rethread.cli import main
from tests.conftest import StartServer
from tests.server import ServerProcess


def chat(server: ServerProcess, *arguments: str, typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rethread", "chat", "--base-url", server.url, *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_answer_is_printed_and_nothing_is_left_behind(demo_server: ServerProcess) -> None:
    done = chat(demo_server, typed="Hello there\n/new\nAnd again\n")
    assert done.returncode == 0, done.stderr
    assert "«Hello there»" in done.stdout
    assert "«And again»" in done.stdout
    with OpenAI(base_url=demo_server.url, api_key="any") as client:
        assert list(client.beta.assistants.list()) == []


def test_a_function_call_is_shown_and_answered_by_the_person(demo_server: ServerProcess) -> None:
    with OpenAI(base_url=demo_server.url, api_key="any") as client:
        assistant = client.beta.assistants.create(
            model="demo", tools=[{"type": "function", "function": {"name": "get_weather"}}]
        )
        done = chat(demo_server, "--assistant", assistant.id, typed="Call get_weather now\nsunny\n")
        assert done.returncode == 0, done.stderr
        assert "get_weather" in done.stdout
        assert "«sunny»" in done.stdout
        assert client.beta.assistants.delete(assistant.id).deleted


def test_no_server_is_said_in_one_line(demo_server: ServerProcess) -> None:
    done = chat(demo_server, "--base-url", "http://127.0.0.1:9/v1", typed="Hello\n")
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1


def test_without_its_key_it_says_where_one_is_given(start_server: StartServer) -> None:
    server = start_server()
    assert main(["keys", "create", "--project", "red", *server.where]) == 0
    server.terminate()
    server.restart()
    done = chat(server, typed="Hello\n")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith("Give one with --api-key or RETHREAD_API_KEY.")
