"""The same HTTP stack without a store: what appends are measured against.

`/bare` reads the body and answers the bytes of a message: uvicorn and nothing else.
Every other path goes through rethread's own guard, routes and types; only the write is left out.
"""

import asyncio
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from rethread.http.deliveries import Deliveries
from rethread.http.guard import Guard
from rethread.http.keys import KeyRing
from rethread.http.request import Options, Services
from rethread.http.server import new_server
from rethread.http.stopping import Stop
from rethread.store import messages
from rethread.store.database import open_database
from rethread.store.events import EventLog


async def keep_nothing(*_: Any, **__: Any) -> None:
    """In place of the write."""


async def bare(receive: Any, send: Any) -> None:
    """Answer with the bytes of a message that holds the body."""
    body = (await receive())["body"]
    answer = b'{"id":"msg_000000000000000000000000","object":"thread.message",' + b" " * 300 + body
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def main() -> None:
    """Serve until killed."""
    messages.add = keep_nothing
    with tempfile.TemporaryDirectory() as folder:
        db = await open_database(Path(folder))
        deliveries, stop = Deliveries(), Stop()
        unused: Any = None
        log, clock, options = EventLog(db), time.time, Options()
        services = Services(db, unused, log, *(unused,) * 5, clock, b"", stop, options)
        guard = Guard(services, KeyRing(db, allow_anonymous=True), deliveries)

        async def application(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/bare":
                await bare(receive, send)
            else:
                await guard(scope, receive, send)

        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        server = new_server(application, stop, deliveries=deliveries, grace_seconds=1)
        await server.serve(sockets=[listening])


if __name__ == "__main__":
    uvloop.run(asyncio.wait_for(main(), None))
