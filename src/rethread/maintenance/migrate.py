"""Brings a schema up to date without starting a server, as a deployment may want to."""

from pathlib import Path
from typing import NamedTuple

from rethread.store.database import connect, migrate, version


class Migrated(NamedTuple):
    """What a migration did: the versions it reached, of which other programs did none."""

    place: str
    reached: tuple[int, ...]
    version: int

    def __str__(self) -> str:
        if not self.reached:
            return f"The schema of {self.place} is current: version {self.version}."
        steps = ", ".join(map(str, self.reached))
        return f"The schema of {self.place} was brought to version {self.version} (step {steps})."


async def migrate_schema(data_dir: Path, url: str | None) -> Migrated:
    """Apply what is missing; of several programs that do so at once, each says what it did."""
    db = await connect(data_dir, url)
    try:
        return Migrated(db.place, tuple(await migrate(db)), await version(db))
    finally:
        await db.close()
