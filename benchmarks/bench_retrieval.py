"""Does a search find what was meant? Known items in the standard library's own documentation.

`python -m benchmarks.bench_retrieval [--embeddings local|none] [--upstream URL --model MODEL]
[--keep FOLDER]`: the documents are the docstrings of the standard library's modules, one file a
module, cut into chunks as any file is. Each query of `retrieval_queries.tsv` says in other words
what one module is for; a hit is a passage of that module among the first ones. With --keep the
index stays in a folder, and is there already the next time.
"""

import argparse
import asyncio
import importlib
import inspect
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

from benchmarks.filled_stores import PROJECT, add_file, new_store
from rethread.providers.embeddings import Embedder
from rethread.store.chunks import IndexedChunk
from rethread.store.database import Database, open_database
from rethread.tools.file_search.chunking import chunked
from rethread.tools.file_search.documents import Document
from rethread.tools.file_search.search import HybridSearch, Search

QUERIES: Final = Path(__file__).with_name("retrieval_queries.tsv")
LONGEST_DOCUMENT: Final = 20_000  # characters; the largest modules have many times as many
FIRST: Final = (1, 5, 10)
STORE: Final = "vs_stdlib"
# They open a browser or a window, print something, or are no modules to read about.
LEFT_OUT: Final = frozenset({"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter"})
WAYS: Final = {
    "words": HybridSearch(embedding_weight=0, text_weight=1),
    "vectors": HybridSearch(embedding_weight=1, text_weight=0),
    "both": None,
}


class Query(NamedTuple):
    """What is asked, and the module that is meant."""

    module: str
    text: str


def queries() -> list[Query]:
    """The queries that are kept here."""
    lines = QUERIES.read_text("utf-8").splitlines()
    return [Query(*line.split("\t")) for line in lines]


def documents(also: set[str]) -> Iterator[tuple[str, str]]:
    """Names and texts of the standard library's modules, and of these ones within it."""
    public = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    for name in sorted((public - LEFT_OUT) | also):
        try:
            with warnings.catch_warnings(action="ignore"):
                yield name, document(importlib.import_module(name))[:LONGEST_DOCUMENT]
        except ImportError:
            continue  # of another system


def document(module: ModuleType) -> str:
    """What a module's docstrings say of it, of its functions, its classes and their methods."""
    parts = [module.__name__, inspect.getdoc(module) or ""]
    for name, member in inspect.getmembers(module):
        if not name.startswith("_") and getattr(member, "__module__", None) == module.__name__:
            parts.append(f"{name}\n{inspect.getdoc(member) or ''}")
            if inspect.isclass(member):
                parts += _methods(member)
    return "\n\n".join(parts)


def _methods(kind: type) -> Iterator[str]:
    for name, method in vars(kind).items():
        if not name.startswith("_") and callable(method):
            yield f"{kind.__name__}.{name}\n{inspect.getdoc(method) or ''}"


async def fill(db: Database, embedder: Embedder | None) -> None:
    """Index the documents, if they are not there yet."""
    if await db.read("SELECT 1 FROM vector_stores LIMIT 1"):
        return
    await new_store(db, STORE, embedder=embedder.name if embedder else "")
    for name, text in documents({query.module for query in queries()}):
        found = list(chunked(Document(text), max_tokens=800, overlap_tokens=400))
        texts = [chunk.text for chunk in found]
        vectors = await embedder.embed(texts) if embedder else [None] * len(texts)
        pieces = [
            IndexedChunk(*chunk, vector) for chunk, vector in zip(found, vectors, strict=True)
        ]
        await add_file(db, STORE, name, pieces)
        print(f"\r{name:40}", end="", file=sys.stderr)


async def places(search: Search, weights: HybridSearch | None) -> list[int | None]:
    """At which place each query has its module."""
    found: list[int | None] = []
    for query in queries():
        passages = await search.search(
            PROJECT, [STORE], [query.text], limit=max(FIRST), hybrid=weights, now=0
        )
        names = [passage.filename for passage in passages]
        found.append(names.index(query.module) if query.module in names else None)
    return found


async def measure(folder: Path, embedder: Embedder | None) -> None:
    """Print a table: how often the module was among the first ones, by each way of searching."""
    db = await open_database(folder)
    try:
        await fill(db, embedder)
        chunks = (await db.read("SELECT COUNT(*), COUNT(DISTINCT number >> 20) FROM chunks"))[0]
        print(f"\r{len(queries())} queries, {chunks[0]} chunks of {chunks[1]} modules")
        search = Search(db, embedder)
        print("|  | " + " | ".join(f"hit@{first}" for first in FIRST) + " |")
        for name, weights in WAYS.items() if embedder else [("words", WAYS["words"])]:
            found = await places(search, weights)
            shares = (
                sum(place is not None and place < first for place in found) / len(found)
                for first in FIRST
            )
            print(f"| {name} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    finally:
        await db.close()


def _embedder(asked: argparse.Namespace) -> Embedder | None:
    if asked.upstream:
        from rethread.providers.embeddings_upstream import UpstreamEmbedder  # noqa: PLC0415 - as asked

        return UpstreamEmbedder(base_url=asked.upstream, model=asked.model)
    if asked.embeddings == "local":
        from rethread.providers.embeddings_local import LocalEmbedder  # noqa: PLC0415 - an extra

        return LocalEmbedder()
    return None


async def main(asked: argparse.Namespace) -> None:
    """Fill and measure, in a folder that stays or in one that goes."""
    embedder = _embedder(asked)
    with tempfile.TemporaryDirectory() as folder:
        await measure(asked.keep or Path(folder), embedder)
    if embedder is not None:
        await embedder.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--embeddings", choices=["none", "local"], default="none")
    parser.add_argument("--upstream")
    parser.add_argument("--model", default="text-embedding-3-small")
    parser.add_argument("--keep", type=Path)
    asyncio.run(main(parser.parse_args()))
