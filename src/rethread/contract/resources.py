"""What tools may use: files for code, and vector stores to search.

Requests may ask for a vector store to be made along; whoever takes them puts its id in the
place of that (`tools/file_search/resources.py`), and shows ids alone.
"""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from rethread.contract import FileId, Metadata, Request, VectorStoreId, check_id
from rethread.contract.tools import Strict
from rethread.contract.vector_stores import MAX_FILES_A_STORE, ChunkingStrategy, StaticChunking
from rethread.errors import Invalid

Resources = dict[str, dict[str, list[str]]]  # as objects show them


class CodeInterpreterResources(Strict, frozen=True):
    """Files that code may read."""

    file_ids: Annotated[list[FileId], Meta(max_length=20)] | None = None


class NewVectorStore(Strict, frozen=True):
    """A vector store to be made along with its owner."""

    file_ids: Annotated[list[FileId], Meta(max_length=MAX_FILES_A_STORE)] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    metadata: Metadata | None = None


class FileSearchResources(Strict, frozen=True):
    """Vector stores that file_search looks into; one at most."""

    vector_store_ids: Annotated[list[VectorStoreId], Meta(max_length=1)] | None = None
    vector_stores: Annotated[list[NewVectorStore], Meta(max_length=1)] | None = None


class ToolResources(Request, frozen=True):
    """What the tools may use."""

    code_interpreter: CodeInterpreterResources | None | UnsetType = UNSET
    file_search: FileSearchResources | None | UnsetType = UNSET

    def check(self, at: str = "") -> None:
        """Ids have the right prefix, and a store is named or made, not both."""
        if self.code_interpreter:
            for index, file_id in enumerate(self.code_interpreter.file_ids or []):
                check_id(file_id, "file", param=f"{at}code_interpreter.file_ids[{index}]")
        if self.file_search:
            _check_stores(self.file_search, f"{at}file_search.")


def declared_resources(resources: ToolResources | None) -> Resources:
    """Tool resources as an object shows them; `{}` when there are none."""
    shown: Resources = {}
    if resources and resources.code_interpreter:
        shown["code_interpreter"] = {"file_ids": resources.code_interpreter.file_ids or []}
    if resources and resources.file_search:
        shown["file_search"] = {"vector_store_ids": resources.file_search.vector_store_ids or []}
    return shown


def stores_of(resources: Resources) -> list[str]:
    """The vector stores that an assistant's, a run's or a thread's resources name."""
    return resources.get("file_search", {}).get("vector_store_ids", [])


def code_files_of(resources: Resources) -> list[str]:
    """The files that code may read, of an assistant's, a run's or a thread's resources."""
    return resources.get("code_interpreter", {}).get("file_ids", [])


def _check_stores(asked: FileSearchResources, at: str) -> None:
    for index, store_id in enumerate(asked.vector_store_ids or []):
        check_id(store_id, "vs", param=f"{at}vector_store_ids[{index}]")
    for index, store in enumerate(asked.vector_stores or []):
        path = f"{at}vector_stores[{index}]."
        for place, file_id in enumerate(store.file_ids or []):
            check_id(file_id, "file", param=f"{path}file_ids[{place}]")
        if isinstance(store.chunking_strategy, StaticChunking):
            store.chunking_strategy.check(f"{path}chunking_strategy.")
    if asked.vector_store_ids and asked.vector_stores:
        raise Invalid(
            f"Invalid '{at}vector_stores': it makes a vector store, and '{at}vector_store_ids' "
            "names one; only one of the two can be given.",
            param=f"{at}vector_stores",
            code="mutually_exclusive_parameters",
        )
