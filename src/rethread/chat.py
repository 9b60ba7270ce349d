"""`rethread chat`: an assistant in the terminal, through the public API like any client.

Knows nothing of this server's insides, so it also talks to any other Assistants API.
Lines go in and text comes out; with a pipe as its input it prints no prompts.
Ctrl-C stops an answer; at the prompt it leaves, as Ctrl-D does.
Synchronous, as a terminal is, and so on the standard library's HTTP client.
"""

import base64
import contextlib
import http.client
import importlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from rethread import __version__
from rethread.errors import RethreadError, Unavailable
from rethread.proxies import proxy_to

HELP: Final = """\
/new    start a new thread
/help   this list
/quit   leave (as Ctrl-D does)
Ctrl-C stops an answer."""

# A stream is kept alive every 15 seconds; a write may be held for a minute by a busy thread.
TIMEOUT_SECONDS: Final = 120
CONNECT_SECONDS: Final = 10
CANCEL_SECONDS: Final = 10
AT_REST: Final = frozenset({"completed", "failed", "cancelled", "expired", "incomplete"})
INSTRUCTIONS: Final = "You are a helpful assistant."

# What a model writes must not steer the terminal.
CONTROLS: Final = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
PRINTABLE: Final = {code: None for code in CONTROLS if chr(code) not in "\n\t"}


class ApiError(RethreadError):
    """The server answered with an error; the message is its own."""


def chat(
    base_url: str,
    api_key: str | None,
    *,
    model: str | None = None,
    assistant_id: str | None = None,
    instructions: str | None = None,
) -> int:
    """Talk until the input ends; 0, or a RethreadError where it cannot begin."""
    _prepare_input()
    headers = {"OpenAI-Beta": "assistants=v2", "User-Agent": f"rethread-chat/{__version__}"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    api = Api(base_url.rstrip("/"), headers)
    with contextlib.ExitStack() as on_leaving:
        if assistant_id is None:
            asked = {"model": model or _first_model(api), "name": "rethread chat"}
            asked["instructions"] = instructions or INSTRUCTIONS
            assistant = api.call("POST", "/assistants", asked)
            on_leaving.callback(_forget, api, assistant["id"])
            overrides: dict[str, Any] = {}
        else:
            assistant = api.call("GET", f"/assistants/{assistant_id}")
            overrides = {"model": model, "instructions": instructions}
        conversation = Conversation(api, assistant["id"], _present(overrides))
        conversation.renew()
        _note(f"{model or assistant['model']} at {base_url}; /help lists the commands.")
        _converse(conversation)
    return 0


def _first_model(api: "Api") -> str:
    models = api.call("GET", "/models")["data"]
    if not models:
        raise ApiError("The server lists no model; name one with --model.")
    return str(models[0]["id"])


def _forget(api: "Api", assistant_id: str) -> None:
    with contextlib.suppress(RethreadError):  # leaving anyway
        api.call("DELETE", f"/assistants/{assistant_id}")


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _converse(conversation: "Conversation") -> None:
    while (line := _ask("you> ")) is not None:
        match line.strip():
            case "":
                continue
            case "/quit" | "/exit":
                return
            case "/help":
                print(HELP)
            case "/new":
                _attempt(conversation.renew)
                _note("A new thread.")
            case text if text.startswith("/") and " " not in text:
                _note(f"No command {text}; /help lists them.")
            case text:
                _attempt(conversation.say, text)


def _attempt(step: Callable[..., None], *arguments: object) -> None:
    """One step of the conversation, which an error ends but the conversation survives."""
    try:
        step(*arguments)
    except RethreadError as error:
        print(f"error: {_printable(error.message)}", file=sys.stderr, flush=True)


# The API


@dataclass(frozen=True)
class Api:
    """Calls of the Assistants API: ApiError when it says no, Unavailable when it doesn't answer."""

    base_url: str
    headers: Mapping[str, str]

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The object that the API answers with."""
        with self._answer(method, path, body) as answer:
            content = answer.read()
        try:
            return json.loads(content)
        except ValueError as error:
            raise ApiError(f"{self.base_url}{path} did not answer with JSON.") from error

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The events of a streamed call, each with its name, up to `done`."""
        with self._answer("POST", path, {**body, "stream": True}) as answer:
            for name, content in _events(answer):
                if name == "done":
                    return
                yield name, json.loads(content)
        raise Unavailable("The stream ended in the middle of an answer.")

    @contextlib.contextmanager
    def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> Iterator[http.client.HTTPResponse]:
        try:
            connection, prefix, extra = _connection(urlsplit(self.base_url))
            with contextlib.closing(connection):
                connection.connect()
                connection.sock.settimeout(TIMEOUT_SECONDS)
                content = None if body is None else json.dumps(body)
                headers = {"Content-Type": "application/json", **self.headers, **extra}
                connection.request(method, prefix + path, content, headers)
                with connection.getresponse() as answer:
                    self._check(answer, path)
                    yield answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            said = str(error) or type(error).__name__
            if isinstance(error, ConnectionRefusedError):
                said += "; is `rethread serve` running?"
            raise Unavailable(f"Cannot talk to {self.base_url}: {said}") from error

    def _check(self, answer: http.client.HTTPResponse, path: str) -> None:
        if 200 <= answer.status < 300:
            return
        with contextlib.suppress(ValueError, KeyError, TypeError):
            message = str(json.loads(answer.read())["error"]["message"])
            if answer.status == 401:
                message += " Give one with --api-key or RETHREAD_API_KEY."
            raise ApiError(message)
        raise ApiError(f"{self.base_url}{path} answered {answer.status}.")


def _connection(base: SplitResult) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """One for each call, as a person is slow; with what goes before the path, and into the headers,
    where a proxy is asked for it.
    """
    if base.scheme not in ("http", "https") or not base.hostname:
        meant = "" if "://" in base.geturl() else "; is http:// missing in front of it?"
        raise ValueError(f"not an http(s) URL{meant}")
    secure = base.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    proxy = urlsplit(proxy_to(base.geturl()) or "")
    if not proxy.hostname:
        return kind(base.hostname, base.port, timeout=CONNECT_SECONDS), base.path, {}
    if proxy.scheme != "http":
        raise ValueError(f"a proxy that is asked over {proxy.scheme} is not supported")
    known: dict[str, str] = {}
    if proxy.username is not None:
        user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        known["Proxy-Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    connection = kind(proxy.hostname, proxy.port or 80, timeout=CONNECT_SECONDS)
    if not secure:
        return connection, base.geturl(), known
    connection.set_tunnel(base.hostname, base.port, known)
    return connection, base.path, {}


def _events(lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """The server-sent events with their names."""
    name, content = "message", list[str]()
    for line in lines:
        match line.decode().rstrip("\r\n").partition(":"):
            case "event", _, value:
                name = value.strip()
            case "data", _, value:
                content.append(value.removeprefix(" "))
            case "", "", _:
                if content:
                    yield name, "\n".join(content)
                name, content = "message", []


# The conversation


@dataclass
class Conversation:
    """One assistant and its present thread."""

    api: Api
    assistant_id: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    thread_id: str = ""

    def renew(self) -> None:
        """Begin an empty thread."""
        self.thread_id = self.api.call("POST", "/threads", {})["id"]

    def say(self, text: str) -> None:
        """Send a message and print the answer as it comes; Ctrl-C cancels it."""
        path = f"/threads/{self.thread_id}"
        try:
            self.api.call("POST", f"{path}/messages", {"role": "user", "content": text})
            asked = {"assistant_id": self.assistant_id, **self.overrides}
            run = self._follow(f"{path}/runs", asked)
            while run is not None:
                outputs = _outputs(run)
                if outputs is None:
                    self._cancel()
                    return
                submission = f"{path}/runs/{run['id']}/submit_tool_outputs"
                run = self._follow(submission, {"tool_outputs": outputs})
        except KeyboardInterrupt:
            print()
            self._cancel()

    def _follow(self, path: str, body: Mapping[str, Any]) -> Any | None:
        """Print a streamed run; the run itself where it waits for tool outputs."""
        waiting = None
        for name, thing in self.api.events(path, body):
            if name == "thread.message.delta":
                print(_printable(_text(thing)), end="", flush=True)
            elif name in ("thread.message.completed", "thread.message.incomplete"):
                print(flush=True)
            elif name == "thread.run.requires_action":
                waiting = thing
            else:
                _report(name, thing)
        return waiting

    def _cancel(self) -> None:
        """Stop the newest run, and wait until the thread is free for the next message."""
        runs = f"/threads/{self.thread_id}/runs"
        newest = self.api.call("GET", f"{runs}?limit=1")["data"]
        if not newest or newest[0]["status"] in AT_REST:
            return
        with contextlib.suppress(ApiError):  # it came to rest by itself meanwhile
            self.api.call("POST", f"{runs}/{newest[0]['id']}/cancel")
        give_up = time.monotonic() + CANCEL_SECONDS
        while time.monotonic() < give_up:
            run = self.api.call("GET", f"{runs}/{newest[0]['id']}")
            if run["status"] in AT_REST:
                _note("Stopped.")
                return
            time.sleep(0.1)
        raise Unavailable("The run has not stopped yet.")


def _text(delta: Mapping[str, Any]) -> str:
    parts = delta["delta"].get("content") or []
    return "".join(
        (part.get("text") or {}).get("value") or part.get("refusal") or "" for part in parts
    )


def _report(name: str, thing: Mapping[str, Any]) -> None:
    """Say how a run went wrong; the other events are of no interest here."""
    if name == "thread.run.failed":
        raise ApiError((thing.get("last_error") or {}).get("message") or "The run failed.")
    if name == "thread.run.incomplete":
        reason = (thing.get("incomplete_details") or {}).get("reason") or "no reason given"
        raise ApiError(f"The answer is incomplete: {reason}.")
    if name in ("thread.run.expired", "thread.run.cancelled"):
        raise ApiError(f"The run was {name.rpartition('.')[2]}.")
    if name == "error":
        raise ApiError(str((thing.get("error") or thing).get("message") or "The stream failed."))


def _outputs(run: Mapping[str, Any]) -> list[dict[str, str]] | None:
    """What the user says each function returns; None when the input has ended."""
    outputs = []
    for call in run["required_action"]["submit_tool_outputs"]["tool_calls"]:
        function = call["function"]
        print(_printable(f"-> {function['name']}({_one_line(function['arguments'])})"), flush=True)
        output = _ask("output> ", leaves=False)
        if output is None:
            return None
        outputs.append({"tool_call_id": call["id"], "output": output})
    return outputs


def _one_line(arguments: str) -> str:
    with contextlib.suppress(ValueError):
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    return " ".join(arguments.split())


# The terminal


def _prepare_input() -> None:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # odd bytes must not end the conversation
    if _is_terminal():
        with contextlib.suppress(ImportError):  # not every Python has it
            importlib.import_module("readline")  # gives `input` its line editing


def _ask(prompt: str, *, leaves: bool = True) -> str | None:
    """A line of the input; None at its end, or at Ctrl-C where that `leaves`."""
    try:
        return input(prompt if _is_terminal() else "")
    except EOFError:
        if _is_terminal():
            print()
        return None
    except KeyboardInterrupt:
        if not leaves:
            raise
        print()
        return None


def _note(text: str) -> None:
    """A word about the chat itself: for people only."""
    if _is_terminal():
        print(_printable(text), flush=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _printable(text: str) -> str:
    return text.translate(PRINTABLE)
