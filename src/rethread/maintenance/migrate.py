"""Brings a schema up to date without starting a server, as a deployment may want to."""

from pathlib import Path
from typing import NamedTuple

from rethread.store.database import connect, migrate, version


class Migrated(NamedTuple):
    """What a migration did: nothing, if `before` is `after`."""

    place: str
    before: int
    after: int

    def __str__(self) -> str:
        if self.before == self.after:
            return f"The schema of {self.place} is current: version {self.after}."
        return f"The schema of {self.place}: from version {self.before} to {self.after}."


async def migrate_schema(data_dir: Path, url: str | None) -> Migrated:
    """Apply what is missing; of several programs that do so at once, each says what it did."""
    db = await connect(data_dir, url)
    try:
        reached = await migrate(db)
        after = await version(db)
    finally:
        await db.close()
    return Migrated(db.place, reached[0] - 1 if reached else after, after)
