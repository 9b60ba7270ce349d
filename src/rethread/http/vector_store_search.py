"""Searches in a vector store, over HTTP."""

from typing import Final

from rethread.contract.searches import (
    FoundPassage,
    FoundPassages,
    PassageRanking,
    SearchVectorStore,
)
from rethread.contract.vector_stores import TextContent
from rethread.http.codec import decode, encode, reply
from rethread.http.request import Request, Response
from rethread.http.vector_stores import store_id_of
from rethread.tools.file_search.search import HybridSearch, Passage

DEFAULT_RESULTS: Final = 10


async def search(request: Request) -> Response:
    """POST /vector_stores/{vector_store_id}/search"""
    store_id = store_id_of(request)
    asked = decode(request, SearchVectorStore)
    ranking = asked.ranking_options or PassageRanking()
    found = await request.services.search.search(
        request.project,
        [store_id],
        asked.queries,
        limit=asked.max_num_results or DEFAULT_RESULTS,
        filters=asked.filters,
        score_threshold=ranking.score_threshold or 0.0,
        ranker=ranking.ranker or "auto",
        hybrid=_weights(ranking),
        now=request.now,
    )
    page = FoundPassages(search_query=asked.queries, data=[_shown(each) for each in found])
    return reply(encode(page))


def _weights(ranking: PassageRanking) -> HybridSearch | None:
    given = ranking.hybrid_search
    return HybridSearch(given.embedding_weight, given.text_weight) if given else None


def _shown(passage: Passage) -> FoundPassage:
    return FoundPassage(
        file_id=passage.file_id,
        filename=passage.filename,
        score=passage.score,
        attributes=passage.attributes,
        content=[TextContent(passage.text)],
    )
