"""What a handler is given and what it gives back. No framework: ASGI is the interface."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl

from msgspec import Struct
from msgspec.json import encode

from rethread.blobs import Blobs
from rethread.contract import ModelObject
from rethread.http.stopping import Stop
from rethread.runs.commands import Asking, Dispatch, Started
from rethread.store.answers import Answer
from rethread.store.database import Database, Statement
from rethread.store.events import EventLog
from rethread.store.wakeups import Wakeup
from rethread.tools.file_search.resources import Owner
from rethread.tools.file_search.search import Search

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

OnActiveRun = Literal["reject", "wait", "retry"]


class Options(NamedTuple):
    """The settings that the edge heeds."""

    max_body_bytes: int = 64 * 1024 * 1024
    max_file_bytes: int = 512 * 1024 * 1024
    max_upload_bytes: int = 8 * 1024 * 1024 * 1024
    ignore_unknown_fields: bool = False
    allow_anonymous: bool = False
    on_active_run: OnActiveRun = "reject"
    active_run_wait_seconds: float = 60
    poll_hold_seconds: float = 20
    keep_alive_seconds: float = 15
    run_expiry_seconds: int = 600


class Services(NamedTuple):
    """The parts that handlers call."""

    db: Database
    blobs: Blobs
    log: EventLog
    search: Search
    dispatch: Dispatch
    list_models: Callable[[], Awaitable[list[ModelObject]]]
    find_alias: Callable[[str], ModelObject | None]  # also by a pattern, which no list shows
    check_ready: Callable[[], Awaitable[Mapping[str, Any]]]
    clock: Callable[[], float]
    process: bytes  # names this process among all that share the database, now or later
    stop: Stop
    options: Options
    embedder: str = ""  # the name of what makes the vectors of new vector stores

    async def wait(self, wakeup: Wakeup, *, timeout_seconds: float) -> None:
        """Return when the topic was notified, or it is time to look again whether it was.

        Also when time ran out, or the stop has come a step on.
        """
        patience = min(timeout_seconds, self.db.look_again_seconds or timeout_seconds)
        await self.stop.wait(wakeup, timeout_seconds=patience)


class StreamPlace(Struct, frozen=True):
    """Where a stream begins: behind the event of that number; and what it shows of searches."""

    thread_id: str
    run_id: str
    after: int
    with_content: bool = False


class Reply(NamedTuple):
    """A whole answer."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"


class Stream(NamedTuple):
    """An answer that is sent piece by piece, as server-sent events of the run at `place`."""

    frames: AsyncGenerator[bytes]
    place: StreamPlace
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Download(NamedTuple):
    """An answer of bytes that are sent as they are read."""

    pieces: AsyncGenerator[bytes]
    size: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/octet-stream"


Response = Reply | Stream | Download
Handler = Callable[["Request"], Awaitable[Response]]


class Request:
    """One request, past the guard: its key is good, and its body whole or still `arriving`."""

    __slots__ = (
        "arriving",
        "body",
        "find_first_answer",
        "fingerprint",
        "headers",
        "idempotency_key",
        "now",
        "path_params",
        "project",
        "query_string",
        "remembers",
        "services",
    )

    def __init__(self, services: Services, scope: Scope, path_params: dict[str, str]) -> None:
        self.services = services
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.query_string: str = scope["query_string"].decode("latin-1")
        self.path_params = path_params
        self.now = int(services.clock())
        self.project = ""
        self.body = b""
        self.arriving: AsyncIterator[bytes] | None = None
        self.find_first_answer: Callable[[bytes], Awaitable[Response | None]] | None = None
        self.fingerprint: bytes | None = None
        self.idempotency_key: str | None = None
        self.remembers: Callable[[Answer], Statement] | None = None

    @property
    def db(self) -> Database:
        """The store."""
        return self.services.db

    @property
    def owner(self) -> Owner:
        """Whose vector stores are made."""
        return Owner(self.db, self.project, self.services.embedder, self.now)

    @property
    def mark(self) -> bytes | None:
        """What a row remembers of the request that made it: its fingerprint, and our process."""
        return None if self.fingerprint is None else self.fingerprint + self.services.process

    @property
    def asking(self) -> Asking:
        """Who asks, and when."""
        embedder = self.services.embedder
        return Asking(self.project, self.now, self.mark, self.is_retry, embedder)

    @property
    def is_retry(self) -> bool:
        """Whether the client says that it has sent the same before, as stock SDKs do."""
        count = self.header(b"x-stainless-retry-count") or ""
        return count.isascii() and count.isdigit() and int(count[:4]) > 0

    async def first_answer(self, content: bytes) -> Response | None:
        """For a body that was still arriving: what its idempotency key has had as an answer.

        `content` says in short what the body was, so that another one under this key is refused.
        """
        return await self.find_first_answer(content) if self.find_first_answer else None

    def header(self, name: bytes) -> str | None:
        """A header by its lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def query(self) -> list[tuple[str, str]]:
        """The query's names and values, in order."""
        return parse_qsl(self.query_string, keep_blank_values=True)

    def also(self, body: bytes) -> list[Statement]:
        """What is to be written along with a JSON answer: nothing, or the idempotency key's."""
        if self.remembers is None or self.fingerprint is None:
            return []
        return [self.remembers(Answer(self.fingerprint, "json", body))]

    def also_started(
        self, *, is_stream: bool, with_content: bool = False
    ) -> Callable[[Started], list[Statement]]:
        """The same for what was started: a stream's answer names the run and where it begins."""

        def also(started: Started) -> list[Statement]:
            if self.remembers is None or self.fingerprint is None:
                return []
            if not is_stream:
                return self.also(started.body)
            run = started.run
            place = StreamPlace(run.thread_id, run.id, started.after, with_content)
            return [self.remembers(Answer(self.fingerprint, "stream", encode(place)))]

        return also
