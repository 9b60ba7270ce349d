"""A model server for measuring: as quick as Python gets. The model's name says what it does.

`tokens=400,rate=20`: so many tokens, so many a second (0: all at once). Every token holds the
time at which it was sent, in seconds, so that a reader knows how old it is. With `code=1+1` it has
that code run first.
"""

import asyncio
import json
import socket
import time
from typing import Any

import uvicorn
import uvloop

HEADERS = [(b"content-type", b"text/event-stream")]


def _chunk(text: str, finish_reason: str | None = None) -> bytes:
    return _record({"content": text}, finish_reason)


def _call(code: str) -> bytes:
    function = {"name": "code_interpreter", "arguments": json.dumps({"code": code})}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    return _record({"tool_calls": [call]}) + _record({}, "tool_calls")


def _record(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer any POST with a stream."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    asked = json.loads(body)
    wish = dict(part.split("=") for part in asked["model"].split(","))
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    if "code" in wish and asked["messages"][-1]["role"] == "user":
        called = _call(wish["code"]) + b"data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": called})
        return
    started = asyncio.get_running_loop().time()
    for number in range(int(wish["tokens"])):
        if rate := float(wish["rate"]):
            wait = started + number / rate - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, wait))
        chunk = _chunk(f"{time.time():.6f} ")
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    end = _chunk("", "stop") + b"data: " + json.dumps({"choices": [], "usage": usage}).encode()
    await send({"type": "http.response.body", "body": end + b"\n\ndata: [DONE]\n\n"})


async def main() -> None:
    """Serve until killed."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listening.setblocking(False)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(application, log_config=None, lifespan="off", access_log=False)
    await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    uvloop.run(main())
