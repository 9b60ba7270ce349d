"""The answers that Idempotency-Keys stand for, written in the transaction of what they answer."""

from typing import Final, Literal, NamedTuple

from rethread.store.database import Database, Statement

AnswerKind = Literal["json", "stream"]

ADD = """
INSERT INTO answers (project, key, request, kind, body, created_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (project, key) DO UPDATE
   SET request = excluded.request, kind = excluded.kind, body = excluded.body,
       created_at = excluded.created_at
 WHERE answers.created_at <= excluded.created_at - 86400
RETURNING key
"""
GET = "SELECT request, kind, body FROM answers WHERE project = $1 AND key = $2 AND created_at > $3"
FORGET = "DELETE FROM answers WHERE created_at <= $1"

KEPT_SECONDS: Final = 24 * 60 * 60


class Answer(NamedTuple):
    """A first answer: `request` is the hash of what was asked, `body` the JSON that was said.

    A stream's body names the run and the event after which it began.
    """

    request: bytes
    kind: AnswerKind
    body: bytes


def adding(project: str, key: str, answer: Answer, *, now: int) -> Statement:
    """The check that remembers an answer: refused if the key stands for one already.

    One that is past its time, though not cleaned away yet, gives its place up.
    """
    return Statement(ADD, project, key, *answer, now)


async def get(db: Database, project: str, key: str, *, now: int) -> Answer | None:
    """The answer that a key stands for."""
    rows = await db.read(GET, project, key, now - KEPT_SECONDS)
    return Answer(*rows[0]) if rows else None


async def forget(db: Database, *, now: int) -> None:
    """Drop the answers whose time is over."""
    await db.write(Statement(FORGET, now - KEPT_SECONDS))
