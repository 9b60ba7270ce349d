"""API keys: made, listed and revoked on the command line, and what they open."""

import subprocess
import sys
from pathlib import Path

import pytest
from openai import AuthenticationError, NotFoundError, OpenAI

from tests.conftest import StartServer
from tests.server import ServerProcess, wait_until


def rethread(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rethread", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def made(server: ServerProcess, project: str) -> str:
    """The secret of a new key."""
    done = rethread("keys", "create", "--project", project, *server.where)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def client(server: ServerProcess, secret: str) -> OpenAI:
    return OpenAI(base_url=server.url, api_key=secret, max_retries=0)


def until_refused(one: OpenAI) -> None:
    """Wait for the key to be refused: the server looks keys up once in a while."""

    def is_refused() -> bool:
        try:
            one.beta.assistants.list()
        except AuthenticationError:
            return True
        return False

    wait_until(is_refused)


def test_a_key_opens_its_project_only_until_it_is_revoked(start_server: StartServer) -> None:
    server = start_server()
    red, blue = made(server, "red"), made(server, "blue")
    with client(server, red) as mine, client(server, blue) as theirs:
        with client(server, "sk-of-nobody") as nobody:
            until_refused(nobody)
        assistant = mine.beta.assistants.create(model="demo", instructions="Hello")
        run = mine.beta.threads.create_and_run_poll(assistant_id=assistant.id)
        message = mine.beta.threads.messages.list(run.thread_id).data[0]
        file = mine.files.create(file=("a.txt", b"ours"), purpose="assistants")
        upload = mine.uploads.create(
            bytes=1, filename="a", mime_type="text/plain", purpose="assistants"
        )
        theirs.files.create(file=("b.txt", b"ours"), purpose="assistants")  # kept once
        threads = theirs.beta.threads
        for hidden in (
            lambda: theirs.beta.assistants.retrieve(assistant.id),
            lambda: theirs.files.retrieve(file.id),
            lambda: theirs.files.content(file.id),
            lambda: theirs.files.delete(file.id),
            lambda: theirs.uploads.parts.create(upload.id, data=b"1"),
            lambda: theirs.uploads.cancel(upload.id),
            lambda: threads.retrieve(run.thread_id),
            lambda: threads.messages.retrieve(message.id, thread_id=run.thread_id),
            lambda: threads.messages.list(run.thread_id),
            lambda: threads.runs.retrieve(run.id, thread_id=run.thread_id),
            lambda: threads.runs.create(run.thread_id, assistant_id=assistant.id),
            lambda: threads.delete(run.thread_id),
        ):
            with pytest.raises(NotFoundError):
                hidden()
        assert list(theirs.beta.assistants.list()) == []
        listed = rethread("keys", "list", *server.where).stdout
        [key_id] = [line.split()[0] for line in listed.splitlines() if "red" in line.split()]
        assert red not in listed
        assert rethread("keys", "revoke", key_id, *server.where).returncode == 0
        until_refused(mine)
        assert len(theirs.beta.assistants.list().data) == 0
    assert not [line for line in server.log if red in line or blue in line]
    stored = b"".join(path.read_bytes() for path in server.data_dir.glob("rethread.sqlite3*"))
    assert red.encode() not in stored


def test_what_others_can_reach_needs_a_key(tmp_path: Path) -> None:
    serve = ("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path / "data"))
    refused = rethread(*serve)
    assert refused.returncode == 2
    [line] = refused.stderr.splitlines()
    assert "rethread keys create --project NAME" in line
    assert "--allow-anonymous" in line
