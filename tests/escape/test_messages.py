"""The session's code speaks in the kernel's name as it likes: the server believes little of it."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.escape.conftest import PROGRAMS, need
from tests.escape.scene import Scene, Terms, running_scene
from tests.escape.texts import attack_names

SPARE_MB: Final = 200  # what the server may take in passing
ENDS: Final = (
    "say_many_things",
    "say_many_parts",
    "say_frames_without_end",
    "say_it_below_the_protocol",
    "close_the_sockets",
    "put_links_in_the_place_of_the_sockets",
    "end_itself",
    "end_everything",
)
SAYS: Final = tuple(
    name for name in attack_names("messages") if name not in (*ENDS, "say_it_is_done")
)


@pytest.fixture(scope="module", params=PROGRAMS)
def brief_scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A server whose sessions may take little time."""
    need(request.param)
    with running_scene(request.param, terms=Terms(call_seconds=8)) as scene:
        yield scene


def test_what_a_kernel_says_stays_with_its_call(brief_scene: Scene) -> None:
    before = brief_scene.server.memory_mib()
    with brief_scene.watched() as watched:
        heard = brief_scene.attack_once("messages", *SAYS)
        after = brief_scene.run("print('next')")
    assert "said properly" in heard.logs  # else it would prove nothing
    assert heard.verdicts == {name: ["", ""] for name in SAYS}
    assert "of another call" not in heard.logs
    assert after.logs == "next\n"
    assert watched.server_mb < before + SPARE_MB
    assert brief_scene.is_well()


def test_what_comes_after_the_end_is_not_the_next_calls(brief_scene: Scene) -> None:
    brief_scene.attack_once("messages", "say_it_is_done")
    assert brief_scene.run("print('next')").logs == "next\n"
    assert brief_scene.is_well()


def test_a_kernel_that_breaks_with_the_server_is_replaced(brief_scene: Scene) -> None:
    before = brief_scene.server.memory_mib()
    with brief_scene.watched() as watched:
        assert brief_scene.attack_within("messages", *ENDS) == {}
    assert watched.server_mb < before + SPARE_MB
    assert brief_scene.answers()
    assert brief_scene.is_well()
