"""The session's code speaks in the kernel's name as it likes: the server believes little of it."""

import pytest

from tests.escape.scene import Scene
from tests.escape.texts import attack_names

SPARE_MB = 200


@pytest.mark.parametrize("attack", attack_names("messages"))
def test_what_a_kernel_says_harms_neither_the_server_nor_the_next_call(
    scene: Scene, attack: str
) -> None:
    before = scene.server.memory_mib()
    with scene.watched() as watched:
        heard = scene.attack_once("messages", attack)
        assert heard.status == "completed"
        after = scene.run("print('next')")
    assert scene.answers()
    assert "OF ANOTHER CALL" not in heard.logs + after.logs
    assert after.logs.endswith("next\n") or "anew" in after.logs, after.logs
    assert watched.server_mb < before + SPARE_MB
    assert scene.is_well()
