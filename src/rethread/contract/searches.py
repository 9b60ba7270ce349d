"""Searches in a vector store: what is asked, and the passages that are found."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from rethread.contract import Request
from rethread.contract.filters import Filter, check_filter
from rethread.contract.tools import ResultCount, Score, Strict
from rethread.contract.vector_stores import TextContent

Query = Annotated[str, Meta(min_length=1, max_length=4096)]
Queries = Annotated[list[Query], Meta(min_length=1, max_length=10)]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]


class HybridWeights(Strict, frozen=True):
    """How much vectors and words count, one against the other; with both 0, as by default."""

    embedding_weight: Weight
    text_weight: Weight


class PassageRanking(Strict, frozen=True):
    """How what is found is put in order; with `none` vectors alone count, if there are some."""

    ranker: Literal["none", "auto", "default-2024-11-15"] | None = None
    score_threshold: Score | None = None
    hybrid_search: HybridWeights | None = None


class SearchVectorStore(Request, frozen=True):
    """POST /vector_stores/{vector_store_id}/search"""

    query: Query | Queries
    rewrite_query: bool | None = None
    max_num_results: ResultCount | None = None
    filters: Filter | None = None
    ranking_options: PassageRanking | None = None

    def check(self, at: str = "") -> None:
        """A filter of a bounded size."""
        if self.filters is not None:
            check_filter(self.filters, f"{at}filters")

    @property
    def queries(self) -> list[str]:
        """What is searched for: as it was asked, as nobody here can put it in better words."""
        return [self.query] if isinstance(self.query, str) else self.query


class FoundPassage(Struct, frozen=True, kw_only=True):
    """A passage that was found."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | int | float | bool]
    content: list[TextContent]


class FoundPassages(Struct, frozen=True, kw_only=True):
    """The passages, the best first; always all of them."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[FoundPassage]
    has_more: bool = False
    next_page: None = None
