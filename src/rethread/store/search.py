"""The search index: which words stand in which message, and finding messages by them.

A message is put in a queue in the write that adds, finishes or deletes it; a chore brings the
index up to date soon after. A result is always read from its message, so one that was deleted
never shows, whatever the index still has. Results are in the order of the queue.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, Literal, NamedTuple

import msgspec

from rethread.contract.messages import Message, RefusalPart, TextPart, decode_message
from rethread.errors import Unavailable
from rethread.store.database import Database, Row, Statement
from rethread.store.pages import Found, Listing, PageRequest, Window, ordered, page_of, window_of
from rethread.store.words import Phrase, words_of

Dialect = Literal["sqlite", "postgresql"]

AT_ONCE: Final = 50  # messages; bounds how long other writes wait for theirs
REST_TIMES: Final = 9  # as long as it took: requests go first, and a backlog can wait
CLAIM_MILLISECONDS: Final = 30_000
PURGED_AT_ONCE: Final = 500
NEAR: Final = 100_000  # messages that are looked at one by one at most
NEAR_MARGIN: Final = 5  # how far the planner's estimate may be off
DELETED_AT_ONCE: Final = 500  # passed over, where a page meets some that the index still has
# What PostgreSQL's index can hold of a message, and so what either holds: places in a text
# have 14 bits there, a text 1 MiB, and a word 255 places.
MAX_WORDS: Final = 16_000
MAX_CHARACTERS: Final = 200_000
MAX_PLACES: Final = 255
CROWDED: Final = "'¶'"  # in the index, for a text in which a word has more places

QUEUE = "INSERT INTO unindexed_messages (thread_id, message_id) VALUES ($1, $2)"
# A claim is a commit, even where there is nothing to claim.
ANY = "SELECT 1 FROM unindexed_messages WHERE claimed_until < {now} LIMIT 1"
# What a server has claimed is another's if it was not done in time.
CLAIM = f"""
UPDATE unindexed_messages SET claimed_until = {{now}} + {CLAIM_MILLISECONDS}
 WHERE number IN (SELECT number FROM unindexed_messages WHERE claimed_until < {{now}}
                   ORDER BY number LIMIT {AT_ONCE} {{skip_locked}})
RETURNING number, thread_id, message_id
"""
DONE = "DELETE FROM unindexed_messages WHERE number = $1"
BODIES = """
SELECT unindexed_messages.number, threads.project, messages.body
  FROM unindexed_messages
  JOIN threads ON threads.id = unindexed_messages.thread_id
  JOIN messages ON messages.thread_id = unindexed_messages.thread_id
               AND messages.id = unindexed_messages.message_id
 WHERE unindexed_messages.number >= $1 AND unindexed_messages.number <= $2
"""
# A message that has gone meanwhile is left out.
# differs: SQLite has the words in a table of their own, PostgreSQL in a column.
ADD = {
    "sqlite": (
        """
INSERT INTO message_texts (project, number, thread_id, message_id)
SELECT threads.project, $1, messages.thread_id, messages.id
  FROM messages JOIN threads ON threads.id = messages.thread_id
 WHERE messages.thread_id = $2 AND messages.id = $3
ON CONFLICT DO NOTHING
""",
        """
INSERT INTO message_words (rowid, words)
SELECT number, $4 FROM message_texts WHERE message_id = $3 AND number = $1
""",
    ),
    "postgresql": (
        """
INSERT INTO message_texts (project, number, thread_id, message_id, words)
SELECT threads.project, CAST($1 AS BIGINT), messages.thread_id, messages.id,
       CAST(CAST($4 AS TEXT) AS TSVECTOR)
  FROM messages JOIN threads ON threads.id = messages.thread_id
 WHERE messages.thread_id = $2 AND messages.id = $3
ON CONFLICT DO NOTHING
""",
    ),
}
# A cursor may name a message that has gone.
REMEMBER = """
INSERT INTO tombstones (scope, id, number, deleted_at)
SELECT project, message_id, number, CAST({now} / 1000 AS BIGINT) FROM message_texts
"""
FORGET = "DELETE FROM message_texts"
# differs: in PostgreSQL the words go with their row.
FORGET_WORDS = {
    "sqlite": ("DELETE FROM message_words WHERE rowid IN (SELECT number FROM message_texts {})",),
    "postgresql": (),
}
OF_MESSAGE: Final = "WHERE message_id = $1"
OF_THREAD: Final = "WHERE thread_id = $1 AND number <= $2"
OLDEST_OF_THREAD = f"""
SELECT MAX(number) FROM (
    SELECT number FROM message_texts WHERE thread_id = $1 ORDER BY number LIMIT {PURGED_AT_ONCE}
) AS oldest
"""

# differs: each has its own way to say that words match. SQLite finds them in the order of their
# numbers, as long as it is told to begin with the words, and which number it is.
FIND = {
    "sqlite": """
SELECT number, thread_id, message_id FROM (
    SELECT message_words.rowid AS number, message_texts.thread_id, message_texts.message_id
      FROM message_words CROSS JOIN message_texts
     WHERE message_words MATCH $2
       AND message_texts.project = $1 AND message_texts.number = message_words.rowid) AS matching
 WHERE number IS NOT NULL
""",
    "postgresql": """
SELECT number, thread_id, message_id FROM message_texts
 WHERE project = $1 AND (words @@ CAST(CAST($2 AS TEXT) AS TSQUERY)) IS TRUE
""",
}
# PostgreSQL has two ways. IS TRUE has it look at one message after the other, which is best for
# a frequent word; but if all that have the word are old, it would look at every message since, so
# it may do that with some. OFFSET 0 has it gather all that match, which is best for the others.
FIND_ALL = """
SELECT number, thread_id, message_id FROM (
    SELECT number, thread_id, message_id FROM message_texts
     WHERE project = $1 AND words @@ CAST(CAST($2 AS TEXT) AS TSQUERY) OFFSET 0) AS matching
 WHERE number IS NOT NULL
"""
ESTIMATE = """
EXPLAIN (FORMAT JSON) SELECT 1 FROM message_texts
 WHERE words @@ CAST(CAST($2 AS TEXT) AS TSQUERY)
"""
ENDS = """
SELECT MIN(number), MAX(number) FROM message_texts
 WHERE project = $1 AND number > $2 AND number < $3
"""
# The messages are looked up for the page alone: PostgreSQL's planner would take them for a reason
# to look at all that match. A row without a body is one of a message that was deleted.
READ = """
SELECT hits.number, messages.id, messages.body
  FROM ({hits}) AS hits
  LEFT JOIN threads ON threads.id = hits.thread_id
  LEFT JOIN messages ON messages.thread_id = threads.id AND messages.id = hits.message_id
 ORDER BY hits.number {direction}
"""
LISTING = Listing(
    noun="message",
    prefix="msg",
    select="",
    number="SELECT number FROM message_texts WHERE project = $1 AND message_id = $2",
)


def queuing(thread_id: str, message_id: str) -> Statement:
    """The statement that has the index look at a message: it has come, or has gone."""
    return Statement(QUEUE, thread_id, message_id)


async def page(db: Database, project: str, phrases: Sequence[Phrase], asked: PageRequest) -> Found:
    """A page of the project's messages in which all the phrases stand."""
    window = await window_of(db, LISTING, asked, project)
    wanted = _asked(db.dialect, project, phrases)
    found: list[tuple[str, bytes]] = []
    at_once = asked.limit + 1
    for part in await _parts(db, project, wanted, window, at_once=at_once):
        async for rows in _read(db, project, wanted, part, at_once=at_once):
            found += rows
            if len(found) > asked.limit:
                return page_of(found[: asked.limit + 1], asked, window)
    return page_of(found, asked, window)


class Indexed(NamedTuple):
    """What came of a look at the queue: whether there may be more in it, and what went wrong."""

    has_more: bool
    failed: Mapping[str, Exception]  # messages that cannot be found, by id


async def index_some(db: Database, *, rest_times: float = REST_TIMES) -> Indexed:
    """Bring the index up to date with a few messages; one that cannot be keeps no other out.

    Where more wait, it rests before it returns.
    """
    started = time.monotonic()
    claimed = sorted(await db.write(Statement(CLAIM))) if await db.read(ANY) else []
    if not claimed:
        return Indexed(False, {})
    found = await db.read(BODIES, claimed[0][0], claimed[-1][0])
    bodies = {number: (project, body) for number, project, body in found}
    failed: dict[str, Exception] = {}
    # In a thread: a long text would hold the loop up.
    changes = await asyncio.to_thread(_changes, db.dialect, claimed, bodies, failed)
    try:
        # Those that are alike one after the other: PostgreSQL is told them as one.
        await db.write(*filter(None, chain.from_iterable(zip_longest(*changes))))
    except Unavailable:
        raise
    except Exception:  # whatever one of them breaks, the others are found; what broke is told
        await _one_by_one(db, claimed, changes, failed)
    has_more = len(claimed) == AT_ONCE
    if has_more:
        await asyncio.sleep(rest_times * (time.monotonic() - started))
    return Indexed(has_more, failed)


async def forget_some(db: Database, thread_id: str) -> bool:
    """Take some of a deleted thread's messages out of the index; whether there were any."""
    last = (await db.read(OLDEST_OF_THREAD, thread_id))[0][0]
    if last is None:
        return False
    await db.write(*_forgetting(db.dialect, OF_THREAD, thread_id, last))
    return True


def text_of(message: Message) -> str:
    """What is said in a message."""
    texts = (
        part.text.value if isinstance(part, TextPart) else part.refusal
        for part in message.content
        if isinstance(part, TextPart | RefusalPart)
    )
    return "\n".join(texts)


def _changes(
    dialect: Dialect,
    claimed: Sequence[Row],
    bodies: Mapping[int, tuple[str, bytes]],
    failed: dict[str, Exception],
) -> list[list[Statement]]:
    """For each row of the queue what it asks for, and that it is done."""
    changes = []
    for number, thread_id, message_id in claimed:
        asked: list[Statement] = []
        try:
            if number in bodies:
                words = _words_in(*bodies[number])
                asked = _adding(dialect, number, thread_id, message_id, words)
            else:
                asked = _forgetting(dialect, OF_MESSAGE, message_id)
        except Exception as problem:  # whatever it is, the others go on
            failed[message_id] = problem
        changes.append([*asked, Statement(DONE, number)])
    return changes


def _adding(
    dialect: Dialect, number: int, thread_id: str, message_id: str, words: Sequence[str]
) -> list[Statement]:
    if not words:
        return []
    written = vector(words) if dialect == "postgresql" else " ".join(words)
    return [Statement(sql, number, thread_id, message_id, written) for sql in ADD[dialect]]


def _forgetting(dialect: Dialect, which: str, *arguments: Any) -> list[Statement]:
    return [
        Statement(f"{REMEMBER} {which} ON CONFLICT DO NOTHING", *arguments),
        *(Statement(sql.format(which), *arguments) for sql in FORGET_WORDS[dialect]),
        Statement(f"{FORGET} {which}", *arguments),
    ]


async def _one_by_one(
    db: Database,
    claimed: Sequence[Row],
    changes: Sequence[Sequence[Statement]],
    failed: dict[str, Exception],
) -> None:
    for (number, _, message_id), change in zip(claimed, changes, strict=True):
        try:
            await db.write(*change)
        except Unavailable:
            raise
        except Exception as problem:
            failed[message_id] = problem
            await db.write(Statement(DONE, number))


def _words_in(project: str, body: bytes) -> list[str]:
    """The words that the index has for a message: none while it is being written."""
    message = decode_message(body)
    if message.status == "in_progress":
        return []  # it is queued again when it is finished
    words = words_of(text_of(message)[:MAX_CHARACTERS])[:MAX_WORDS]
    return [project_word(project), *words] if words else []


def project_word(project: str) -> str:
    """A word that no text has; with it the index finds what is the project's, and no more."""
    return f"§{hashlib.sha256(project.encode()).hexdigest()[:12]}"


def vector(words: Sequence[str]) -> str:
    """The words with their places, as PostgreSQL reads them.

    A word has room for some places only. The next ones are those of the word with a number
    behind it, which no text has: there is a space in it. CROWDED says that there are such.
    """
    places: dict[str, list[str]] = {}
    for place, word in enumerate(words, 1):
        places.setdefault(word, []).append(str(place))
    lexemes = [
        f"'{word}{f' {start}' if start else ''}':{','.join(found[start : start + MAX_PLACES])}"
        for word, found in places.items()
        for start in range(0, len(found), MAX_PLACES)
    ]
    return " ".join(lexemes if len(lexemes) == len(places) else [*lexemes, CROWDED])


def _asked(dialect: Dialect, project: str, phrases: Sequence[Phrase]) -> str:
    """What the database is asked, in its language: all the phrases, in this project."""
    wanted = [(project_word(project),), *phrases]
    if dialect == "sqlite":
        return " AND ".join(f'"{" ".join(phrase)}"' for phrase in wanted)
    return " & ".join(_asked_phrase(phrase) for phrase in wanted)


def _asked_phrase(phrase: Phrase) -> str:
    if len(phrase) == 1:
        return f"'{phrase[0]}'"
    plain = " <-> ".join(f"'{word}'" for word in phrase)
    crowded = " <-> ".join(f"('{word}' | '{word} ':*)" for word in phrase)
    # The second part alone would do, but how often a beginning comes the planner cannot know.
    return f"(({plain}) | ({CROWDED} & ({crowded})))"


class _Part(NamedTuple):
    """Some of what a page may be found in, and the SQL that finds it there."""

    window: Window
    find: str


async def _parts(
    db: Database, project: str, wanted: str, window: Window, *, at_once: int
) -> list[_Part]:
    """Where to look, one after the other."""
    if db.dialect == "sqlite":
        return [_Part(window, FIND[db.dialect])]
    first, last = (await db.read(ENDS, project, window.low, window.high))[0]
    if first is None:
        return []
    estimate = msgspec.json.decode((await db.read(_with_values(ESTIMATE, wanted)))[0][0])
    matching = max(1, estimate[0]["Plan"]["Plan Rows"])
    if at_once * (last - first) / matching > NEAR / NEAR_MARGIN:
        return [_Part(window, FIND_ALL)]
    if window.ascending:
        ends = window._replace(high=first + NEAR), window._replace(low=first + NEAR - 1)
    else:
        ends = window._replace(low=last - NEAR), window._replace(high=last - NEAR + 1)
    near, rest = _Part(ends[0], FIND[db.dialect]), _Part(ends[1], FIND_ALL)
    return [near, rest] if last - first >= NEAR else [near]


async def _read(
    db: Database, project: str, wanted: str, part: _Part, *, at_once: int
) -> AsyncIterator[list[tuple[str, bytes]]]:
    """What is found in a part, some and some more."""
    window, find = part
    direction = "ASC" if window.ascending else "DESC"
    while True:
        sql = READ.format(hits=ordered(find, window, arguments=2), direction=direction)
        asked = (wanted, window.low, window.high, at_once)
        if db.dialect == "postgresql":
            rows = await db.read(_with_values(sql, *asked), project)
        else:
            rows = await db.read(sql, project, *asked)
        yield [(id, body) for _, id, body in rows if body is not None]
        if len(rows) < at_once:
            return
        last = rows[-1][0]  # there were deleted ones among them
        window = window._replace(low=last) if window.ascending else window._replace(high=last)
        at_once = DELETED_AT_ONCE


def _with_values(sql: str, wanted: str, *numbers: int) -> str:
    """The SQL with its arguments in it, from $2 on.

    differs: PostgreSQL would soon have one plan for all searches, made for none of them; the best
    for a frequent word takes minutes with a rare one. In `wanted` are words and its own signs.
    """
    literal = wanted.replace("'", "''")
    for place, value in enumerate((f"'{literal}'", *map(str, numbers)), 2):
        sql = sql.replace(f"${place}", value)
    return sql
