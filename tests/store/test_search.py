"""Search: found soon after it was said, gone at once with its message, never another project's."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from rethread.contract.messages import Message, RefusalPart, TextInput
from rethread.errors import Invalid, NotFound
from rethread.store import messages, search, threads
from rethread.store.database import Database, Statement, open_database
from rethread.store.pages import PageRequest, Window, ordered
from rethread.store.sqlite import Sqlite
from rethread.store.words import phrases_of, words_of
from tests.objects import NOW, PROJECT, a_message, some_id, stored_message, stored_thread

INDEX: Final = ("unindexed_messages", "message_texts")


async def indexed(db: Database) -> None:
    """Return when the index is up to date."""
    while (await search.index_some(db, rest_times=0)).has_more:
        pass


async def found(
    db: Database, query: str, *, project: str = PROJECT, **asked: Any
) -> tuple[list[str], bool]:
    """The ids that a page of results names, and whether there are more behind."""
    page = await search.page(db, project, phrases_of(query), PageRequest(**asked))
    return [id for id, _ in page.rows], page.has_more


async def said(db: Database, *texts: str, thread_id: str | None = None) -> list[str]:
    """The ids of messages that were added and indexed, one after the other."""
    thread_id = thread_id or await stored_thread(db)
    ids = [(await stored_message(db, thread_id, text)).id for text in texts]
    await indexed(db)
    return ids


def being_written(thread_id: str) -> Message:
    """A message that a run has begun."""
    message = a_message(thread_id, role="assistant", status="in_progress")
    return structs.replace(message, content=[])


async def counts(db: Database) -> list[int]:
    """How many rows are in the tables of the index, its words too where they are apart."""
    tables = [*INDEX, *(["message_words"] if db.dialect == "sqlite" else [])]
    return [(await db.read(f"SELECT COUNT(*) FROM {table}"))[0][0] for table in tables]


async def test_the_newest_message_that_has_the_words_comes_first(db: Database) -> None:
    thread_id = await stored_thread(db)
    first, _, third = await said(db, "A blue whale", "A red whale", "Whales? A whale so blue!")
    (last,) = await said(db, "The BLUE Whale", thread_id=thread_id)
    assert await found(db, "whale blue") == ([last, third, first], False)
    assert await found(db, '"blue whale"') == ([last, first], False)
    assert await found(db, "whales") == ([third], False)
    assert await found(db, "yellow whale") == ([], False)


async def test_a_message_is_found_once_it_was_indexed_and_not_before(db: Database) -> None:
    thread_id = await stored_thread(db)
    message = await stored_message(db, thread_id, "whale")
    assert await found(db, "whale") == ([], False)
    await indexed(db)
    assert await found(db, "whale") == ([message.id], False)
    assert (await counts(db))[0] == 0


async def test_a_run_s_message_is_found_when_it_is_finished(db: Database) -> None:
    thread_id = await stored_thread(db)
    begun = being_written(thread_id)
    await db.write(*messages.appending(begun, msgspec.json.encode(begun)))
    await indexed(db)
    assert await counts(db) == [0] * len(await counts(db))
    ended = a_message(thread_id, "whale", id=begun.id, role="assistant")
    await db.write(*messages.finishing(ended, msgspec.json.encode(ended)))
    await indexed(db)
    assert await found(db, "whale") == ([begun.id], False)


async def test_a_message_that_was_being_written_when_it_was_looked_at_is_found_later(
    db: Database,
) -> None:
    """As after an upgrade, which has all messages looked at."""
    thread_id = await stored_thread(db)
    begun = being_written(thread_id)
    queuing = search.queuing(thread_id, begun.id)
    await db.write(*messages.appending(begun, msgspec.json.encode(begun)), queuing)
    await indexed(db)
    ended = a_message(thread_id, "whale", id=begun.id, role="assistant")
    await db.write(*messages.finishing(ended, msgspec.json.encode(ended)), queuing)
    await indexed(db)
    assert await found(db, "whale") == ([begun.id], False)


async def test_all_texts_of_a_message_are_searched_and_its_refusals(db: Database) -> None:
    thread_id = await stored_thread(db)
    message = await stored_message(db, thread_id, [TextInput("blue"), TextInput("whale")])
    refusal = structs.replace(
        a_message(thread_id),
        content=[RefusalPart("No whale.")],
    )
    body = msgspec.json.encode(refusal)
    await messages.add(db, PROJECT, refusal, body)
    await indexed(db)
    assert await found(db, "whale") == ([refusal.id, message.id], False)
    assert await found(db, "blue") == ([message.id], False)


async def test_a_deleted_message_is_gone_at_once_and_later_from_the_index(db: Database) -> None:
    thread_id = await stored_thread(db)
    first, second = await said(db, "blue whale", "whale", thread_id=thread_id)
    await messages.delete(db, PROJECT, thread_id, first, now=NOW)
    assert await found(db, "whale") == ([second], False)
    assert await found(db, "blue") == ([], False)
    await indexed(db)
    assert await counts(db) == [0, *[1] * (len(await counts(db)) - 1)]


async def test_a_deleted_thread_is_gone_at_once_and_later_from_the_index(db: Database) -> None:
    (kept,) = await said(db, "whale")
    thread_id = await stored_thread(db)
    await said(db, *["whale"] * 7, thread_id=thread_id)
    await stored_message(db, thread_id, "whale")
    await threads.delete(db, PROJECT, thread_id)
    for limit in (1, 2, 7, 8, 20):
        assert await found(db, "whale", limit=limit) == ([kept], False)
        assert await found(db, "whale", limit=limit, before=kept) == ([], False)
        assert await found(db, "whale", limit=limit, order="asc") == ([kept], False)
    while await threads.purge_some(db):
        pass
    await indexed(db)
    assert await found(db, "whale") == ([kept], False)
    assert await counts(db) == [0, *[1] * (len(await counts(db)) - 1)]


async def test_a_message_that_is_deleted_before_it_is_indexed_never_is(db: Database) -> None:
    thread_id = await stored_thread(db)
    message = await stored_message(db, thread_id, "whale")
    await messages.delete(db, PROJECT, thread_id, message.id, now=NOW)
    await indexed(db)
    assert await counts(db) == [0] * len(await counts(db))


async def test_another_project_s_messages_are_never_found(db: Database) -> None:
    (mine,) = await said(db, "whale")
    thread_id = await stored_thread(db, project="other")
    message = a_message(thread_id, "a whale")
    await messages.add(db, "other", message, msgspec.json.encode(message))
    await indexed(db)
    assert await found(db, "whale") == ([mine], False)
    assert await found(db, "whale", project="other") == ([message.id], False)
    assert await found(db, "whale", project="nobody's") == ([], False)
    with pytest.raises(NotFound, match=f"No message found with id '{message.id}'"):
        await found(db, "whale", after=message.id)


async def test_pages_stay_right_while_others_add_and_delete(db: Database) -> None:
    thread_id, passing = await stored_thread(db), await stored_thread(db)
    ids = await said(db, *[f"whale {n}" for n in range(9)], thread_id=thread_id)
    await said(db, "whale", thread_id=passing)
    seen, more = await found(db, "whale", limit=2)
    await threads.delete(db, PROJECT, passing)
    while await threads.purge_some(db):
        pass
    while more:
        await said(db, "whale")
        following, more = await found(db, "whale", limit=2, after=seen[-1])
        seen += following
        gone = seen[-1]
        await messages.delete(db, PROJECT, thread_id, gone, now=NOW)
        await indexed(db)
    assert seen[1:] == ids[::-1]


async def test_pages_go_both_ways_as_those_of_other_lists(db: Database) -> None:
    ids = await said(db, *["whale"] * 5, "shark")
    shark = ids.pop()
    assert await found(db, "whale", order="asc", limit=2) == (ids[:2], True)
    assert await found(db, "whale", order="asc", after=ids[2]) == (ids[3:], False)
    assert await found(db, "whale", before=ids[2]) == ([ids[4], ids[3]], False)
    assert await found(db, "whale", before=shark) == ([], False)
    assert await found(db, "shark", after=ids[4]) == ([], False)
    assert await found(db, "shark", before=ids[4]) == ([shark], False)
    with pytest.raises(Invalid, match="begins with 'msg'"):
        await found(db, "whale", after="thread_1")
    with pytest.raises(NotFound):
        await found(db, "whale", after=some_id("msg"))


@pytest.mark.parametrize("margin", [1e-9, 1e9], ids=["frequent", "rare"])
async def test_pages_go_on_from_what_is_near_to_all_the_rest(
    db: Database, monkeypatch: pytest.MonkeyPatch, margin: float
) -> None:
    monkeypatch.setattr(search, "NEAR", 3)
    monkeypatch.setattr(search, "NEAR_MARGIN", margin)  # whatever the planner's estimate
    ids = await said(db, *[f"whale {'shark' * (n % 2)}" for n in range(12)])
    for order in ("asc", "desc"):
        listed = ids if order == "asc" else ids[::-1]
        for limit in range(1, 13):
            for place in range(12):
                after, before = listed[place], listed[place]
                left = listed[place + 1 :]
                page = await found(db, "whale", order=order, limit=limit, after=after)
                assert page == (left[:limit], len(left) > limit)
                page = await found(db, "whale", order=order, limit=limit, before=before)
                assert page == (listed[:place][-limit:], place > limit)
    assert await found(db, "shark", limit=4) == (ids[1::2][::-1][:4], True)
    assert await found(db, "shark", limit=4, after=ids[5]) == ([ids[3], ids[1]], False)


async def test_what_matches_is_read_in_order_and_no_further_than_the_page(sqlite: Sqlite) -> None:
    for is_ascending in (False, True):
        window = Window(1, 9, is_ascending, is_turned=False)
        sql = ordered(search.FIND["sqlite"], window, arguments=2)
        plan = await sqlite.read(f"EXPLAIN QUERY PLAN {sql}", PROJECT, "whale", 1, 9, 21)
        first, second = (row[3] for row in plan)
        assert first.startswith("SCAN message_words VIRTUAL TABLE")
        assert first.endswith("M1><")  # the words, and both ends of the window
        assert "(project=? AND number=?)" in second


async def test_two_servers_at_once_index_each_message_once(db: Database) -> None:
    thread_id = await stored_thread(db)
    ids = [(await stored_message(db, thread_id, "whale")).id for _ in range(120)]
    await asyncio.gather(*(indexed(db) for _ in range(4)))
    seen: list[str] = []
    more = True
    while more:
        page, more = await found(db, "whale", limit=50, **({"after": seen[-1]} if seen else {}))
        seen += page
    assert seen == ids[::-1]
    assert (await counts(db))[:2] == [0, 120]


async def test_what_a_server_claimed_and_left_is_taken_up_by_another(db: Database) -> None:
    thread_id = await stored_thread(db)
    message = await stored_message(db, thread_id, "whale")
    assert await db.write(Statement(search.CLAIM))
    assert await search.index_some(db) == (False, {})
    assert await found(db, "whale") == ([], False)
    await db.write(Statement("UPDATE unindexed_messages SET claimed_until = 0"))
    await indexed(db)
    assert await found(db, "whale") == ([message.id], False)


async def test_a_message_that_cannot_be_indexed_keeps_no_other_out(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id = await stored_thread(db)
    texts = ("whale", "whale bad", "whale odd", "whale")
    before, bad, odd, after = [await stored_message(db, thread_id, text) for text in texts]

    def broken(text: str) -> list[str]:
        assert "bad" not in text
        return ["\ud800" if word == "odd" else word for word in words_of(text)]

    monkeypatch.setattr(search, "words_of", broken)
    indexed = await search.index_some(db)
    assert (indexed.has_more, set(indexed.failed)) == (False, {bad.id, odd.id})
    assert await found(db, "whale") == ([after.id, before.id], False)
    assert (await counts(db))[0] == 0


LONG: Final = {
    "many words": " ".join(f"w{n}" for n in range(30_000)),
    "one word often": "the " * 15_000 + "lighthouse of the keeper",
    "a long word": "x" * 250_000,
    "far away": "い" * 250_000,
    "every character": "".join(chr(n) for n in range(0x110000) if not 0xD800 <= n <= 0xDFFF)[
        : 256 * 1024
    ],
    "rare characters": "".join(chr(0x10400 + n % 40) for n in range(250_000)),
    "distinct": "".join(chr(0x20000 + n) + " " for n in range(40_000)),
}


@pytest.mark.parametrize("name", LONG)
async def test_the_longest_messages_can_be_indexed_as_far_as_the_index_goes(
    db: Database, name: str
) -> None:
    text = LONG[name]
    (id,) = await said(db, text)
    assert (await counts(db))[:2] == [0, 1]
    assert await found(db, words_of(text)[0]) == ([id], False)


async def test_a_phrase_is_found_behind_a_word_that_is_there_thousands_of_times(
    db: Database,
) -> None:
    (id,) = await said(db, LONG["one word often"])
    assert await found(db, '"the lighthouse of the keeper"') == ([id], False)
    assert await found(db, '"the keeper"') == ([id], False)
    assert await found(db, '"the of"') == ([], False)


@pytest.mark.parametrize("query", ["い" * 1000, " ".join("い" * 500), '"' + "い " * 499 + '"'])
async def test_the_longest_queries_are_answered(db: Database, query: str) -> None:
    (id,) = await said(db, "い" * 1200)
    assert await found(db, query) == ([id], False)
    assert await found(db, query + "う") == ([], False)


WORDS: Final = ("a", "b", "ab", "é", "E", "東", "京", "ß", "_", "1", "-", "ﬁ", "の", "i", "İ")
TEXTS: Final = st.lists(
    st.lists(st.sampled_from([*WORDS, " ", " ", ".", "\n"]), max_size=12).map("".join),
    min_size=1,
    max_size=8,
)
QUERIES: Final = st.lists(
    st.lists(st.sampled_from([*WORDS, " ", '"', " "]), min_size=1, max_size=6).map("".join),
    min_size=5,
    max_size=5,
)


@given(texts=TEXTS, queries=QUERIES)
@settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_search_finds_what_a_plain_filter_of_the_words_finds(
    tmp_path: Path, database_url: str | None, texts: Sequence[str], queries: Sequence[str]
) -> None:
    asyncio.run(_compare(tmp_path / "data", database_url, texts, queries))


async def _compare(
    folder: Path, url: str | None, texts: Sequence[str], queries: Sequence[str]
) -> None:
    db = await open_database(folder, url)
    project = some_id()  # the examples share a database
    thread_id = await stored_thread(db, project=project)
    ids = {}
    for text in texts:
        message = a_message(thread_id, text)
        await messages.add(db, project, message, msgspec.json.encode(message))
        ids[message.id] = text
    await indexed(db)
    for query in queries:
        phrases = phrases_of(query)
        expected = [id for id in reversed(ids) if all(has(ids[id], each) for each in phrases)]
        if phrases:
            assert await found(db, query, project=project) == (expected, False), query
    await db.close()


def has(text: str, phrase: Sequence[str]) -> bool:
    """Whether the words of a phrase stand in a text side by side."""
    words = tuple(words_of(text))
    return any(words[place : place + len(phrase)] == phrase for place in range(len(words)))
