"""API keys. Only a hash is kept: SHA-256 is enough for a secret of 256 random bits."""

import hashlib
import secrets
from typing import Final, NamedTuple

from rethread.contract import new_id
from rethread.store.database import Database, Statement

ADD = """
INSERT INTO api_keys (id, project, label, hint, hash, created_at) VALUES ($1, $2, $3, $4, $5, $6)
"""
LIST = (
    "SELECT id, project, label, hint, created_at, revoked_at FROM api_keys ORDER BY created_at, id"
)
REVOKE = "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING id"
PROJECT = "SELECT project FROM api_keys WHERE hash = $1 AND revoked_at IS NULL"
ANY = "SELECT 1 FROM api_keys LIMIT 1"

PREFIX: Final = "sk-rethread-"
LENGTH: Final = len(PREFIX) + 43  # 32 bytes in URL-safe base 64


class CreatedKey(NamedTuple):
    """A new key; the secret is shown this once."""

    id: str
    project: str
    secret: str


class KeyInfo(NamedTuple):
    """A key without its secret; times are Unix seconds."""

    id: str
    project: str
    label: str | None
    hint: str
    created_at: int
    revoked_at: int | None


async def create(db: Database, *, project: str, label: str | None, now: int) -> CreatedKey:
    """Make a key for a project."""
    secret = PREFIX + secrets.token_urlsafe(32)
    key_id = new_id("key")
    await db.write(Statement(ADD, key_id, project, label, f"…{secret[-4:]}", _hash(secret), now))
    return CreatedKey(key_id, project, secret)


async def list_all(db: Database) -> list[KeyInfo]:
    """Every key, the oldest first."""
    return [KeyInfo(*row) for row in await db.read(LIST)]


async def revoke(db: Database, key_id: str, *, now: int) -> bool:
    """Whether there was such a key in force; it is not any more."""
    return bool(await db.write(Statement(REVOKE, key_id, now)))


def may_be_key(secret: str) -> bool:
    """Whether it has the shape of a key; what has not need not be looked up."""
    return len(secret) == LENGTH and secret.startswith(PREFIX)


async def project_of(db: Database, secret: str) -> str | None:
    """The project that a secret opens."""
    rows = await db.read(PROJECT, _hash(secret))
    return str(rows[0][0]) if rows else None


async def any_made(db: Database) -> bool:
    """Whether a key was ever made, revoked or not."""
    return bool(await db.read(ANY))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
