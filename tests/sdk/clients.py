"""Clients of the stock SDK for tests: strict, without retries, and the sync one awaited.

`Awaited` lets one test drive both clients: it is the sync client with the async one's manners.
Its calls block the loop, which is fine here: whatever answers lives elsewhere.
"""

from collections.abc import AsyncIterator, Callable, Generator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, cast

from openai import AsyncOpenAI, OpenAI

from tests.fakes.model_server import ModelServer
from tests.server import ServerProcess

TIMEOUT_SECONDS: Final = 20.0

WEATHER: Final[Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def sync_client(server: ServerProcess, **options: Any) -> OpenAI:
    """A strict client of a server."""
    return OpenAI(**_options(server, options))


def async_client(server: ServerProcess, **options: Any) -> AsyncOpenAI:
    """The same, async."""
    return AsyncOpenAI(**_options(server, options))


def awaited(client: OpenAI) -> AsyncOpenAI:
    """The sync client with the async one's manners."""
    return cast(AsyncOpenAI, _Awaited(client))


class Scripted(NamedTuple):
    """A server, the model server behind it whose answers a test scripts, and a client."""

    server: ServerProcess
    model: ModelServer
    client: OpenAI

    def asked(self, number: int = -1) -> Any:
        """The body of a call of the model; the last one's if no number says otherwise."""
        return self.model.requests[number].body

    def assistant(self, **fields: Any) -> str:
        """The id of a new assistant."""
        fields = {"model": "fake-model", **fields}
        return self.client.beta.assistants.create(**fields).id

    def thread(self, *texts: str) -> str:
        """The id of a new thread with these user messages."""
        messages: list[Any] = [{"role": "user", "content": text} for text in texts]
        return self.client.beta.threads.create(messages=messages).id


def in_short(events: Sequence[str]) -> list[str]:
    """Event names without `thread.`, a row of equal ones as one: deltas may come joined."""
    names = [name.removeprefix("thread.") for name in events]
    return [name for place, name in enumerate(names) if names[place - 1 : place] != [name]]


def _options(server: ServerProcess, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "base_url": server.url,
        "api_key": "any",
        "_strict_response_validation": True,
        "timeout": TIMEOUT_SECONDS,
        "max_retries": 0,
        **options,
    }


class _Awaited:
    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._wrapped, name)
        return partial(_Call, value) if callable(value) else _Awaited(value)


class _Call:
    def __init__(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        self._call = partial(function, *arguments, **more)

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self._call()

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self._call():
            yield item
