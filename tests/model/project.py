"""A project of a real server, spoken to in plain HTTP.

Every exchange is noted, so that hypothesis shows them, one a line, for the shortest way to a
failure. What an answer has to be is the caller's to say.
"""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import httpx2
from hypothesis import note

from tests.model.reference import Asked, Body

TIMEOUT_SECONDS: Final = 30.0
NOTED_CHARACTERS: Final = 600


class Asking(NamedTuple):
    """A POST that can be made again."""

    path: str
    body: Body
    key: str | None = None


class Answer(NamedTuple):
    """A status and a body, as they came."""

    status: int
    raw: bytes

    @property
    def body(self) -> Any:
        """The body's JSON."""
        return json.loads(self.raw)


class Project:
    """Requests with one project's key; `answered` are those that had an Idempotency-Key."""

    def __init__(self, http: httpx2.Client, url: str, secret: str) -> None:
        self._http = http
        self._url = url
        self._headers = {"authorization": f"Bearer {secret}"}
        self.answered: list[tuple[Asking, bytes]] = []

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One exchange."""
        answer = self._exchange(method, path, body, headers)
        _note(method, path, body, headers, answer)
        return answer

    def post(self, asking: Asking) -> Answer:
        """A POST; one that has a key is made twice, with one answer, and its key is then taken."""
        key = {"idempotency_key": asking.key} if asking.key else {}
        answer = self.ask("POST", asking.path, asking.body, **key)
        if answer.status == 200 and asking.key:
            again = self.ask("POST", asking.path, asking.body, **key)
            expect(again, answer)
            other = self.ask("POST", asking.path, {**asking.body, "metadata": {"o": "1"}}, **key)
            expect(other.status, 409)
            self.answered.append((asking, answer.raw))
        return answer

    def get(self, path: str, query: Mapping[str, str] | None = None, **headers: str) -> Body:
        """What there is."""
        answer = self.ask("GET", path + _query(query or {}), **headers)
        expect(answer.status, 200)
        return dict(answer.body)

    def page(self, path: str, asked: Asked, **filters: str) -> Body | None:
        """A page of a list; None where it says that a cursor names nothing."""
        answer = self.ask("GET", path + _query({**asked.query(), **filters}))
        return None if answer.status == 404 else dict(answer.body)

    def all(self, path: str) -> list[Body]:
        """A whole list, oldest first."""
        found: list[Body] = []
        while True:
            after = {"after": found[-1]["id"]} if found else {}
            page = self.get(path, {"order": "asc", "limit": "100", **after})
            found += page["data"]
            if not page["has_more"]:
                return found

    def wait_for(self, path: str, mark: bytes) -> None:
        """Return once the answer to a GET holds the mark."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while mark not in (raw := self._exchange("GET", path, None, {}).raw):
            expect(time.monotonic() < until, True, f"waiting for {mark!r} in {raw!r}")

    def together(self, askings: list[Asking]) -> list[Answer]:
        """The answers to POSTs that were made at the same time."""
        with ThreadPoolExecutor(len(askings)) as pool:
            pending = [pool.submit(self._exchange, "POST", a.path, a.body, {}) for a in askings]
            answers = [each.result(TIMEOUT_SECONDS) for each in pending]
        for asking, answer in zip(askings, answers, strict=True):
            _note("POST, at once,", asking.path, asking.body, {}, answer)
        return answers

    def _exchange(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self._http.request(
            method, self._url + path, json=body, headers={**self._headers, **sent}
        )
        return Answer(response.status_code, response.content)


def expect(actual: Any, expected: Any, about: str = "") -> None:
    """Fail with both, where they differ; `expected` may have marks in it."""
    if actual != expected:
        raise AssertionError(f"{about}\n  is       {actual!r}\n  is to be {expected!r}")


def refused(answer: Answer, status: int, words: str = "") -> None:
    """Fail unless the answer is a refusal with that status, in these words among others."""
    expect(answer.status, status, answer.raw.decode())
    if words not in answer.body["error"]["message"]:
        raise AssertionError(f"no {words!r} in {answer.raw.decode()}")


def _query(values: Mapping[str, str]) -> str:
    return f"?{httpx2.QueryParams(dict(values))}" if values else ""


def _note(method: str, path: str, body: Any, headers: Mapping[str, str], answer: Answer) -> None:
    asked = "" if body is None else f" {json.dumps(body)}"
    told = f" {dict(headers)}" if headers else ""
    shown = answer.raw.decode()[:NOTED_CHARACTERS]
    note(f"{method} {path}{asked}{told}\n    → {answer.status} {shown}")
