"""Code that takes all that it can get is stopped at its limits, and hurts nobody else."""

from collections.abc import Iterator

import pytest

from tests.escape.conftest import PROGRAMS, need
from tests.escape.scene import Scene, Terms, running_scene

SPARE_MB = 200  # what the server may take in passing
BESIDE = 12  # processes that are not the code's: launchers, and a kernel that waits
OVERSHOT = 12  # so many times its memory all may have for a moment, shared pages counted by each

TAKES = {
    "processes": ["thread_bomb", "process_bomb"],
    "memory": [
        "memory_without_a_name",
        "memory_shared_by_number",
        "memory_dropped_from_view",
        "memory_dropped_from_view_of_many",
        "memory_of_the_zero_device",
        "memory_in_page_tables",
        "memory_in_pipes",
        "memory_in_folders",
        "memory_in_sockets",
        "memory_of_one_process",
        "memory_of_many_processes",
        "memory_behind_a_crowd",
    ],
    "disk": [
        "disk_at_once",
        "disk_by_one_file",
        "disk_by_some_files",
        "disk_by_deleted_files",
        "disk_by_mapped_files",
        "disk_by_sent_files",
        "disk_by_files_sent_by_the_dead",
        "disk_by_an_unreadable_program",
        "disk_by_empty_files",
        "disk_in_the_deep",
        "disk_in_a_locked_folder",
        "a_file_of_ten_terabytes",
    ],
}
GOES_ON = ["fork_bomb", "time_without_end", "output_without_end"]


@pytest.fixture(scope="module", params=PROGRAMS)
def brief_scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A server whose sessions may take little time."""
    need(request.param)
    with running_scene(request.param, terms=Terms(call_seconds=1)) as scene:
        yield scene


@pytest.mark.parametrize("kind", TAKES)
def test_no_more_is_taken_than_a_session_may_have(scene: Scene, kind: str) -> None:
    """Whether it is refused more, or ended: it is not there to say that it has taken more."""
    with scene.watched() as watched:
        assert scene.attack_within("bombs", *TAKES[kind]) == {}
    assert watched.processes < 2 * scene.terms.processes + BESIDE
    assert watched.sessions_mb < OVERSHOT * scene.terms.memory_mb
    assert scene.answers()
    assert scene.is_well()


@pytest.mark.parametrize("attack", GOES_ON)
def test_what_goes_on_without_end_is_ended(brief_scene: Scene, attack: str) -> None:
    before = brief_scene.server.memory_mib()
    with brief_scene.watched() as watched:
        heard = brief_scene.attack_once("bombs", attack)
    assert heard.status == "completed"
    assert heard.verdicts == {}
    assert "stopped" in heard.logs
    assert watched.server_mb < before + SPARE_MB
    assert watched.processes < 2 * brief_scene.terms.processes + BESIDE
    assert brief_scene.answers()
    assert brief_scene.is_well()


def test_what_is_left_running_leaves_room_for_others(scene: Scene) -> None:
    assert scene.attack_within("bombs", "time_in_the_background") == {}
    assert scene.answers(thread_id=scene.new_thread())
    assert scene.answers()
    assert scene.is_well()
