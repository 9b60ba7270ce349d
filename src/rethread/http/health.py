"""What is it, is it alive, is it ready, what does it serve: asked without a key."""

from rethread import __version__
from rethread.http.codec import encode
from rethread.http.openapi import document
from rethread.http.operations import About
from rethread.http.request import Reply, Request, Response


async def about(_: Request) -> Response:
    """GET /"""
    return Reply(encode(About("rethread", __version__, "/openapi.json")))


async def alive(_: Request) -> Response:
    """GET /healthz"""
    return Reply(b'{"status":"ok"}')


async def ready(request: Request) -> Response:
    """GET /readyz: 503 while the store cannot be written or its schema is not current."""
    state = await request.services.check_ready()
    return Reply(encode(state), status=200 if state["status"] == "ready" else 503)


async def openapi(_: Request) -> Response:
    """GET /openapi.json"""
    return Reply(document())
