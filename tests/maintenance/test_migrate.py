"""`rethread migrate` says what it did, and ten at once do it once."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rethread.store.database import latest_version
from tests.postgres import Postgres


@pytest.fixture
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The flag that names a database without a schema."""
    if request.param == "sqlite":
        yield ["--data-dir", str(tmp_path / "data")]
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.empty_database()
    yield ["--database-url", url]
    postgres.drop(url)


on_both = pytest.mark.parametrize("new_place", ["sqlite", "postgresql"], indirect=True)


def migrate(place: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "rethread", "migrate", *place]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@on_both
def test_of_ten_migrations_at_once_one_does_it_and_the_others_find_it_done(
    new_place: list[str],
) -> None:
    with ThreadPoolExecutor(10) as pool:
        ended = list(pool.map(migrate, [new_place] * 10))
    assert [each.stderr for each in ended if each.returncode] == []
    did = [each.stdout for each in ended if "is current" not in each.stdout]
    # On SQLite there may be several who took a step each; no step was taken twice.
    steps = [number for each in did for number in each.split("(step ")[1].split(")")[0].split(", ")]
    assert sorted(map(int, steps)) == list(range(1, latest_version() + 1))


@on_both
def test_a_schema_that_is_current_is_left_alone(new_place: list[str]) -> None:
    migrate(new_place)
    told = migrate(new_place).stdout
    assert told.endswith(f" is current: version {latest_version()}.\n")


def test_a_password_is_not_shown(postgres_url: str) -> None:
    parts = urlsplit(postgres_url)
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}:hush@{host}"
    ended = migrate(["--database-url", parts._replace(netloc=netloc).geturl()])
    assert parts.path in ended.stdout + ended.stderr
    assert "hush" not in ended.stdout + ended.stderr
