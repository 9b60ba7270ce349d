"""Folders of boxes: made, and gone again whatever lies in them."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rethread.tools.code_interpreter.sandbox import hand_in
from rethread.tools.code_interpreter.sandbox.places import Places, remove

LEAVE = """
import os, sys
from rethread.tools.code_interpreter.sandbox.places import Places
place = Places().new()
(place.data / "left").write_text("behind")
print(place.root.parent)
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as short, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", short)
        yield Path(short)


def test_a_place_belongs_to_the_code_and_lies_behind_what_does_not() -> None:
    places = Places()
    place = places.new()
    hand_in(place, "key", b"secret")
    for path in (place.data, place.sockets, place.sockets / "key"):
        assert path.stat().st_uid == (os.getuid() if place.owner is None else place.owner)
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077
    assert place.root.stat().st_uid == os.getuid()
    assert not stat.S_IMODE(place.root.stat().st_mode) & 0o027
    places.close()
    assert not places.root.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_no_two_places_have_the_same_user_where_the_server_is_root() -> None:
    places = Places()
    owners = {places.new().owner for _ in range(20)}
    assert len(owners) == 20
    assert all(owner is not None and owner > 65_534 for owner in owners)
    places.close()


def test_nothing_that_code_leaves_keeps_its_folder_from_going(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "closed").mkdir(mode=0)
    (root / "new\nline").mkdir()
    (root / "new\nline" / ("x" * 255)).write_text("")
    os.mkfifo(root / "pipe")
    here = os.open(root, os.O_RDONLY)
    for _ in range(1100):  # longer than any path may be, deeper than a stack
        os.mkdir("deeper", dir_fd=here)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.symlink(outside, "link", dir_fd=here)
    os.close(here)
    remove(root)
    assert not root.exists()
    assert (outside / "kept").read_text() == "kept"


def test_what_a_dead_server_has_left_is_removed_and_a_living_one_keeps_its_own(
    folder: Path,
) -> None:
    alive = Places()
    dying = subprocess.run(
        [sys.executable, "-c", LEAVE],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    left = Path(dying.stdout.strip())
    assert (left / "1" / "data" / "left").exists()
    third = Places()
    assert not left.exists()
    assert alive.shared.exists()
    for each in (alive, third):
        each.close()
