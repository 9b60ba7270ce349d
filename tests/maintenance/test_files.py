"""A backup has what files hold, each of them as it was, and a restore brings back just that."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import NotFoundError, OpenAI

from rethread.cli import main
from tests.sdk.clients import sync_client
from tests.server import ServerProcess, running_server

CONTENTS = (b"", b"small", os.urandom(3_500_000))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "server" / "data") as server:
        yield server


def uploaded(client: OpenAI, content: bytes) -> str:
    return client.files.create(file=("a.bin", content), purpose="assistants").id


def back_up(server: ServerProcess, file: Path) -> int:
    return main(["backup", str(file), "--data-dir", str(server.data_dir), "--force"])


def contents(data_dir: Path) -> list[Path]:
    return [path for path in (data_dir / "files").rglob("*") if path.is_file()]


def test_what_is_restored_has_every_file_as_it_was(server: ServerProcess, tmp_path: Path) -> None:
    backup, elsewhere = tmp_path / "backup", tmp_path / "elsewhere" / "data"
    with sync_client(server) as client:
        kept = [(uploaded(client, content), content) for content in (*CONTENTS, CONTENTS[1])]
        upload = client.uploads.create(
            bytes=2, filename="b", mime_type="text/plain", purpose="assistants"
        )
        part = client.uploads.parts.create(upload.id, data=b"12")
        assert back_up(server, backup) == 0
    with running_server(elsewhere) as other, sync_client(other) as client:
        uploaded(client, b"of no use to the backup")
    assert main(["restore", str(backup), "--data-dir", str(elsewhere), "--force"]) == 0
    assert len(contents(elsewhere)) == len(CONTENTS) + 1
    with running_server(elsewhere) as other, sync_client(other) as client:
        for file_id, content in kept:
            assert client.files.content(file_id).content == content
        done = client.uploads.complete(upload.id, part_ids=[part.id])
        assert done.file is not None
        assert client.files.content(done.file.id).content == b"12"
        assert other.ask("SELECT 1 FROM sqlite_schema WHERE name = 'backup_files'") == []


def test_files_that_come_and_go_meanwhile_do_not_break_a_backup(
    server: ServerProcess, tmp_path: Path
) -> None:
    backup, elsewhere = tmp_path / "backup", tmp_path / "elsewhere"
    stopping = threading.Event()

    def come_and_go() -> None:
        with sync_client(server) as client:
            while not stopping.is_set():
                client.files.delete(uploaded(client, os.urandom(1000)))

    with sync_client(server) as client:
        stays = [uploaded(client, content) for content in CONTENTS]
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert [back_up(server, backup) for _ in range(5)] == [0] * 5
    finally:
        stopping.set()
        thread.join()
    assert main(["restore", str(backup), "--data-dir", str(elsewhere)]) == 0
    with running_server(elsewhere) as other, sync_client(other) as client:
        listed = [file.id for file in client.files.list()]
        assert set(stays) <= set(listed)
        for file_id in listed:
            client.files.content(file_id)


def test_content_that_is_not_what_it_was_is_told_and_nothing_is_replaced(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "backup"
    with sync_client(server) as client:
        uploaded(client, b"as it was")
    (path,) = contents(server.data_dir)
    path.write_bytes(b"not as it")
    assert back_up(server, backup) == 1
    assert f"is not what it was: {path.name}" in capsys.readouterr().err
    path.unlink()
    assert back_up(server, backup) == 1
    assert f"the content of a file is not in {server.data_dir / 'files'}" in capsys.readouterr().err
    assert not backup.exists()
    with sync_client(server) as client, pytest.raises(NotFoundError):
        client.files.retrieve("file-x")


def test_files_in_a_bucket_are_not_part_of_a_backup_which_says_so(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["backup", str(tmp_path / "b"), "--data-dir", str(server.data_dir)]
    assert main([*command, "--files", "s3://bucket/x"]) == 0
    assert "The content of files is in s3://bucket/x, and not part of this.\n" in (
        capsys.readouterr().out
    )


def test_files_are_served_from_where_they_were_when_the_database_has_moved(
    server: ServerProcess, tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with sync_client(server) as client:
        kept = [(uploaded(client, content), content) for content in CONTENTS]
        done = client.uploads.upload_file_chunked(
            file=b"parts", filename="b", bytes=5, mime_type="text/plain", purpose="assistants"
        )
        assert done.file is not None
        kept.append((done.file.id, b"parts"))
    assert server.terminate() == 0
    assert main(["move", "--from", str(server.data_dir), "--to", postgres_url]) == 0
    assert "The content of 4 files is in no database: it stays where" in capsys.readouterr().out
    place = ("--files", str(server.data_dir / "files"))
    with (
        running_server(tmp_path / "empty", *place, database_url=postgres_url) as there,
        sync_client(there) as client,
    ):
        for file_id, content in kept:
            assert client.files.content(file_id).content == content
