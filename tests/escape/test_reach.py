"""Code reaches nothing of the host: no file, no process, no network, no call that leads there."""

import socket

import pytest

from tests.escape.scene import Scene, processes_with, running_scene

HARMLESS = {
    "host_files": frozenset(
        {
            "read_a_file_of_the_host_by_its_path",
            "read_a_file_of_the_host_by_going_up",
            "read_a_file_of_the_host_through_proc",
        }
    ),
    "processes": frozenset(
        {
            "see_a_process_of_the_host",
            "see_more_processes_than_its_own",
            "signal_the_server",
            "share_a_room_with_the_host",
            "know_the_name_of_the_host",
        }
    ),
    "network": frozenset(
        {
            "reach_the_server",
            "reach_a_listener",
            "reach_an_abstract_socket",
            "reach_a_socket_by_its_path",
            "see_sockets_of_the_host",
        }
    ),
}


@pytest.mark.parametrize("module", ["host_files", "processes", "kernel_calls", "network"])
def test_nothing_of_the_host_is_reached(scene_of_user: Scene, module: str) -> None:
    assert scene_of_user.attack(module) == {}
    assert scene_of_user.is_well()


def test_what_listens_inside_is_not_reached_from_outside(scene_of_user: Scene) -> None:
    assert scene_of_user.attack("network", "listen_by_an_abstract_name") == {}
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(ConnectionRefusedError):
        one.connect("\0" + scene_of_user.host.listeners.abstract_name + "-inside")


def test_a_session_sees_nothing_of_another(scene_of_user: Scene) -> None:
    scene, other = scene_of_user, scene_of_user.new_thread()
    mark = scene.told()["mark_of_another"]
    tops = ("/mnt/data", "/tmp", "/dev/shm")
    leave = f"for top in {tops}: open(top + '/left.txt', 'w').write({mark!r})"
    assert scene.run(leave, thread_id=other).made == {"left.txt": mark.encode()}
    assert scene.attack("left_behind", "read_another_session") == {}
    assert scene.run("print(open('/tmp/left.txt').read())", thread_id=other).logs == f"{mark}\n"


def test_limits_hold_whoever_the_server_is(scene_of_user: Scene) -> None:
    """More of them are tried in test_bombs; these are counted in another way for root."""
    bombs = ("process_bomb", "disk_by_an_unreadable_program")
    assert scene_of_user.attack_within("bombs", *bombs) == {}
    assert scene_of_user.is_well()


def test_nothing_of_a_session_outlives_its_server(scene_of_user: Scene) -> None:
    """The last of the tests with it: it is killed."""
    scene = scene_of_user
    assert scene.attack("processes", "outlive_the_session_as_a_daemon") == {}
    assert scene.wait_for(lambda: processes_with(scene.host.mark) != [])
    scene.server.kill()
    assert scene.wait_for(lambda: processes_with(scene.host.mark) == [])


def test_the_attacks_would_get_through_without_a_sandbox() -> None:
    """Otherwise the other tests would prove nothing."""
    with running_scene("none") as scene:
        for module, names in HARMLESS.items():
            assert scene.attack(module, *sorted(names)).keys() == names
        assert set(scene.host.listeners.reached) == {"tcp", "abstract", "path"}
