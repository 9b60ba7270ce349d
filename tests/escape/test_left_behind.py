"""What a session leaves in its folder leads the server nowhere, and poisons no other session."""

from pathlib import Path

import pytest

from tests.escape.scene import Heard, Scene
from tests.escape.texts import within

OWN = b"of the session"


def nothing_of_the_host(scene: Scene, heard: Heard) -> bool:
    """Whether no file that came of it has what lies on the host, which is as it was."""
    mark = scene.host.mark.encode()
    return scene.is_well() and not any(
        mark in begins or b"root:" in begins or b"PATH=" in begins for begins in heard.made.values()
    )


@pytest.mark.parametrize(
    "attack",
    [
        "links_to_files_of_the_host",
        "things_that_are_no_files",
        "modes_of_the_host",
        "swap_while_it_is_read",
    ],
)
def test_no_link_is_followed_and_nothing_but_files_is_read(scene: Scene, attack: str) -> None:
    heard = scene.attack_once("left_behind", attack)
    assert heard.status == "completed"
    assert nothing_of_the_host(scene, heard)
    for _ in range(3 if attack == "swap_while_it_is_read" else 1):
        assert nothing_of_the_host(scene, scene.run("print('looked at again')"))


def test_a_file_that_grows_while_it_is_read_has_an_end(scene: Scene) -> None:
    heard = scene.attack_once("left_behind", "grow_while_it_is_read")
    assert heard.status == "completed"
    assert scene.answers()


def test_names_that_are_no_names_become_names_of_files(scene: Scene) -> None:
    heard = scene.attack_once(
        "left_behind",
        "names_that_are_no_names",
    )
    assert heard.status == "completed"
    assert OWN in heard.made.values()
    for name in heard.made:
        assert name.isprintable()
        assert "/" not in name
        assert name not in ("", ".", "..")
    assert scene.answers()


def test_the_server_does_not_write_through_links(scene: Scene, attached: str) -> None:
    """It puts files there again when the session was made anew, and when they come again."""
    thread = scene.new_thread()
    assert (
        "a,b"
        in scene.run(
            "print(open('/mnt/data/numbers.csv').read())", thread_id=thread, attachments=[attached]
        ).logs
    )
    attack = within("left_behind", ["folders_as_links"])
    scene.run(attack, thread_id=thread)
    attack = within("left_behind", ["originals_as_links"])
    heard = scene.run(attack, thread_id=thread)
    assert nothing_of_the_host(scene, heard)
    again = scene.run("print('once more')", thread_id=thread, attachments=[attached])
    assert again.status == "completed"
    assert scene.host.unchanged()
    scene.run("import os; os._exit(0)", thread_id=thread)
    heard = scene.run("print(open('/mnt/data/numbers.csv').read())", thread_id=thread)
    assert "a,b" in heard.logs
    assert scene.host.unchanged()


def test_code_left_for_the_next_session_does_not_run_in_it(scene: Scene) -> None:
    scene.attack_once("left_behind", "code_for_the_next_session")
    scene.run("import os; os._exit(0)")
    heard = scene.run("import builtins, json; print('poisoned:', hasattr(builtins, 'poisoned'))")
    assert "poisoned: False" in heard.logs
    other = scene.new_thread()
    assert scene.attack("left_behind", "be_poisoned", thread_id=other) == {}


def test_what_attacks_leave_goes_with_the_session(scene: Scene) -> None:
    """Also where it is hard to remove: deep, locked, many."""
    places = places_of(scene)
    assert places
    scene.attack_once("bombs", "disk_in_the_deep")
    scene.run("import os; os._exit(0)")
    assert scene.answers()
    assert scene.wait_for(lambda: len(places_of(scene)) <= len(places))


def places_of(scene: Scene) -> list[Path]:
    """The folders of the server's sessions."""
    found = scene.server.data_dir.parent.glob("rethread-code-*/*")
    return [path for path in found if path.name.isdigit()]
