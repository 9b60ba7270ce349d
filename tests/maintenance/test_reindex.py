"""Stores that another embedder made are refused, until `rethread reindex` has made them anew."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import openai
import pytest

from rethread.maintenance.move import move
from rethread.maintenance.places import Place
from rethread.maintenance.reindex import reindex
from rethread.store import chunk_vectors, ingestions
from rethread.store.database import Database, Statement, open_database
from rethread.tools.file_search.embedding import Placed
from rethread.tools.file_search.search import HybridSearch, Search
from tests.fakes.embeddings import embeddings
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import failure
from tests.postgres import Postgres
from tests.sdk.clients import sync_client
from tests.server import running_server
from tests.tools.file_search.stores import NOW, PROJECT, WordEmbedder, new_file, new_store

SHEEP = "sheep eat grass"
VECTORS = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}


@pytest.fixture
def embedder() -> Iterator[ModelServer]:
    with ModelServer.start_in_thread() as server:
        server.answer = embeddings
        yield server


@pytest.fixture
def empty_url(postgres: Postgres) -> Iterator[str]:
    """A PostgreSQL database without even a schema."""
    url = postgres.empty_database()
    yield url
    postgres.drop(url)


class Servers:
    """Where things are kept, and servers that come and go there."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self._folder, self._url = folder, url

    @contextmanager
    def client(self, *arguments: str) -> Iterator[openai.OpenAI]:
        with (
            running_server(self._folder, *arguments, database_url=self._url) as server,
            sync_client(server) as client,
        ):
            self.server = server
            yield client

    def reindex(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        where = ["--database-url", self._url] if self._url else ["--data-dir", str(self._folder)]
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "rethread", "reindex", *where, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def found(client: openai.OpenAI, store_id: str, **options: Any) -> list[str]:
    page = client.vector_stores.search(store_id, query="grass sheep", **options)
    return [each.content[0].text for each in page]


def test_a_store_is_searched_again_once_its_vectors_are_the_servers(
    tmp_path: Path, database_url: str | None, embedder: ModelServer
) -> None:
    place = Servers(tmp_path / "data", database_url)
    upstream = ("--embeddings", "upstream", "--embedding-upstream", embedder.url)
    with place.client() as client:
        store_id = client.vector_stores.create().id
        client.vector_stores.files.upload_and_poll(
            vector_store_id=store_id, file=("sheep.txt", SHEEP.encode())
        )
        assert found(client, store_id) == [SHEEP]
    with place.client(*upstream) as client:
        place.server.wait_for_log("vector stores of another embedder stores=1")
        assert found(client, store_id) == [SHEEP]
        other_id = client.vector_stores.create().id
        client.vector_stores.files.upload_and_poll(
            vector_store_id=other_id, file=("sheep.txt", SHEEP.encode())
        )
        assert found(client, other_id, extra_body={"ranking_options": VECTORS}) == [SHEEP]
    embedder.replies.append(failure(400, "not now"))
    broken = place.reindex(*upstream)
    assert (broken.returncode, "not now" in broken.stderr) == (1, True)
    told = place.reindex(*upstream).stdout
    assert told.startswith("1 vector stores are searched by the embedder 'text-embedding-3-small'")
    with place.client(*upstream) as client:
        assert found(client, store_id, extra_body={"ranking_options": VECTORS}) == [SHEEP]
    with place.client(*upstream, "--embedding-model", "another") as client:
        with pytest.raises(openai.APIStatusError, match="rethread reindex") as refused:
            found(client, store_id)
        assert refused.value.status_code == 400


async def test_after_a_move_files_are_found_by_words_until_there_are_vectors_again(
    tmp_path: Path, empty_url: str
) -> None:
    places = [Place(tmp_path / "a"), Place(tmp_path, empty_url), Place(tmp_path / "b")]
    words = WordEmbedder(name="words/32")
    db = await open_database(*places[0])
    await new_store(db, "vs_a", embedder=words)
    await new_file(db, "vs_a", "file-1", SHEEP, embedder=words)
    await db.close()
    for source, target in pairwise(places):
        await move(source, target)
        db = await open_database(*target)
        try:
            [hit] = await Search(db, None).search(PROJECT, ["vs_a"], ["grass"], limit=1, now=NOW)
            assert hit.text == SHEEP
            await chunk_vectors.check(db)
            assert (await reindex(db, Placed(words, db))).chunks == 1
        finally:
            await db.close()


async def test_what_is_broken_off_goes_on_and_everything_can_be_made_anew(db: Database) -> None:
    class Failing(WordEmbedder):
        calls = 0

        async def embed(self, texts: Any) -> list[bytes]:
            self.calls += 1
            if self.calls == 3:
                raise RuntimeError("broken off")
            return await super().embed(texts)

    await new_store(db, "vs_a")
    for n in range(3):
        await new_file(db, "vs_a", f"file-{n}", *(f"zebra number{n} {m}" for m in range(70)))
    failing = Failing(name="words/512")
    await chunk_vectors.check(db)
    with pytest.raises(RuntimeError, match="broken off"):
        await reindex(db, Placed(failing, db))
    done = await reindex(db, Placed(failing, db))
    assert (done.stores, done.chunks, failing.calls) == (1, 210 - 70, 7)
    search = Search(db, failing)
    for weights in (HybridSearch(1, 0), HybridSearch(0, 1)):
        hits = await search.search(
            PROJECT, ["vs_a"], ["number2 69"], limit=1, hybrid=weights, now=NOW
        )
        assert [hit.text for hit in hits] == ["zebra number2 69"]
    again = await reindex(db, Placed(failing, db), everything=True)
    assert (again.stores, again.chunks) == (1, 210)
    [hit] = await Search(db, failing).search(
        PROJECT, ["vs_a"], ["number1 7"], limit=1, hybrid=HybridSearch(0, 1), now=NOW
    )
    assert hit.text == "zebra number1 7"
    nobody = await reindex(db, None)
    assert (nobody.stores, (await reindex(db, None)).stores) == (1, 0)
    assert len(await Search(db, None).search(PROJECT, ["vs_a"], ["zebra"], limit=9, now=NOW)) == 9


async def test_who_reads_a_file_with_the_old_embedder_adds_nothing_any_more(db: Database) -> None:
    old, new = WordEmbedder(name="old/16"), WordEmbedder(name="new/16")
    await new_store(db, "vs_a", embedder=old)
    number = await new_file(db, "vs_a", "file-1", SHEEP, embedder=old, status="in_progress")
    await db.write(
        Statement("INSERT INTO ingestions (file_number, store_id) VALUES ($1, 'vs_a')", number)
    )
    [reading] = await ingestions.claim(db, server="a", most=1)
    await reindex(db, Placed(new, db))
    assert not await db.write(ingestions.holding(reading))
    assert not await ingestions.complete(db, reading, usage_bytes=1, also=[])
    [again] = await ingestions.claim(db, server="b", most=1)
    assert again.fence > reading.fence
