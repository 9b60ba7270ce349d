"""Files are read to their end whatever happens meanwhile, and what nobody wants is left alone.

The embeddings' server stands still where a test wants to have something happen.
"""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import openai
import pytest
from openai import OpenAI
from openai.types.vector_stores import VectorStoreFile

from tests.conftest import StartServer
from tests.fakes.embeddings import embeddings
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Gate, Reply, failure
from tests.faults.pair import TAKEN_OVER_SECONDS, pair_of_servers
from tests.faults.scene import PATIENCE_SECONDS, Scene, stock_client
from tests.postgres import Postgres
from tests.server import ServerProcess

ARGUMENTS: Final = (
    *("--embeddings", "upstream", "--embedding-model", "e"),
    *("--upstream-max-attempts", "1"),
)
SMALL: Final[Any] = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
}
LONG: Final = "".join(
    f"Sentence number {n} of a text that has a lot of them.\n" for n in range(3500)
)
HALT: Final = "The embeddings' server stands still at this sentence.\n"


@pytest.fixture
def embedding(scene: Scene) -> Scene:
    """The module's servers; that of embeddings does what it should."""
    scene.model.answer = embeddings
    return scene


@contextmanager
def halted(model: ModelServer, *, at: str = HALT) -> Iterator[Gate]:
    """The embeddings' server stands still, once, where it is given such a text."""
    gate, waits = Gate(), [True]

    def answer(body: Any) -> Reply:
        reply = embeddings(body)
        if waits and any(at.strip() in text for text in body["input"]):
            waits.clear()
            return Reply(whole=reply.whole).first(gate)
        return reply

    model.answer = answer
    yield gate
    gate.open()


def new_file(client: OpenAI, text: str) -> str:
    return client.files.create(file=("a.txt", text.encode()), purpose="assistants").id


def poll(client: OpenAI, store_id: str, file_id: str) -> VectorStoreFile:
    return client.vector_stores.files.poll(file_id, vector_store_id=store_id)


def assert_read(client: OpenAI, store_id: str, file_id: str) -> None:
    file = poll(client, store_id, file_id)
    assert (file.status, file.last_error) == ("completed", None)


def assert_read_once(server: ServerProcess, client: OpenAI, store_id: str, file_id: str) -> None:
    """All of the text is there, each of its chunks once, and nothing is left to be done."""
    [content] = client.vector_stores.files.content(file_id, vector_store_id=store_id).data
    assert content.text is not None
    assert content.text.split() == (LONG + HALT).split()
    [(chunks, told)] = server.ask(
        "SELECT (SELECT COUNT(*) FROM chunks), (SELECT SUM(chunks) FROM indexed_files)"
    )
    assert chunks == told > 256
    assert server.ask("SELECT COUNT(*) FROM ingestions") == [(0,)]


def test_a_file_is_read_on_from_where_kill_9_cut_it_off(
    start_server: StartServer, model: ModelServer
) -> None:
    server = start_server("--upstream", model.url, *ARGUMENTS)
    before = len(model.requests)
    with stock_client(server.url) as client, halted(model) as gate:
        store_id = client.vector_stores.create().id
        file_id = new_file(client, LONG + HALT)
        files = client.vector_stores.files
        files.create(store_id, file_id=file_id, chunking_strategy=SMALL)
        gate.arrived.result(PATIENCE_SECONDS)
        server.kill()
        gate.open()
        server.restart()
        assert [line for line in server.log if "files taken up again count=1" in line]
        assert_read(client, store_id, file_id)
        assert_read_once(server, client, store_id, file_id)
        asked = Counter(text for call in model.requests[before:] for text in call.body["input"])
        assert sum(asked.values()) - len(asked) <= 256  # what was on disk was not made again


def test_another_server_reads_what_a_dead_one_had_begun(
    postgres: Postgres, tmp_path: Path, model: ModelServer
) -> None:
    files = ("--files", str(tmp_path / "files"))
    with (
        pair_of_servers(postgres, tmp_path, model, *ARGUMENTS, *files) as pair,
        halted(model) as gate,
    ):
        client = pair.here.client
        store_id = client.vector_stores.create().id
        file_id = new_file(client, LONG + HALT)
        client.vector_stores.files.create(store_id, file_id=file_id, chunking_strategy=SMALL)
        gate.arrived.result(PATIENCE_SECONDS)
        [(home,)] = pair.here.server.ask(
            "SELECT home FROM servers JOIN ingestions ON servers.id = ingestions.server"
        )
        is_here = f":{pair.here.server.port} " in home
        reader, other = pair if is_here else reversed(pair)
        reader.server.process.send_signal(signal.SIGSTOP)  # silent, and not gone
        other.server.wait_for_log("files taken over count=1", timeout_seconds=TAKEN_OVER_SECONDS)
        assert_read(other.client, store_id, file_id)
        gate.open()
        reader.server.process.send_signal(signal.SIGCONT)
        assert_read_once(other.server, other.client, store_id, file_id)


def test_what_goes_while_it_is_read_leaves_nothing(embedding: Scene) -> None:
    client, model = embedding.client, embedding.model
    files, batches = client.vector_stores.files, client.vector_stores.file_batches
    kept = client.vector_stores.create().id
    files.create_and_poll(new_file(client, "Another."), vector_store_id=kept)
    with at_halt(client, model, kept) as begun:
        client.files.delete(begun.file_id)
        with pytest.raises(openai.NotFoundError, match="No file found with id"):
            poll(client, kept, begun.file_id)
    with at_halt(client, model, kept) as begun:
        files.delete(begun.file_id, vector_store_id=kept)
        with pytest.raises(openai.NotFoundError, match="No file found with id"):
            poll(client, kept, begun.file_id)
    with at_halt(client, model, kept) as begun:
        batches.cancel(begun.batch_id, vector_store_id=kept)
        left = batches.poll(begun.batch_id, vector_store_id=kept)
        assert (left.status, left.file_counts.cancelled) == ("cancelled", 1)
    gone = client.vector_stores.create().id
    with at_halt(client, model, gone):
        client.vector_stores.delete(gone)
        with pytest.raises(openai.NotFoundError, match="No vector store found with id"):
            client.vector_stores.retrieve(gone)
    wait_until_cleaned_away(embedding.server)
    assert embedding.server.ask("SELECT store_id FROM indexed_files") == [(kept,)]
    store = client.vector_stores.retrieve(kept)
    assert store.status == "completed"
    assert (store.file_counts.completed, store.file_counts.cancelled) == (1, 1)


class Begun(NamedTuple):
    """A file of which a part is written, and the batch that it came with."""

    file_id: str
    batch_id: str


@contextmanager
def at_halt(client: OpenAI, model: ModelServer, store_id: str) -> Iterator[Begun]:
    """A file in mid-reading, which goes on afterwards."""
    with halted(model) as gate:
        file_id = new_file(client, LONG + HALT)
        batch = client.vector_stores.file_batches.create(
            store_id, files=[{"file_id": file_id, "chunking_strategy": SMALL}]
        )
        gate.arrived.result(PATIENCE_SECONDS)
        yield Begun(file_id, batch.id)


def wait_until_cleaned_away(server: ServerProcess) -> None:
    """Until nobody reads, and nothing is left to be cleaned away."""
    until = time.monotonic() + PATIENCE_SECONDS
    tables = ("purged_stores", "purged_files", "ingestions")
    pending = "SELECT " + ", ".join(f"(SELECT COUNT(*) FROM {table})" for table in tables)
    while server.ask(pending) != [(0, 0, 0)]:
        assert time.monotonic() < until, server.ask(pending)
        time.sleep(0.05)


def test_an_embeddings_server_that_is_away_for_a_while_fails_no_file(
    embedding: Scene,
) -> None:
    client = embedding.client
    embedding.model.replies.append(failure(503, "Too much to do."))
    store_id = client.vector_stores.create().id
    file_id = new_file(client, "Some text.")
    client.vector_stores.files.create(store_id, file_id=file_id)
    embedding.server.wait_for_log("file not read yet")
    assert_read(client, store_id, file_id)


def test_what_the_embeddings_server_will_never_do_fails_the_file_and_says_so(
    embedding: Scene,
) -> None:
    client = embedding.client
    embedding.model.replies.append(failure(404, "No such model."))
    store_id = client.vector_stores.create().id
    refused = client.vector_stores.files.create_and_poll(
        new_file(client, "Some text."), vector_store_id=store_id
    )
    assert refused.last_error is not None
    assert (refused.status, refused.last_error.code) == ("failed", "server_error")
    assert "No such model." in refused.last_error.message


def test_a_store_of_another_embedder_takes_no_file(embedding: Scene) -> None:
    client = embedding.client
    store_id = client.vector_stores.create().id
    embedding.server.ask(f"UPDATE vector_stores SET embedder = 'older' WHERE id = '{store_id}'")
    refused = client.vector_stores.files.create_and_poll(
        new_file(client, "Some text."), vector_store_id=store_id
    )
    assert refused.last_error is not None
    assert "made by older, and the server uses e now" in refused.last_error.message
    assert "rethread reindex" in refused.last_error.message
