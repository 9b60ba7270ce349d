"""Backups hold all that was acknowledged, and a restore replaces nothing by something broken."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rethread.cli import main
from rethread.store.database import FILE_NAME, latest_version, open_database
from tests.maintenance.client import connected, writing
from tests.objects import stored_message, stored_thread
from tests.server import ServerProcess, running_server


def ids_in(data_dir: Path) -> list[str]:
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM messages ORDER BY number")]


@pytest.fixture
async def message_id(tmp_path: Path) -> str:
    """The id of the one message in the folder `data`."""
    db = await open_database(tmp_path / "data")
    message = await stored_message(db, await stored_thread(db))
    await db.close()
    return message.id


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server on SQLite."""
    with running_server(tmp_path / "server" / "data") as server:
        yield server


@pytest.fixture
def backup(message_id: str, tmp_path: Path) -> Path:
    """A backup of the folder `data`."""
    file = tmp_path / "backup.sqlite3"
    assert main(["backup", str(file), "--data-dir", str(tmp_path / "data")]) == 0
    return file


def restored(file: Path, data_dir: Path, *more: str) -> int:
    return main(["restore", str(file), "--data-dir", str(data_dir), *more])


def test_a_backup_of_a_server_that_is_writing_holds_every_acknowledged_message(
    server: ServerProcess, tmp_path: Path
) -> None:
    file, elsewhere = tmp_path / "backup.sqlite3", tmp_path / "elsewhere"
    with writing(server) as writer:
        writer.wait_for_more()
        acknowledged = list(writer.acknowledged)
        assert main(["backup", str(file), "--data-dir", str(server.data_dir)]) == 0
        writer.wait_for_more()  # it was not held up
    assert restored(file, elsewhere) == 0
    found = ids_in(elsewhere)
    assert found[: len(acknowledged)] == acknowledged
    assert found == writer.acknowledged[: len(found)]


def test_a_server_on_what_was_restored_gives_the_same_bytes(
    server: ServerProcess, tmp_path: Path
) -> None:
    with connected(server) as client:
        asked = {"messages": [{"role": "user", "content": "Hello"}]}
        thread_id = client.post("/threads", asked)["id"]
        paths = [f"/threads/{thread_id}", f"/threads/{thread_id}/messages"]
        before = [client.get(path) for path in paths]
    assert main(["backup", str(tmp_path / "b"), "--data-dir", str(server.data_dir)]) == 0
    assert restored(tmp_path / "b", tmp_path / "elsewhere") == 0
    with running_server(tmp_path / "elsewhere") as other, connected(other) as client:
        assert [client.get(path) for path in paths] == before


def test_a_backup_is_one_file_that_only_its_owner_reads(backup: Path) -> None:
    assert {each.name for each in backup.parent.iterdir()} == {"data", backup.name}
    assert backup.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(f"{backup.as_uri()}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_backup_replaces_a_file_only_with_force(
    backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup.write_text("mine")
    command = ["backup", str(backup), "--data-dir", str(tmp_path / "data")]
    assert main(command) == 2
    assert backup.read_text() == "mine"
    assert capsys.readouterr().err.endswith(f"{backup} exists already; --force replaces it\n")
    assert main([*command, "--force"]) == 0
    assert restored(backup, tmp_path / "elsewhere") == 0


def test_a_backup_never_replaces_the_database_itself(message_id: str, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    assert main(["backup", str(data_dir / FILE_NAME), "--data-dir", str(data_dir), "--force"]) == 2
    assert ids_in(data_dir) == [message_id]


def test_a_backup_that_cannot_be_finished_leaves_nothing(message_id: str, tmp_path: Path) -> None:
    # Larger files than this fail, as on a full disk.
    program = (
        "import resource, signal, sys; from rethread.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = ["backup", str(tmp_path / "b"), "--data-dir", str(tmp_path / "data")]
    ended = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, check=False, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"rethread: cannot copy {tmp_path / 'data' / FILE_NAME}: ")
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


def test_a_backup_of_a_folder_without_a_database_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", str(tmp_path / "b"), "--data-dir", str(tmp_path / "data")]) == 2
    assert capsys.readouterr().err == f"rethread: there is no database in {tmp_path / 'data'}\n"


def test_a_restore_replaces_a_database_only_with_force(
    backup: Path, message_id: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    assert main(["keys", "create", "--project", "p", "--data-dir", str(other)]) == 0
    assert restored(backup, other) == 2
    assert ids_in(other) == []
    assert restored(backup, other, "--force") == 0
    assert ids_in(other) == [message_id]


def test_what_the_old_database_had_in_its_log_is_not_applied_to_the_new_one(
    backup: Path, message_id: str, tmp_path: Path
) -> None:
    program = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA journal_mode = WAL')\n"
        "connection.execute('DELETE FROM messages')\n"
        "os._exit(0)"  # as kill -9 leaves it
    )
    file = tmp_path / "data" / FILE_NAME
    subprocess.run([sys.executable, "-c", program, str(file)], check=True)
    assert file.with_name(f"{FILE_NAME}-wal").stat().st_size > 0
    assert restored(backup, tmp_path / "data", "--force") == 0
    assert ids_in(tmp_path / "data") == [message_id]


def test_a_log_without_its_database_is_not_applied_either(
    backup: Path, message_id: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{FILE_NAME}-wal").write_bytes(os.urandom(5000))
    assert restored(backup, elsewhere) == 0
    assert [each.name for each in elsewhere.glob(f"{FILE_NAME}*")] == [FILE_NAME]
    assert ids_in(elsewhere) == [message_id]


def test_a_damaged_database_can_be_replaced(backup: Path, message_id: str, tmp_path: Path) -> None:
    (tmp_path / "data" / FILE_NAME).write_bytes(b"no database")
    assert restored(backup, tmp_path / "data", "--force") == 0
    assert ids_in(tmp_path / "data") == [message_id]


def test_a_restore_is_refused_while_a_server_runs_there(
    backup: Path, server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restored(backup, server.data_dir, "--force") == 2
    assert f"another rethread serves the data directory {server.data_dir}" in (
        capsys.readouterr().err
    )
    assert ids_in(server.data_dir) == []


def test_a_restore_is_refused_while_another_program_uses_the_database(
    backup: Path, message_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "data" / FILE_NAME
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("SELECT * FROM messages").fetchall()
        assert restored(backup, tmp_path / "data", "--force") == 1
        assert capsys.readouterr().err.endswith(f"{file} is in use by another program\n")
    assert ids_in(tmp_path / "data") == [message_id]


def damaged(backup: Path) -> None:
    """Overwrites pages in the middle."""
    with backup.open("r+b") as opened:
        opened.seek(backup.stat().st_size // 2 // 4096 * 4096)
        opened.write(b"\xaa" * 8192)


def cut(backup: Path) -> None:
    """As an interrupted transfer leaves it."""
    os.truncate(backup, backup.stat().st_size - 4096)


def without_a_row_in_an_index(backup: Path) -> None:
    """What only the thorough check finds."""
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'UNIQUE INDEX', 'INDEX')"
            " WHERE name = 'messages_by_id'"
        )
        connection.execute("PRAGMA writable_schema = RESET")
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'messages_by_id'"
        ).fetchone()[0]
        connection.commit()
    with backup.open("r+b") as opened:
        opened.seek((root - 1) * 4096)
        opened.write(b"\x0a\0\0\0\0\x10\0\0")  # an empty leaf


def of_another_program(backup: Path) -> None:
    """A good SQLite database."""
    backup.unlink()
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("CREATE TABLE messages (id TEXT)")


def no_database(backup: Path) -> None:
    """Something else entirely."""
    backup.write_text("-- a dump\nCREATE TABLE messages (id TEXT);\n")


@pytest.mark.parametrize(
    "spoil", [damaged, cut, without_a_row_in_an_index, of_another_program, no_database]
)
def test_what_is_not_whole_or_not_ours_is_not_restored(
    spoil: Callable[[Path], None], backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(backup)
    capsys.readouterr()
    assert restored(backup, tmp_path / "data", "--force") == 1
    told = capsys.readouterr().err
    assert str(backup) in told
    assert "is damaged" in told or "no database of rethread" in told or "not a backup" in told
    assert len(ids_in(tmp_path / "data")) == 1
    left = [each.name for each in (tmp_path / "data").iterdir()]
    assert not [name for name in left if name.endswith(".part")]


def test_a_backup_of_a_newer_rethread_is_not_restored(
    backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        newer = latest_version() + 1
        connection.execute("INSERT INTO schema_versions VALUES (?, 'x')", (newer,))
        connection.commit()
    assert restored(backup, tmp_path / "elsewhere") == 2
    assert f"(its schema is version {newer}, this program knows" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere" / FILE_NAME).exists()
