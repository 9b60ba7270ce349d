"""The only place that knows all parts: opens, wires and starts them, and stops in reverse.

(One noun in more than 400 lines: there are many parts, and nothing else knows two of them.)
"""

import asyncio
import logging
import os
import secrets
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import uvloop

from rethread import logs, tokens
from rethread.blobs import Blobs
from rethread.blobs.places import open_blobs
from rethread.config import Settings, check_upstream_key
from rethread.contract import ModelObject
from rethread.errors import Misconfigured, RethreadError, Unavailable
from rethread.greeting import greeting
from rethread.http.deliveries import Deliveries
from rethread.http.guard import Guard
from rethread.http.keys import KeyRing
from rethread.http.request import Options, Services
from rethread.http.server import new_server
from rethread.http.stopping import Stop, turn_away
from rethread.providers import Provider
from rethread.providers.demo import Demo
from rethread.providers.embeddings import Embedder
from rethread.runs.commands import Dispatch
from rethread.runs.engine import Engine
from rethread.signals import Stopping
from rethread.store import chunk_vectors, keys, vector_stores
from rethread.store.database import (
    FILE_NAME,
    Database,
    latest_version,
    open_database,
    version,
)
from rethread.store.events import EventLog
from rethread.store.folder import held
from rethread.store.keys import CreatedKey, KeyInfo
from rethread.store.servers import Server as Process
from rethread.supervisor import supervise
from rethread.tools.code_interpreter.sandbox import Limits, Sandbox
from rethread.tools.code_interpreter.sandbox.choosing import find_sandbox
from rethread.tools.code_interpreter.sessions import Sessions, Terms
from rethread.tools.file_search.embedding import Placed
from rethread.tools.file_search.gathering import Gathering
from rethread.tools.file_search.ingest import Library
from rethread.tools.file_search.ingesting import Ingesting
from rethread.tools.file_search.reader import Reader
from rethread.tools.file_search.search import Search
from rethread.workers import Workers

__all__ = [
    "CreatedKey",
    "KeyInfo",
    "create_key",
    "indexing",
    "list_keys",
    "revoke_key",
    "serve",
]

logger = logging.getLogger("rethread")

# A thread that has waited for the disk asks for the interpreter back. At Python's 5 ms, a busy
# event loop lets every commit and every read wait that long.
SWITCH_SECONDS: Final = 0.0005
# numpy's threads wait for each other, busily: on cores that have other work, one compares vectors
# in a tenth of the time. Read when numpy is loaded.
NUMPY: Final = {"OPENBLAS_NUM_THREADS": "1"}
FILES_A_PROCESS: Final = 8  # at once: while some are parsed, others are written


def serve(settings: Settings) -> int:
    """Serve until told to stop; the process's exit code."""
    check_upstream_key(settings)
    if settings.workers == 1:
        _set_up(settings)
        return uvloop.run(_serve(settings))
    if settings.database_url is None:
        raise Misconfigured(
            f"{settings.workers} workers need PostgreSQL, as a SQLite file has one writer: name a "
            "database with --database-url"
        )
    _set_up(settings)
    with closing(_listen(settings)) as listening:
        asyncio.run(_prepare(settings, listening))

        def stop_listening() -> None:
            turn_away(listening)
            listening.close()

        return supervise(
            settings.workers, _serve_as_one_of_many, settings, listening, on_stop=stop_listening
        )


def _serve_as_one_of_many(settings: Settings, listening: socket.socket, index: int) -> int:
    _set_up(settings)
    try:
        return uvloop.run(_serve(settings, listening, index))
    except RethreadError as problem:
        logger.error("cannot serve", extra={"fields": {"problem": problem.message}})
        return 1


def _set_up(settings: Settings) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    os.environ |= {name: value for name, value in NUMPY.items() if name not in os.environ}
    logs.set_up(format=settings.log_format, level=settings.log_level)


async def _prepare(settings: Settings, listening: socket.socket) -> None:
    """What is done and said once for all processes: refusals, the schema, the greeting."""
    async with _database(settings) as db:
        await _check_closed_to_strangers(settings, db)
        await _greet(settings, listening, db)


async def create_key(settings: Settings, *, project: str, label: str | None) -> CreatedKey:
    """Make an API key for a project."""
    async with _database(settings) as db:
        return await keys.create(db, project=project, label=label, now=int(db.now()))


async def list_keys(settings: Settings) -> list[KeyInfo]:
    """Every API key, without its secret."""
    async with _database(settings) as db:
        return await keys.list_all(db)


async def revoke_key(settings: Settings, key_id: str) -> bool:
    """Whether there was such a key in force; it is not any more."""
    async with _database(settings) as db:
        return await keys.revoke(db, key_id, now=int(db.now()))


@asynccontextmanager
async def indexing(settings: Settings) -> AsyncIterator[tuple[Database, Embedder | None]]:
    """The database, with nobody else at a SQLite one, and who makes vectors for it."""
    check_upstream_key(settings)
    async with AsyncExitStack() as stack:
        if settings.database_url is None:
            if not (settings.data_dir / FILE_NAME).exists():
                raise Misconfigured(f"there is no database in {settings.data_dir}")
            stack.enter_context(held(settings.data_dir))
        db = await stack.enter_async_context(_database(settings))
        embedder = await _embedder(settings, db)
        if embedder is not None:
            stack.push_async_callback(embedder.aclose)
        yield db, embedder


async def _serve(
    settings: Settings, shared: socket.socket | None = None, index: int | None = None
) -> int:
    """Serve until told to stop; on a socket that others serve too, or on one of its own."""
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        if settings.database_url is None:
            # A second server on one SQLite file would drive runs twice.
            stack.enter_context(held(settings.data_dir))
        db = await stack.enter_async_context(_database(settings))
        await _check_closed_to_strangers(settings, db)
        blobs = open_blobs(settings.data_dir, settings.files)
        stack.push_async_callback(blobs.close)
        provider = _provider(settings)
        stack.push_async_callback(provider.aclose)
        listening = shared or _listen(settings)
        stack.callback(listening.close)
        log = EventLog(db)
        embedder = await _embedder(settings, db)
        if embedder is not None:
            stack.push_async_callback(embedder.aclose)
        library = _library(settings, db, blobs, embedder)
        stack.push_async_callback(library.reader.aclose)
        search = Search(db, embedder, cache_bytes=settings.vector_cache_mib * 1024 * 1024)
        place = _place(listening, index)
        sessions = _sessions(settings, db, blobs, place)
        stack.push_async_callback(sessions.close)
        workers = _workers(settings, library, log, provider, search, sessions, place)
        deliveries, stop = Deliveries(), Stop()
        guard = Guard(
            _services(settings, library, log, provider, search, workers.dispatch, stop),
            KeyRing(db, allow_anonymous=settings.allow_anonymous),
            deliveries,
        )
        server = new_server(
            guard,
            stop,
            deliveries=deliveries,
            grace_seconds=settings.shutdown_grace_seconds,
            is_socket_shared=shared is not None,
        )
        await workers.start()
        stopping = Stopping(server, workers, grace_seconds=settings.shutdown_grace_seconds)
        asyncio.get_running_loop().run_in_executor(None, tokens.count, "warm up")
        if shared is None:
            await _greet(settings, listening, db)
        fields = {"seconds": round(time.monotonic() - started, 3)}
        logger.info("listening", extra={"fields": fields})
        sessions.start()
        probing = asyncio.create_task(_probe(settings, provider, library))
        stack.callback(probing.cancel)
        await server.serve(sockets=[listening])
        await stopping.stop_workers()
    logger.info("stopped")
    return 0


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    db = await open_database(
        settings.data_dir,
        settings.database_url,
        timeout_seconds=settings.database_timeout_seconds,
    )
    try:
        yield db
    finally:
        await db.close()


def _provider(settings: Settings) -> Provider:
    if settings.upstream_url is None:
        return Demo()
    # Half of what a start takes is the HTTP client of this one.
    from rethread.providers.chat import ChatCompletions  # noqa: PLC0415 - only where it is used

    return ChatCompletions(
        base_url=settings.upstream_url,
        api_key=settings.upstream_api_key,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        stall_timeout_seconds=settings.stall_timeout_seconds,
        max_attempts=settings.upstream_max_attempts,
        token_limit_field=settings.token_limit_field,
    )


def _place(listening: socket.socket, index: int | None) -> Process:
    """Which process it is, of those that share the database.

    Nothing else can run on this machine, since it was started, at this address: so what did has
    died. A container has a host name of its own.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot = f"{uuid.getnode():x}"
    host, port = listening.getsockname()[:2]
    home = f"{socket.gethostname()} {boot} {host}:{port} {index or 0}"
    return Process(id=secrets.token_hex(8), home=home)


async def _embedder(settings: Settings, db: Database) -> Embedder | None:
    """Who makes vectors, if anybody; their packages are loaded by those who use them only."""
    if settings.embeddings == "none":
        return None
    embedder = await asyncio.to_thread(_new_embedder, settings)
    await chunk_vectors.check(db)
    return Placed(embedder, db)


def _new_embedder(settings: Settings) -> Embedder:
    if settings.embeddings == "local":
        from rethread.providers.embeddings_local import LocalEmbedder  # noqa: PLC0415 - only where it is used

        return LocalEmbedder()
    from rethread.providers.embeddings_upstream import UpstreamEmbedder  # noqa: PLC0415 - only where it is used

    if settings.embedding_url is None:
        raise Misconfigured(
            "--embeddings upstream needs a model server: name one with --upstream, or with "
            "--embedding-upstream"
        )
    is_other = settings.embedding_upstream is not None
    return UpstreamEmbedder(
        base_url=settings.embedding_url,
        model=settings.embedding_model,
        dimensions=settings.embedding_dimensions,
        api_key=settings.embedding_api_key if is_other else settings.upstream_api_key,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        stall_timeout_seconds=settings.stall_timeout_seconds,
        max_attempts=settings.upstream_max_attempts,
    )


def _library(settings: Settings, db: Database, blobs: Blobs, embedder: Embedder | None) -> Library:
    reader = Reader(
        processes=settings.ingestion_processes,
        timeout_seconds=settings.parse_timeout_seconds,
        memory_bytes=settings.parse_memory_mib * 1024 * 1024,
    )
    return Library(db, blobs, reader, embedder, asyncio.Lock(), Gathering())


def _workers(
    settings: Settings,
    library: Library,
    log: EventLog,
    provider: Provider,
    search: Search,
    sessions: Sessions,
    server: Process,
) -> Workers:
    db = library.db
    engine = Engine(
        db=db,
        blobs=library.blobs,
        log=log,
        provider=provider,
        resolve_model=settings.model_for,
        context_window=lambda model: settings.context_window_for(settings.model_for(model)),
        count_tokens=tokens.count,
        clock=db.now,
        search=search,
        file_wait_seconds=settings.file_wait_seconds,
        code=sessions,
        code_calls_per_run=settings.code_calls_per_run,
    )
    most = settings.ingestion_processes * FILES_A_PROCESS
    return Workers(
        engine,
        server,
        Ingesting(library, server=server.id, most=most),
        max_concurrent_runs=settings.max_concurrent_runs,
        event_retention_seconds=settings.event_retention_hours * 3600,
    )


def _sessions(settings: Settings, db: Database, blobs: Blobs, server: Process) -> Sessions:
    async def find() -> Sandbox:
        return await find_sandbox(
            settings.sandbox, runtime=settings.code_runtime, image=settings.code_image
        )

    limits = Limits(
        memory_bytes=settings.code_memory_mib * 1024 * 1024,
        processes=settings.code_processes,
        open_files=settings.code_open_files,
        disk_bytes=settings.code_disk_mib * 1024 * 1024,
        cpus=settings.code_cpus,
    )
    terms = Terms(
        limits,
        call_seconds=settings.code_call_seconds,
        output_characters=settings.code_output_kib * 1024,
        idle_seconds=settings.code_session_seconds,
        sessions=settings.code_sessions,
        warm=settings.code_warm,
    )
    return Sessions(db, blobs, find, terms, server=server.id)


def _services(
    settings: Settings,
    library: Library,
    log: EventLog,
    provider: Provider,
    search: Search,
    dispatch: Dispatch,
    stop: Stop,
) -> Services:
    db = library.db
    started = int(db.now())

    async def list_models() -> list[ModelObject]:
        upstream = await provider.models()
        # A pattern is no name that a client could send, but what it leads to is there already.
        names = [name for name in settings.aliases if not set(name) & set("*?[")]
        owners = [*((name, "upstream") for name in upstream), *((name, "alias") for name in names)]
        return [
            ModelObject(id=name, created=started, owned_by=owner)
            for name, owner in dict(owners).items()
        ]

    def find_alias(name: str) -> ModelObject | None:
        if settings.model_for(name) == name:
            return None
        return ModelObject(id=name, created=started, owned_by="alias")

    async def check_ready() -> Mapping[str, Any]:
        return await _readiness(settings, db)

    options = _options(settings)
    process = secrets.token_bytes(8)
    return Services(
        db=db,
        blobs=library.blobs,
        log=log,
        search=search,
        dispatch=dispatch,
        list_models=list_models,
        find_alias=find_alias,
        check_ready=check_ready,
        clock=db.now,
        process=process,
        stop=stop,
        options=options,
        embedder=library.embedder.name if library.embedder else "",
    )


def _options(settings: Settings) -> Options:
    return Options(
        max_body_bytes=settings.max_body_bytes,
        max_file_bytes=settings.max_file_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        ignore_unknown_fields=settings.ignore_unknown_fields,
        on_active_run=settings.on_active_run,
        active_run_wait_seconds=settings.active_run_wait_seconds,
        poll_hold_seconds=settings.poll_hold_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        run_expiry_seconds=settings.run_expiry_seconds,
    )


async def _readiness(settings: Settings, db: Database) -> Mapping[str, Any]:
    """Whether the store can be written and its schema is current; the model server never gates."""
    model_server = settings.upstream_url or "demo"
    try:
        await db.check_writable()
        # A newer server may have changed the schema: it only ever adds to it.
        current = await version(db) >= latest_version()
        problem = None if current else "the schema is not current"
    except RethreadError as error:
        problem = error.message
    status = "not ready" if problem else "ready"
    return {"status": status, "store": problem or "ok", "model_server": model_server}


async def _probe(settings: Settings, provider: Provider, library: Library) -> None:
    """Warn of what is not as it should be, before a request or a run fails for it."""
    blobs, embedder = library.blobs, library.embedder
    others = await vector_stores.count_of_others(library.db, embedder.name if embedder else "")
    if others:
        counted = {"stores": others, "cure": "rethread reindex"}
        logger.warning("vector stores of another embedder", extra={"fields": counted})
    try:
        await blobs.check()
    except Unavailable as problem:
        fields = {"place": blobs.place, "reason": problem.reason}
        logger.warning("store of files does not answer", extra={"fields": fields})
    try:
        await provider.models()
    except Unavailable as problem:
        is_there = problem.reason.startswith("status")  # some serve no list, and are well
        event = f"model server does not {'list its models' if is_there else 'answer'}"
        told = {"url": settings.upstream_url, "reason": problem.reason}
        logger.warning(event, extra={"fields": told})


async def _check_closed_to_strangers(settings: Settings, db: Database) -> None:
    if settings.is_loopback or settings.allow_anonymous or await keys.any_made(db):
        return
    raise Misconfigured(
        f"other machines can reach {settings.host}, and there is no API key yet: make one with "
        "`rethread keys create --project NAME`, or say --allow-anonymous"
    )


def _listen(settings: Settings) -> socket.socket:
    """A socket that listens; Misconfigured where that address cannot be had."""
    with ExitStack() as unless_it_listens:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM
            )[0]
            listening = unless_it_listens.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(2048)
        except OSError as problem:
            raise Misconfigured(
                f"cannot listen on {settings.host}:{settings.port}: {problem.strerror or problem}"
            ) from problem
        unless_it_listens.pop_all()
    listening.setblocking(False)
    return listening


def _embedder_shown(settings: Settings) -> str | None:
    """Who makes vectors, for people."""
    match settings.embeddings:
        case "none":
            return None
        case "local":
            return "a model on this machine"
        case "upstream":
            return f"{settings.embedding_model} of {settings.embedding_url}"


async def _greet(settings: Settings, listening: socket.socket, db: Database) -> None:
    """What a person wants to know, on standard output."""
    print(
        greeting(
            address=listening.getsockname()[:2],
            upstream_url=settings.upstream_url,
            aliases=settings.aliases,
            embedder=_embedder_shown(settings),
            has_sandbox=settings.sandbox != "none",
            place=db.place if settings.database_url else str(settings.data_dir),
            is_open=settings.allow_anonymous or not await keys.any_made(db),
        ),
        flush=True,
    )
