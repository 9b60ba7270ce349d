"""The same conversation with every SDK for Python that applications still have."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.fakes.replies import Gate, text
from tests.sdk.clients import Scripted
from tests.server import ServerProcess

SDKS: Final = Path(__file__).parents[2] / ".venv" / "sdk"
CONVERSATION: Final = Path(__file__).with_name("conversation.py")
VERSIONS: Final = ("1.21.2", "1.109.1", "2.54.0", "3")
PINGS: Final = 3
HEARD: Final = {
    way: {"text": "Slowly", "last": "thread.run.completed"}
    for way in ("silent", "resumed", "repeated")
}

STEP: Final = ["thread.run.step.created", "thread.run.step.in_progress"]
STARTED: Final = ["thread.run.created", "thread.run.queued", "thread.run.in_progress", *STEP]
WRITTEN: Final = [
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
    "thread.message.completed",
    "thread.run.step.completed",
    "thread.run.completed",
]


def interpreter(version: str) -> str:
    """The Python that has this SDK: ours has the newest."""
    if version == "3":
        return sys.executable
    python = SDKS / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"openai {version} is not set up: scripts/setup-sdks")
    return str(python)


def spoken(version: str, *arguments: str, script: Path = CONVERSATION) -> Any:
    """What the conversation saw."""
    done = subprocess.run(
        [interpreter(version), str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# What an SDK makes of an answer has nothing to do with the database behind it: one sees both.
@pytest.mark.parametrize(
    ("demo", "version"),
    [*(("sqlite", version) for version in VERSIONS), ("postgresql", VERSIONS[-1])],
    indirect=["demo"],
)
def test_a_conversation_is_the_same_with_every_sdk(demo: ServerProcess, version: str) -> None:
    seen = spoken(version, demo.url)
    assert seen["polled"] == "completed"
    assert seen["called"] == [["get_weather", {"city": "Paris"}]]
    assert seen["asking"][:5] == STARTED
    assert set(seen["asking"][5:-1]) == {"thread.run.step.delta"}
    assert seen["asking"][-1] == "thread.run.requires_action"
    again = ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress", *STEP]
    # Names are noted once: the second step's completion is the first event's name again.
    assert seen["answering"] == [*again, *[name for name in WRITTEN if name not in again]]
    assert seen["same_text"] is True
    assert seen["created_and_run"] == ["thread.created", *STARTED, *WRITTEN]
    assert (seen["created_and_polled"], seen["iterated"]) == ("completed", "thread.run.completed")
    assert seen["paged"] == 10
    assert (seen["unknown"], seen["deleted"]) == (404, [True])
    file = ["höhe.txt", "hello", True, True]
    assert seen["file"] == (file if version == "1.21.2" else [*file, "completed"])


async def pinged(server: ServerProcess, assistant_id: str) -> None:
    """Return once a silent stream like the one under test has been kept alive a few times."""
    body = {"assistant_id": assistant_id, "stream": True, "thread": {"messages": []}}
    async with (
        httpx2.AsyncClient(timeout=20) as client,
        client.stream("POST", f"{server.url}/threads/runs", json=body) as stream,
    ):
        pings = 0
        async for line in stream.aiter_lines():
            pings += line.startswith(":")
            if pings == PINGS:
                return


async def through_a_silence(scripted: Scripted, speak: Callable[[str], Any]) -> Any:
    """What `speak` saw of an assistant that falls silent in the middle of its answers."""
    gate = Gate()
    scripted.model.answer = lambda _: text("Slow", "ly").then(gate, after=1)
    assistant_id = scripted.assistant(instructions="Take your time.")
    asked = scripted.model.request(len(scripted.model.requests) + len(HEARD))
    speaking = asyncio.create_task(asyncio.to_thread(speak, assistant_id))
    all_are_silent = asyncio.create_task(asked)
    try:
        await asyncio.wait({speaking, all_are_silent}, return_when=asyncio.FIRST_COMPLETED)
        await pinged(scripted.server, assistant_id)
    finally:
        all_are_silent.cancel()
        gate.open()
    return await speaking


# What an SDK makes of a silence has nothing to do with the database behind it.
@pytest.mark.parametrize("scripted_parts", ["sqlite"], indirect=True)
@pytest.mark.parametrize("version", VERSIONS)
async def test_no_sdk_trips_over_a_stream_that_is_kept_alive(
    scripted: Scripted, version: str
) -> None:
    seen = await through_a_silence(scripted, partial(spoken, version, scripted.server.url))
    same = {"same_events": True, "same_message": True}
    assert seen == {way: {**HEARD[way], **(same if way != "silent" else {})} for way in HEARD}
