"""The same conversation with the SDK for Node, as it was in 4.x and as it is now."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fakes.replies import Gate, text
from tests.sdk.clients import Scripted
from tests.sdk.test_old_sdks import STARTED, STEP, WRITTEN, pinged
from tests.server import ServerProcess

NODE: Final = Path(__file__).with_name("node")
VERSIONS: Final = ("v4", "latest")


def spoken(folder: Path, version: str, *arguments: str, script: str = "conversation.mjs") -> Any:
    """What the conversation saw."""
    modules = NODE / version / "node_modules"
    if not (modules / ".done").exists() or shutil.which("node") is None:
        pytest.skip(f"no openai ({version}) for node: scripts/setup-node sets it up")
    (folder / "node_modules").symlink_to(modules.resolve())
    conversation = shutil.copy(NODE / script, folder)
    done = subprocess.run(
        ["node", conversation, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_conversation_is_the_same_with_node(
    demo: ServerProcess, version: str, tmp_path: Path
) -> None:
    seen = spoken(tmp_path, version, demo.url)
    assert seen["polled"] == "completed"
    assert seen["called"] == [["get_weather", {"city": "Paris"}]]
    assert seen["asking"] == [*STARTED, "thread.run.step.delta", "thread.run.requires_action"]
    again = ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress", *STEP]
    assert seen["answering"] == [*again, *[name for name in WRITTEN if name not in again]]
    assert seen["same_text"] is True
    assert seen["submitted"] == ["requires_action", "completed"]
    assert seen["created_and_polled"] == "completed"
    assert seen["created_and_run"] == ["thread.created", *STARTED, *WRITTEN]
    assert seen["iterated"] == "thread.run.completed"
    assert (seen["paged"], seen["unknown"], seen["listed"]) == (7, 404, [True])
    assert seen["file"] == ['h"öhe.txt', "hello", "completed"]


# What an SDK makes of a silence has nothing to do with the database behind it.
@pytest.mark.parametrize("scripted_parts", ["sqlite"], indirect=True)
@pytest.mark.parametrize("mode", ["silent", "resumed", "repeated"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_node_does_not_trip_over_a_stream_that_is_kept_alive(
    scripted: Scripted, version: str, mode: str, tmp_path: Path
) -> None:
    gate = Gate()
    scripted.model.answer = lambda _: text("Slow", "ly").then(gate, after=1)
    assistant_id = scripted.assistant(instructions="Take your time.")
    speaking = asyncio.create_task(
        asyncio.to_thread(spoken, tmp_path, version, scripted.server.url, mode, assistant_id)
    )
    try:
        silent = asyncio.wrap_future(gate.arrived)
        await asyncio.wait({speaking, silent}, return_when=asyncio.FIRST_COMPLETED)
        await pinged(scripted.server, assistant_id)
    finally:
        gate.open()
    same = {"same_events": True} if mode != "silent" else {}
    assert await speaking == {"text": "Slowly", "last": "thread.run.completed", **same}
