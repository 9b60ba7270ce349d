"""API keys: shown once, kept as a hash, good until revoked."""

from pathlib import Path

from rethread.store import keys
from rethread.store.database import Database
from rethread.store.sqlite import Sqlite
from tests.objects import NOW


async def test_a_key_opens_its_project_until_it_is_revoked(db: Database) -> None:
    key = await keys.create(db, project="shop", label=None, now=NOW)
    assert await keys.project_of(db, key.secret) == "shop"
    assert await keys.revoke(db, key.id, now=NOW + 1)
    assert await keys.project_of(db, key.secret) is None
    assert not await keys.revoke(db, key.id, now=NOW + 2)
    assert not await keys.revoke(db, "key_unknown", now=NOW)


async def test_no_other_text_opens_anything(db: Database) -> None:
    key = await keys.create(db, project="shop", label=None, now=NOW)
    for wrong in ("", key.secret[:-1], key.secret.upper(), key.id, "\udcff", "a\0b"):
        assert await keys.project_of(db, wrong) is None


async def test_the_secret_is_nowhere_on_disk(sqlite: Sqlite) -> None:
    key = await keys.create(sqlite, project="shop", label="till", now=NOW)
    files = list(Path(sqlite.place).parent.iterdir())
    content = b"".join(path.read_bytes() for path in files)
    assert key.id.encode() in content
    assert key.secret.removeprefix("sk-rethread-").encode() not in content


async def test_the_list_shows_every_key_and_no_secret(db: Database) -> None:
    first = await keys.create(db, project="shop", label="till", now=NOW)
    second = await keys.create(db, project="shop", label=None, now=NOW + 1)
    await keys.revoke(db, first.id, now=NOW + 2)
    listed = await keys.list_all(db)
    hint = f"…{first.secret[-4:]}"
    assert listed[0] == (first.id, "shop", "till", hint, NOW, NOW + 2)
    assert (listed[1].id, listed[1].revoked_at) == (second.id, None)


async def test_a_revoked_key_still_says_that_keys_were_made(db: Database) -> None:
    assert not await keys.any_made(db)
    key = await keys.create(db, project="shop", label=None, now=NOW)
    await keys.revoke(db, key.id, now=NOW)
    assert await keys.any_made(db)
