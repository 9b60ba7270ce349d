"""Search finds what fits best, in the stores that were named and within the filter."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from rethread.contract.filters import And, Eq, Filter, Gt, Gte, In, Lt, Lte, Ne, Nin, Or
from rethread.errors import Conflict, NotFound
from rethread.store import chunk_lists, near_postgres, near_sqlite
from rethread.store.chunk_words import names
from rethread.store.database import Database, Statement
from rethread.tools.file_search import word_lists
from rethread.tools.file_search.search import HybridSearch, Passage, Search
from tests.tools.file_search.stores import NOW, PROJECT, WordEmbedder, new_file, new_store

ANIMALS = WordEmbedder({"cat": "feline", "kitten": "feline", "tomcat": "feline", "dog": "canine"})


async def found(search: Search, query: str, *stores: str, **options: Any) -> list[str]:
    return [passage.file_id for passage in await passages(search, query, *stores, **options)]


async def passages(
    search: Search, query: str, *stores: str, limit: int = 10, **options: Any
) -> list[Passage]:
    return await search.search(
        PROJECT,
        stores or ("vs_a",),
        [query],
        limit=limit,
        now=NOW,
        **options,
    )


async def test_rare_words_count_more_and_the_scores_sink_from_one_to_nought(db: Database) -> None:
    await new_store(db, "vs_a")
    for n in range(8):
        await new_file(db, "vs_a", f"file-{n}", f"the common words of file number {n}")
    await new_file(db, "vs_a", "file-rare", "the platypus")
    hits = await passages(Search(db, None), "the common platypus")
    assert hits[0].file_id == "file-rare"
    scores = [hit.score for hit in hits]
    assert len(hits) == 9
    assert scores == sorted(scores, reverse=True)
    assert 1 >= scores[0] > scores[-1] > 0
    threshold = scores[0] - 0.01
    assert await found(Search(db, None), "the common platypus", score_threshold=threshold) == [
        "file-rare"
    ]


async def test_a_query_of_frequent_words_is_not_read_to_its_end_but_its_rare_ones_are(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await new_store(db, "vs_a")
    frequent = [f"frequent{n}" for n in range(30)]
    for n in range(10):
        await new_file(db, "vs_a", f"file-{n}", " ".join(frequent))
    await new_file(db, "vs_a", "file-rare", f"{frequent[0]} platypus")
    monkeypatch.setattr(word_lists, "SHORT_LIST", 2)
    monkeypatch.setattr(word_lists, "MOST_NUMBERS", 25)
    read, lists = 0, chunk_lists.lists

    async def counted(*asked: Any, **options: Any) -> Any:
        nonlocal read
        found = await lists(*asked, **options)
        read += sum(len(numbers) for numbers in found if numbers is not None)
        return found

    monkeypatch.setattr(chunk_lists, "lists", counted)
    assert (await found(Search(db, None), " ".join([*frequent, "platypus"])))[0] == "file-rare"
    assert read < 50


async def test_a_word_that_is_too_frequent_to_be_read_says_next_to_nothing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await new_store(db, "vs_a")
    for n in range(10):
        await new_file(db, "vs_a", f"file-{n}", "the others")
    await new_file(db, "vs_a", "file-rare", "the platypus")
    monkeypatch.setattr(word_lists, "SHORT_LIST", 2)
    monkeypatch.setattr(word_lists, "LONGEST_LIST", 5)
    [hit] = await passages(Search(db, None), "the platypus")
    assert hit.file_id == "file-rare"
    assert hit.score > 0.6


async def test_a_word_that_was_too_frequent_is_looked_at_again_only_from_time_to_time(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await new_store(db, "vs_a")
    for n in range(10):
        await new_file(db, "vs_a", f"file-{n}", "the others")
    await new_file(db, "vs_a", "file-rare", "the platypus")
    monkeypatch.setattr(word_lists, "SHORT_LIST", 2)
    monkeypatch.setattr(word_lists, "LONGEST_LIST", 5)
    monkeypatch.setattr(word_lists, "BELIEVED", 2)
    [frequent] = names("vs_a", ["the"])
    asked, lists = 0, chunk_lists.lists

    async def counted(db: Database, wanted: Sequence[str], **options: Any) -> Any:
        nonlocal asked
        asked += frequent in wanted
        return await lists(db, wanted, **options)

    monkeypatch.setattr(chunk_lists, "lists", counted)
    search = Search(db, None)
    seen = []
    for _ in range(4):
        assert await found(search, "the platypus") == ["file-rare"]
        seen.append(asked)
    # That it is not short, and that it is too long; and nothing, as long as that is believed.
    assert seen == [2, 2, 2, 4]


async def test_a_passage_says_where_it_is_from(db: Database) -> None:
    await new_store(db, "vs_a")
    await new_file(db, "vs_a", "file-1", "nothing", "about ZEBRAS, too", attributes={"year": 2})
    [hit] = await passages(Search(db, None), "zebras")
    assert hit[:4] == ("vs_a", "file-1", "file-1.txt", {"year": 2})
    assert (hit.text, hit.start, hit.page) == ("about ZEBRAS, too", 100, None)


async def test_stores_are_searched_together_and_no_others(db: Database) -> None:
    for store in ("vs_a", "vs_b", "vs_c"):
        await new_store(db, store)
        await new_file(db, store, f"file-{store}", "the zebra of this store")
    search = Search(db, None)
    assert await found(search, "zebra", "vs_b") == ["file-vs_b"]
    assert sorted(await found(search, "zebra", "vs_a", "vs_c")) == ["file-vs_a", "file-vs_c"]


async def test_only_what_is_read_and_still_there_is_found(db: Database) -> None:
    await new_store(db, "vs_a", embedder=ANIMALS)
    for status in ("completed", "in_progress", "failed"):
        await new_file(db, "vs_a", f"file-{status}", "a zebra", embedder=ANIMALS, status=status)
    number = await new_file(db, "vs_a", "file-gone", "a zebra", embedder=ANIMALS)
    search = Search(db, ANIMALS)
    assert sorted(await found(search, "zebra")) == ["file-completed", "file-gone"]
    await db.write(Statement("DELETE FROM vector_store_files WHERE number = $1", number))
    assert await found(search, "zebra") == ["file-completed"]
    await new_file(db, "vs_a", "file-new", "a zebra", embedder=ANIMALS)
    assert sorted(await found(search, "zebra")) == ["file-completed", "file-new"]


async def test_several_queries_are_one_search_with_each_passage_once(db: Database) -> None:
    await new_store(db, "vs_a")
    await new_file(db, "vs_a", "file-1", "zebra")
    await new_file(db, "vs_a", "file-2", "zebra and lion")
    hits = await Search(db, None).search(
        PROJECT, ["vs_a", "vs_a"], ["zebra", "lion", "lion", " "], limit=10, now=NOW
    )
    assert sorted(hit.file_id for hit in hits) == ["file-1", "file-2"]


async def test_vectors_find_other_words_for_it_and_words_find_names(db: Database) -> None:
    await new_store(db, "vs_a", embedder=ANIMALS)
    await new_file(db, "vs_a", "file-dog", "dog dog dog", embedder=ANIMALS)
    await new_file(db, "vs_a", "file-cat", "kitten tomcat", embedder=ANIMALS)
    search = Search(db, ANIMALS)
    assert (await found(search, "cat"))[0] == "file-cat"
    assert (await found(search, "cat", ranker="none"))[0] == "file-cat"
    only_words = HybridSearch(embedding_weight=0, text_weight=1)
    assert await found(search, "cat", hybrid=only_words) == []
    assert await found(search, "dog cat", hybrid=only_words) == ["file-dog"]
    only_vectors = HybridSearch(embedding_weight=1, text_weight=0)
    [first, second] = await passages(search, "cat", hybrid=only_vectors)
    assert (first.file_id, second.file_id) == ("file-cat", "file-dog")
    assert first.score > 0.99 > 0.1 > second.score


FILTERS: list[tuple[Filter, str]] = [
    (Eq(key="year", value=2020), "a"),
    (Eq(key="year", value="2020"), ""),
    (Eq(key="draft", value=True), "b"),
    (Eq(key="draft", value=1), ""),
    (Ne(key="lang", value="de"), "bc"),
    (Gt(key="year", value=2020), "b"),
    (Gte(key="year", value=2020), "ab"),
    (Lt(key="year", value=2020.5), "a"),
    (Lte(key="lang", value="en"), "ab"),
    (In(key="lang", value=["de", "fr", 7, True]), "a"),
    (Nin(key="lang", value=["de"]), "bc"),
    (In(key="year", value=[]), ""),
    (And(filters=[Eq(key="lang", value="en"), Gt(key="year", value=1)]), "b"),
    (Or(filters=[Eq(key="lang", value="de"), Eq(key="draft", value=True)]), "ab"),
    (And(filters=[Or(filters=[]), Ne(key="x", value=1)]), ""),
    (And(filters=[]), "abc"),
    (Eq(key="it's", value="'; --\0"), "c"),
]


async def test_filters_let_through_what_they_say_by_words_and_by_vectors(db: Database) -> None:
    await new_store(db, "vs_a", embedder=ANIMALS)
    files: dict[str, dict[str, str | int | float | bool]] = {
        "a": {"year": 2020, "lang": "de", "draft": False},
        "b": {"year": 2021.5, "lang": "en", "draft": True},
        "c": {"it's": "'; --\0"},
    }
    for name, attributes in files.items():
        await new_file(db, "vs_a", f"file-{name}", "zebra", attributes=attributes, embedder=ANIMALS)
    search = Search(db, ANIMALS)
    for filter, letters in FILTERS:
        for weights in (HybridSearch(1, 0), HybridSearch(0, 1)):
            hits = await found(search, "zebra", filters=filter, hybrid=weights)
            assert sorted(hits) == [f"file-{letter}" for letter in letters], filter


async def test_a_filter_is_a_part_of_the_search_and_not_of_its_results(db: Database) -> None:
    await new_store(db, "vs_a", embedder=ANIMALS)
    for n in range(60):
        await new_file(db, "vs_a", f"file-{n}", "zebra " * 9, embedder=ANIMALS)
    await new_file(
        db, "vs_a", "file-x", "a zebra and much else", attributes={"x": 1}, embedder=ANIMALS
    )
    wanted = Eq(key="x", value=1)
    for weights in (None, HybridSearch(1, 0), HybridSearch(0, 1)):
        hits = await found(Search(db, ANIMALS), "zebra", limit=1, filters=wanted, hybrid=weights)
        assert hits == ["file-x"]


async def test_where_there_are_many_vectors_their_index_heeds_store_and_filter(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_postgres, "COMPARED", 0)
    monkeypatch.setattr(near_sqlite, "BLOCK", 3)
    for store in ("vs_a", "vs_b"):
        await new_store(db, store, embedder=ANIMALS)
        for n in range(40):
            texts = [f"dog {n} {m}" for m in range(5)]
            await new_file(
                db, store, f"file-{store}-{n}", *texts, attributes={"n": n}, embedder=ANIMALS
            )
    by_vectors, wanted = HybridSearch(1, 0), Eq(key="n", value=7)
    for cache_bytes in (0, 16_000, 10_000_000):  # room for no store, for one, for both
        search = Search(db, ANIMALS, cache_bytes=cache_bytes)
        for store in ("vs_a", "vs_b", "vs_a"):
            hits = await found(search, "dog 3", store, limit=50, hybrid=by_vectors)
            assert len(hits) == 50
            assert all(hit.startswith(f"file-{store}-") for hit in hits)
            hits = await found(search, "cat", store, limit=50, filters=wanted, hybrid=by_vectors)
            assert hits == [f"file-{store}-7"] * 5


async def test_a_store_of_another_embedder_is_refused(db: Database) -> None:
    await new_store(db, "vs_a", embedder=ANIMALS)
    for search in (Search(db, None), Search(db, WordEmbedder(name="other/16"))):
        with pytest.raises(Conflict, match="rethread reindex"):
            await found(search, "zebra", "vs_a")


async def test_a_store_without_vectors_is_searched_by_words_and_so_are_those_beside_it(
    db: Database,
) -> None:
    await new_store(db, "vs_a", embedder=ANIMALS)
    await new_file(db, "vs_a", "file-1", "a dog barks", embedder=ANIMALS)
    await new_store(db, "vs_b")
    await new_file(db, "vs_b", "file-2", "the puppy barks")
    search = Search(db, ANIMALS)
    assert await found(search, "puppy", "vs_b", hybrid=HybridSearch(1, 0)) == ["file-2"]
    assert await found(search, "puppy", "vs_a", "vs_b") == ["file-2"]
    assert await found(search, "barks", "vs_a", "vs_b") == ["file-1", "file-2"]


async def test_a_search_is_a_use_of_the_store_which_must_be_there(db: Database) -> None:
    await new_store(db, "vs_a", days=1)
    search, later = Search(db, None), NOW + 80_000
    await search.search(PROJECT, ["vs_a"], ["x"], limit=1, now=later)
    await search.search(PROJECT, ["vs_a"], ["x"], limit=1, now=later + 80_000)
    with pytest.raises(Conflict, match="has expired"):
        await search.search(PROJECT, ["vs_a"], ["x"], limit=1, now=later + 170_000)
    with pytest.raises(NotFound):
        await search.search("another", ["vs_a"], ["x"], limit=1, now=NOW)


async def test_what_has_no_words_finds_nothing(db: Database) -> None:
    await new_store(db, "vs_a")
    await new_file(db, "vs_a", "file-1", "zebra")
    for query in ("", "  ", "?!", "\0", 'a"b', "NEAR(", "*", "zzz"):
        assert await found(Search(db, None), query) == []
    assert await found(Search(db, None), "Zebra* OR NOT 'x' \" § \0" + "y " * 500) == ["file-1"]


def test_a_server_that_searches_nothing_does_without_numpy() -> None:
    asked = "import sys, rethread.app; print('numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", asked], text=True) == "False\n"
