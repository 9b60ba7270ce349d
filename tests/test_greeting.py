"""What `rethread serve` prints when it starts is true: the lines to try hold a conversation."""

import subprocess
import sys

from tests.conftest import StartServer
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import text
from tests.server import ServerProcess


def lines_to_try(server: ServerProcess) -> list[str]:
    """The indented lines of what was printed so far."""
    server.wait_for_log("listening")  # the first log line comes after the whole greeting
    return [line.strip() for line in server.log if line.startswith("    ")]


def said_by(lines: list[str]) -> str:
    """What the lines print in a Python of their own."""
    return subprocess.check_output(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", "\n".join(lines)],
        text=True,
        timeout=60,
    )


def test_the_three_lines_hold_a_conversation_with_the_demo_model(
    start_server: StartServer,
) -> None:
    lines = lines_to_try(start_server())
    assert len(lines) == 3
    assert "You said: «Hello!»." in said_by(lines)


def test_the_three_lines_name_a_model_that_the_upstream_has(
    start_server: StartServer, model_server: ModelServer
) -> None:
    model_server.replies.append(text("Hello, ", "too."))
    server = start_server("--upstream", model_server.url)
    lines = lines_to_try(server)
    assert f"model server         {model_server.url}\n" in server.log
    assert said_by(lines) == "Hello, too.\n"


def test_code_without_a_sandbox_is_warned_of(start_server: StartServer) -> None:
    server = start_server("--sandbox", "none", "--code-warm", "1")
    server.wait_for_log("warning code can be run sandbox=none")
    assert any(line.startswith("code                 WITHOUT A SANDBOX") for line in server.log)


def test_the_lines_ask_for_a_key_where_one_is_needed(start_server: StartServer) -> None:
    server = start_server()
    assert 'api_key="any"' in lines_to_try(server)[0]
    made = server.new_key("first")
    server.terminate()
    server.restart()
    lines = lines_to_try(server)
    assert "keys                 needed (rethread keys create --project NAME)\n" in server.log
    assert 'api_key="YOUR_KEY"' in lines[0]
    assert "You said" in said_by([line.replace("YOUR_KEY", made) for line in lines])
