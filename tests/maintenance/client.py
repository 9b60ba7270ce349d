"""A client that writes without pause and knows what it was told is stored."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.server import ServerProcess


class Client:
    """One connection to a server."""

    def __init__(self, server: ServerProcess, *, key: str = "any") -> None:
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

    def get(self, path: str) -> bytes:
        """The body of what stands under the path."""
        return self.ask("GET", path)

    def post(self, path: str, body: Any) -> Any:
        """The object that was made."""
        return json.loads(self.ask("POST", path, json.dumps(body)))

    def list(self, path: str) -> list[Any]:
        """The objects of a list of at most 100."""
        listed = json.loads(self.get(f"{path}?limit=100&order=asc"))
        assert not listed["has_more"]
        return list(listed["data"])

    def everything(self) -> dict[str, bytes]:
        """What each path gives that leads to something, from the lists on downwards."""
        paths = ["/assistants?limit=100", "/threads?limit=100"]
        paths += [f"/assistants/{each['id']}" for each in self.list("/assistants")]
        for thread in self.list("/threads"):
            at = f"/threads/{thread['id']}"
            messages, runs = self.list(f"{at}/messages"), self.list(f"{at}/runs")
            paths += [at, f"{at}/messages", f"{at}/runs"]
            paths += [f"{at}/messages?limit=2&after={each['id']}" for each in messages]
            paths += [f"{at}/messages/{each['id']}" for each in messages]
            for run in runs:
                of_run = f"{at}/runs/{run['id']}"
                paths += [of_run, f"{of_run}/steps", f"{of_run}/events"]
                paths += [f"{of_run}/steps/{each['id']}" for each in self.list(f"{of_run}/steps")]
        return {path: self.get(path) for path in paths}

    def ask(self, method: str, path: str, body: str | None = None, **more_headers: str) -> bytes:
        """The body of the answer, which must be a good one."""
        headers = self._headers | more_headers
        self._connection.request(method, f"/v1{path}", body=body, headers=headers)
        answer = self._connection.getresponse()
        answered = answer.read()
        assert answer.status == 200, answered
        return answered

    def close(self) -> None:
        """Let go."""
        self._connection.close()


class Writing:
    """Messages that are added to one thread, one after the other, until told to stop."""

    def __init__(self, server: ServerProcess) -> None:
        self._client = Client(server)
        self.thread_id: str = self._client.post("/threads", {})["id"]
        self.acknowledged: list[str] = []
        self._stopping = threading.Event()
        self._has_written = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def wait_for_more(self) -> None:
        """Return after a message that was not acknowledged yet when this began."""
        self._has_written.clear()
        assert self._has_written.wait(timeout=30)

    def stop(self) -> None:
        """Return when the last message is acknowledged."""
        self._stopping.set()
        self._thread.join()
        self._client.close()

    def _write(self) -> None:
        while not self._stopping.is_set():
            asked = {"role": "user", "content": f"{len(self.acknowledged)} " + "x" * 2000}
            made = self._client.post(f"/threads/{self.thread_id}/messages", asked)
            self.acknowledged.append(made["id"])
            self._has_written.set()


@contextmanager
def connected(server: ServerProcess, *, key: str = "any") -> Iterator[Client]:
    """A client of the server."""
    client = Client(server, key=key)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def writing(server: ServerProcess) -> Iterator[Writing]:
    """A client that writes meanwhile."""
    client = Writing(server)
    try:
        yield client
    finally:
        client.stop()
