"""What every request passes: its id, its key, the beta header, its size, idempotency.

A plain ASGI callable around the routes, so that streams pass untouched. Writes the request's
one log line: never what was said, never a key.
"""

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

import msgspec

from rethread.contract.uploads import MAX_PART_BYTES
from rethread.errors import Invalid, KeyReused, Raced, RethreadError, ThreadLocked, shortened
from rethread.http import refusals, runs
from rethread.http.body import Arriving, ClientGone, drain, read_body
from rethread.http.deliveries import Connection, Deliveries
from rethread.http.explain import listed
from rethread.http.keys import KeyRing
from rethread.http.request import (
    Download,
    OnActiveRun,
    Receive,
    Reply,
    Request,
    Response,
    Scope,
    Send,
    Services,
    Stream,
    StreamPlace,
)
from rethread.http.routes import Route, Router
from rethread.http.stream import follow
from rethread.runs.commands import rest_topic
from rethread.store import answers, repeats
from rethread.store.answers import Answer
from rethread.store.events import check_kept

logger = logging.getLogger("rethread.request")

MOST_RACES: Final = 10  # a write that is refused so often for no lasting reason is given up
KEY_LENGTH: Final = 255
MOST_FORM_BYTES: Final = 1024 * 1024  # what a form may have beside its file
ON_ACTIVE_RUN: Final[dict[str, OnActiveRun]] = {
    "reject": "reject",
    "wait": "wait",
    "retry": "retry",
}


class Exchange:
    """One request and its answer, as the log line tells of it."""

    def __init__(self, scope: Scope) -> None:
        self.id = f"req_{os.urandom(16).hex()}"
        self.started = time.perf_counter()
        self.scope = scope
        self.connection: Connection = tuple(scope.get("client") or ("", 0))
        self.arriving: Arriving | None = None
        self.status = 0
        self.project = ""

    def milliseconds(self) -> float:
        """Time since the request came, in milliseconds."""
        return (time.perf_counter() - self.started) * 1000


class Guard:
    """The application: an ASGI callable."""

    def __init__(self, services: Services, keys: KeyRing, deliveries: Deliveries) -> None:
        self._services = services
        self._keys = keys
        self._deliveries = deliveries
        self._router = Router()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope)
        self._deliveries.asked(exchange.connection)
        try:
            response = await self._answer(exchange, receive)
            await self._send(exchange, response, receive, send)
        except (ClientGone, asyncio.CancelledError):
            # Cancelled is only what is cut off at the end of a stop: its client is gone too.
            exchange.status = exchange.status or 499
        except RethreadError as problem:
            # Of a stream that has begun: that it breaks off is all that its client can be told.
            fields = {"request_id": exchange.id, "problem": problem.message}
            logger.warning("stream broken off", extra={"fields": fields})
        finally:
            _log(exchange)

    async def _answer(self, exchange: Exchange, receive: Receive) -> Response:
        scope = exchange.scope
        method, path = scope["method"], scope["path"]
        match = self._router.match(scope["raw_path"])
        if match is None:
            return refusals.no_such_path(method, path)
        route = match.by_method.get(method)
        if route is None:
            return refusals.no_such_method(method, path, sorted(match.by_method))
        request = Request(self._services, scope, match.path_params)
        try:
            if route.is_beta:
                refusals.check_beta(request.header(b"openai-beta"))
            if route.needs_key:
                request.project = await self._keys.project(request.headers)
                exchange.project = request.project
            if method != "POST":
                return await route.handler(request)
            if route.streams_body:
                return await self._answer_arriving(exchange, request, route, receive)
            limit = self._services.options.max_body_bytes
            request.body = await read_body(scope, receive, limit=limit)
            return await self._answer_post(exchange, request, route)
        except ClientGone:
            raise
        except RethreadError as problem:
            return refusals.refusal(problem)
        except Exception:
            logger.exception("request failed", extra={"fields": {"request_id": exchange.id}})
            return refusals.fault(exchange.id)

    async def _answer_post(self, exchange: Exchange, request: Request, route: Route) -> Response:
        """Answer once: what came before with the same key, or is sent again, is not done again."""
        fingerprint = request.fingerprint = _fingerprint(request, exchange.scope, request.body)
        _check_wish(request.header(b"rethread-on-active-run"))
        key = request.idempotency_key = _heed_key(request)
        if key and (first := await self._first_answer(request)):
            return first
        # Elsewhere an equal request may be another user's, so it is not compared with any.
        is_in_thread = "thread_id" in request.path_params
        if not key and is_in_thread and request.is_retry:
            if lost := await self._lost_answer(request, route):
                self._gave(exchange, fingerprint, lost)
                return lost
            if not self._deliveries.is_open(exchange.connection):
                raise ClientGone("The client went away; it may have come again already.")
        if not is_in_thread:
            return await self._handle(request, route)
        self._deliveries.begin(fingerprint)
        try:
            response = await self._handle(request, route)
            self._gave(exchange, fingerprint, response)
            return response
        finally:
            self._deliveries.end(fingerprint)

    async def _answer_arriving(
        self, exchange: Exchange, request: Request, route: Route, receive: Receive
    ) -> Response:
        """Answer a body that the handler reads: what it repeats is known behind its end only."""

        async def first_answer(content: bytes) -> Response | None:
            request.fingerprint = _fingerprint(request, exchange.scope, content)
            return await self._first_answer(request) if request.idempotency_key else None

        request.idempotency_key = _heed_key(request)
        request.find_first_answer = first_answer
        limit = max(self._services.options.max_file_bytes, MAX_PART_BYTES) + MOST_FORM_BYTES
        exchange.arriving = Arriving(exchange.scope, receive, limit=limit)
        request.arriving = exchange.arriving.pieces()
        try:
            return await route.handler(request)
        except RethreadError:
            # The first request with this key may have been under way with this one.
            has_ended = request.idempotency_key and request.fingerprint
            if has_ended and (first := await self._first_answer(request)):
                return first
            raise

    def _gave(self, exchange: Exchange, fingerprint: bytes, response: Response) -> None:
        """Remember an answer that may not arrive; a refusal has made nothing to be found again."""
        if isinstance(response, Stream):
            place = msgspec.json.encode(response.place)
            self._deliveries.gave(exchange.connection, fingerprint, "stream", place)
        elif isinstance(response, Reply) and response.status == 200:
            self._deliveries.gave(exchange.connection, fingerprint, "json", response.body)

    async def _handle(self, request: Request, route: Route) -> Response:
        """The handler's answer; once more when a write was refused for a reason that has gone."""
        waiting_until = time.monotonic() + self._services.options.active_run_wait_seconds
        races = 0
        while True:
            try:
                return await route.handler(request)
            except RethreadError as problem:
                # The same key's first request, under way with this one, may be what stood in
                # its way: a write that was refused, a thread or a run that has moved.
                if request.remembers and (first := await self._first_answer(request)):
                    return first
                if isinstance(problem, ThreadLocked):
                    if answer := await self._while_locked(request, problem, waiting_until):
                        return answer
                    continue
                races += 1
                if not isinstance(problem, Raced) or races == MOST_RACES:
                    raise

    async def _while_locked(
        self, request: Request, locked: ThreadLocked, waiting_until: float
    ) -> Response | None:
        """What a locked thread means to this client: the 400, or None after waiting for it."""
        wish = request.header(b"rethread-on-active-run") or ""
        on_active_run = ON_ACTIVE_RUN.get(wish, self._services.options.on_active_run)
        left = waiting_until - time.monotonic()
        if on_active_run == "reject" or (on_active_run == "wait" and left <= 0):
            raise locked
        # Another server lets it wait on.
        if on_active_run == "retry" or self._services.stop.is_grace_over:
            answer = refusals.refusal(locked)
            return answer._replace(headers=(refusals.RETRY,))
        with request.db.listen(rest_topic(locked.run_id)) as wakeup:
            if await repeats.holds_thread(request.db, locked.run_id, request.path_params):
                await self._services.wait(wakeup, timeout_seconds=left)
        # What is written now was not written when it was asked for.
        request.now = int(self._services.clock())
        return None

    async def _first_answer(self, request: Request) -> Response | None:
        """The answer that the idempotency key stands for; KeyReused for another request."""
        key = request.idempotency_key or ""
        answer = await answers.get(request.db, request.project, key, now=request.now)
        if answer is None:
            return None
        if answer.request != request.fingerprint:
            raise KeyReused(
                f"The Idempotency-Key '{key}' was used before with another request. A key stands "
                "for one request for 24 hours."
            )
        return await self._again(answer)

    async def _lost_answer(self, request: Request, route: Route) -> Response | None:
        """The answer to the same bytes, if it may never have reached the client."""
        fingerprint = request.fingerprint or b""
        given = await self._deliveries.lost(fingerprint)
        if given is not None:
            return await self._again(Answer(fingerprint, given.kind, given.body))
        # What another process has answered, or this one before it was started, stands in the store.
        found = await repeats.find(
            request.db,
            request.project,
            route.path,
            request.path_params["thread_id"],
            request.mark or b"",
            now=request.now,
        )
        if found is None:
            return None
        if found.run_id and b'"stream":true' in request.body.replace(b" ", b""):
            return follow(self._services, found.thread_id, found.run_id, after=0)
        return runs.reply_again(found.body)

    async def _again(self, answer: Answer) -> Response:
        if answer.kind == "json":
            return runs.reply_again(bytes(answer.body))
        place = msgspec.json.decode(answer.body, type=StreamPlace)
        await check_kept(self._services.db, place.thread_id, place.run_id)
        return follow(
            self._services,
            place.thread_id,
            place.run_id,
            after=place.after,
            with_content=place.with_content,
        )

    async def _send(
        self, exchange: Exchange, response: Response, receive: Receive, send: Send
    ) -> None:
        headers = [
            (b"x-request-id", exchange.id.encode()),
            (b"openai-processing-ms", b"%d" % exchange.milliseconds()),
            (b"openai-version", b"2020-10-01"),
            (b"openai-organization", b"rethread"),
            (b"openai-project", exchange.project.encode("latin-1", "replace") or b"default"),
            *response.headers,
        ]
        if not isinstance(response, Reply):
            exchange.status = 200
            await _send_pieces(headers, response, receive, send)
            return
        exchange.status = response.status
        is_cut_short = response.status == 413
        if exchange.arriving and not exchange.arriving.is_whole:
            is_cut_short = True
            headers += [] if refusals.CLOSE in headers else [refusals.CLOSE]
        headers.append((b"content-type", response.content_type))
        headers.append((b"content-length", b"%d" % len(response.body)))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if is_cut_short:
            await send({"type": "http.response.body", "body": response.body, "more_body": True})
            await drain(receive)
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.body", "body": response.body})


async def _send_pieces(
    headers: list[tuple[bytes, bytes]], response: Stream | Download, receive: Receive, send: Send
) -> None:
    """Send piece by piece to the end or until the client goes; what it is about goes on."""
    if isinstance(response, Stream):
        pieces = response.frames
        headers.append((b"content-type", b"text/event-stream; charset=utf-8"))
    else:
        pieces = response.pieces
        headers.append((b"content-type", response.content_type))
        headers.append((b"content-length", b"%d" % response.size))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    sending = asyncio.ensure_future(_send_all(pieces, send))
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, gone):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
    if not sending.cancelled():
        sending.result()


async def _send_all(pieces: AsyncGenerator[bytes], send: Send) -> None:
    async with aclosing(pieces):
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _fingerprint(request: Request, scope: Scope, body: bytes) -> bytes:
    """What makes a request the same request: who, where to, and every byte of it."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (request.project.encode(), scope["raw_path"], scope["query_string"]):
        digest.update(b"%d:" % len(part) + part)
    digest.update(body)
    return digest.digest()


def _check_wish(wish: str | None) -> None:
    if wish and wish not in ON_ACTIVE_RUN:
        raise Invalid(
            f"Invalid value: '{shortened(wish)}'. "
            f"Supported values are: {listed(tuple(ON_ACTIVE_RUN))}.",
            param="Rethread-On-Active-Run",
            code="invalid_value",
        )


def _heed_key(request: Request) -> str | None:
    """The idempotency key, if there is one; then what is answered will be remembered with it."""
    key = request.header(b"idempotency-key")
    if not key:
        return None
    if len(key) > KEY_LENGTH:
        raise Invalid(
            f"Invalid 'Idempotency-Key': string too long. Expected a string with maximum length "
            f"{KEY_LENGTH}, but got a string with length {len(key)} instead.",
            param="Idempotency-Key",
            code="string_above_max_length",
        )
    request.remembers = lambda answer: answers.adding(request.project, key, answer, now=request.now)
    return key


def _log(exchange: Exchange) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    scope = exchange.scope
    fields = {
        "request_id": exchange.id,
        "method": scope["method"],
        "path": scope["path"],
        "status": exchange.status,
        "milliseconds": round(exchange.milliseconds(), 1),
        "project": exchange.project,
    }
    logger.info("request", extra={"fields": fields})
