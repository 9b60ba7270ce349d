"""Code that takes all that it can get is stopped at its limits, and hurts nobody else."""

import pytest

from tests.escape.scene import MEMORY_MB, PROCESSES, Scene

SPARE_MB = 200  # what the server may take in passing
BESIDE = 12  # processes that are not the code's: launchers, and a kernel that waits

TAKES = [
    "thread_bomb",
    "process_bomb",
    "memory_of_one_process",
    "memory_of_many_processes",
    "memory_in_folders",
    "memory_behind_a_crowd",
    "memory_without_a_name",
    "memory_shared_by_number",
    "memory_dropped_from_view",
    "memory_dropped_from_view_of_many",
    "memory_of_the_zero_device",
    "memory_in_sockets",
    "memory_in_pipes",
    "memory_in_page_tables",
    "disk_by_one_file",
    "disk_by_some_files",
    "disk_at_once",
    "disk_by_deleted_files",
    "disk_by_mapped_files",
    "disk_by_sent_files",
    "disk_by_files_sent_by_the_dead",
    "disk_by_an_unreadable_program",
    "disk_by_empty_files",
    "disk_in_the_deep",
    "disk_in_a_locked_folder",
    "a_file_of_ten_terabytes",
]
GOES_ON = [
    "fork_bomb",
    "time_without_end",
    "time_behind_every_except",
    "output_without_end",
    "images_without_end",
]


@pytest.mark.parametrize("attack", TAKES)
def test_no_more_is_taken_than_a_session_may_have(scene: Scene, attack: str) -> None:
    """Whether it is refused more, or ended: it is not there to say that it has taken more."""
    with scene.watched() as watched:
        heard = scene.attack_once("bombs", attack)
    said = heard.logs.partition("VERDICT ")[2]
    assert '"through": {}' in said or "VERDICT" not in heard.logs, said
    assert watched.processes < 2 * PROCESSES + BESIDE
    assert scene.answers()
    assert scene.is_well()


@pytest.mark.parametrize("attack", GOES_ON)
def test_what_goes_on_without_end_is_ended(scene: Scene, attack: str) -> None:
    before = scene.server.memory_mib()
    with scene.watched() as watched:
        heard = scene.attack_once("bombs", attack)
    assert heard.status == "completed"
    assert "VERDICT" not in heard.logs
    assert len(heard.logs) < 2_000_000
    assert watched.server_mb < before + SPARE_MB
    assert watched.processes < 2 * PROCESSES + BESIDE
    assert scene.answers()
    assert scene.is_well()


def test_what_is_left_running_leaves_room_for_others(scene: Scene) -> None:
    scene.attack_once("bombs", "time_in_the_background")
    assert scene.answers(thread_id=scene.new_thread())
    assert scene.answers()
    assert scene.is_well()


def test_memory_is_counted_for_the_session_as_a_whole(scene: Scene) -> None:
    with scene.watched() as watched:
        heard = scene.attack_once("bombs", "memory_of_many_processes")
    assert "memory" in heard.logs
    assert watched.server_mb < scene.server.memory_mib() + MEMORY_MB
