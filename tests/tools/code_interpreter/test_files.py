"""The folder of a session is read and written without following what code may have left in it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rethread.store.files import StoredFile
from rethread.tools.code_interpreter import files
from rethread.tools.code_interpreter.files import Folder, NotThere, changed, is_fit, placed


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "data").mkdir()
    folder = Folder(tmp_path / "data")
    yield folder
    folder.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The bytes of a file of the client's."""
    path = tmp_path / "source"
    path.write_bytes(b"content")
    return path


def stored(file_id: str, filename: str) -> StoredFile:
    return StoredFile(file_id, filename, 7, "assistants", "blob", b"{}")


def test_names_are_safe_and_each_is_another() -> None:
    names = [
        *("data.csv", "data.csv", "DATA.csv", "../../etc/passwd", "C:\\Users\\me\\data.csv"),
        *("..", "", "a\nb\x00.txt", f"{'é' * 300}.tar", "sur\ud800rogate"),
    ]
    found = placed([stored(f"file-{index}", name) for index, name in enumerate(names)])
    assert [file.name for file in found] == [
        *("data.csv", "data-2.csv", "DATA.csv", "passwd", "data-3.csv"),
        *("file", "file-2", "a_b_.txt", f"{'é' * 98}.tar", "sur_rogate"),
    ]
    again = placed([stored("file-1", "a"), stored("file-1", "a")])
    assert [file.name for file in again] == ["a"]


def test_an_original_is_read_only_and_takes_the_place_of_what_was_there(
    folder: Folder, source: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("the server's")
    (tmp_path / "data" / "link").symlink_to(outside)
    (tmp_path / "data" / "folder").mkdir()
    for name in ("link", "folder", "new"):
        folder.put_original(name, source)
    assert outside.read_text() == "the server's"
    for name in ("link", "folder", "new"):
        there = tmp_path / "data" / name
        assert there.read_bytes() == b"content"
        assert there.lstat().st_mode == 0o100444


def test_what_is_put_back_never_leaves_the_folder(
    folder: Folder, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    folder.put_back("deep/er/file", source)
    with pytest.raises(OSError, match="link"):
        folder.put_back("link/file", source)
    assert (tmp_path / "data/deep/er/file").read_bytes() == b"content"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_only_regular_files_are_found_and_read(folder: Folder, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (tmp_path / "secret").write_text("the server's")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("the server's")
    (data / "plain").write_text("plain")
    (data / "link").symlink_to(tmp_path / "secret")
    (data / "folder").symlink_to(tmp_path / "secrets")
    (data / ".hidden").write_text("")
    os.mkfifo(data / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(data / "socket"))
    assert list(folder.look().files) == ["plain"]
    for path in ("link", "folder/key", "pipe", "socket", "../secret", "none", "plain/.."):
        with pytest.raises(NotThere), folder.reading(path):
            pass
    with folder.reading("plain") as reading:
        (data / "plain").write_text("plain and more, written meanwhile")
        assert [reading.piece(), reading.piece()] == [b"plain", b""]


def test_a_thread_that_is_late_touches_nothing_that_was_opened_since(
    tmp_path: Path, source: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "data" / "a").write_text("a")
    folder = Folder(tmp_path / "data")
    with folder.reading("a") as reading:
        pass
    handle = os.open(source, os.O_RDONLY)  # has its number now
    assert reading.piece() == b""
    os.close(handle)
    folder.close()
    handle = os.open(tmp_path / "others", os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        folder.put_original("b", source)
    assert (folder.look().files, os.listdir(handle)) == ({}, [])
    os.close(handle)


def test_a_file_that_looks_another_way_has_changed(folder: Folder, tmp_path: Path) -> None:
    path = tmp_path / "data" / "a"
    path.write_text("1")
    (tmp_path / "data" / "b").write_text("1")
    known = folder.look().files
    kept_time = path.stat().st_mtime_ns
    path.write_text("2")
    os.utime(path, ns=(kept_time, kept_time))  # its inode still says that it was changed
    assert changed(folder.look().files, known) == ["a"]


def test_a_folder_of_endless_files_is_not_read_to_its_end(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_ENTRIES", 10)
    for number in range(20):
        (tmp_path / "data" / f"{number}").touch()
    seen = folder.look()
    assert len(seen.files) == 10
    assert not seen.is_all


def test_a_path_that_no_link_can_have_is_not_fit() -> None:
    fit = ["a", "a/b.txt", "with space", "ünï"]
    unfit = ["new\nline", "\udcff", "a" * 600, "bell\x07"]
    assert [is_fit(path) for path in (*fit, *unfit)] == [True] * 4 + [False] * 4
