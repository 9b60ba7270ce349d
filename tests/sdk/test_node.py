"""The same conversation with the SDK for Node, as it was in 4.x and as it is now."""

import json
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.sdk.clients import Scripted
from tests.sdk.test_old_sdks import HEARD, STARTED, STEP, WRITTEN, through_a_silence
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


# What an SDK makes of an answer has nothing to do with the database behind it: one sees both.
@pytest.mark.parametrize(
    ("demo", "version"),
    [*(("sqlite", version) for version in VERSIONS), ("postgresql", VERSIONS[-1])],
    indirect=["demo"],
)
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
@pytest.mark.parametrize("version", VERSIONS)
async def test_node_does_not_trip_over_a_stream_that_is_kept_alive(
    scripted: Scripted, version: str, tmp_path: Path
) -> None:
    speak = partial(spoken, tmp_path, version, scripted.server.url)
    seen = await through_a_silence(scripted, speak)
    same = {"same_events": True}
    assert seen == {way: {**HEARD[way], **(same if way != "silent" else {})} for way in HEARD}
