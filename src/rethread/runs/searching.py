"""file_search inside a run: in which stores it looks, what it gives the model, what it waits for.

The stores are read each time: one that was deleted meanwhile is passed over, one whose time is
over fails the run, and a thread's store may have been made after the run began.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import structs

from rethread.contract.resources import Resources, stores_of
from rethread.contract.runs import Run
from rethread.contract.steps import FileSearchCall, FileSearchResult, ResultText
from rethread.contract.threads import decode_thread
from rethread.contract.tools import FileSearchOptions
from rethread.errors import Conflict, ModelError, NotFound, Unavailable
from rethread.store import threads, vector_store_files, vector_stores
from rethread.store.database import Database
from rethread.tools.file_search import tool
from rethread.tools.file_search.search import HybridSearch, Passage, Search


async def answered(
    db: Database,
    search: Search,
    run: Run,
    call: FileSearchCall,
    *,
    tokens_left: int,
    count: Callable[[str], int],
    now: int,
) -> FileSearchCall:
    """The call with what it has found, as much as has room; ModelError if nothing can be found."""
    asked = call.file_search
    project, resources = await _thread(db, run.thread_id)
    store_ids = list(dict.fromkeys([*stores_of(run.tool_resources), *stores_of(resources)]))
    try:
        found = await _found(db, search, project, store_ids, run, call, now=now)
    except (Conflict, Unavailable) as problem:
        raise ModelError(problem.message, reason="file_search") from problem
    results = tool.fitting(
        [_result(passage) for passage in found or []],
        turn=asked.turn,
        tokens_left=tokens_left,
        count=count,
    )
    has_files = found is not None
    return structs.replace(
        call, file_search=structs.replace(asked, results=results, has_files=has_files)
    )


def tokens_of(call: FileSearchCall, *, count: Callable[[str], int]) -> int:
    """What a search's passages take in the prompt."""
    return sum(count(tool.text_of(result)) for result in call.file_search.results)


async def wait_for_files(db: Database, run: Run, *, seconds: float) -> None:
    """Return once the thread's own files have been read, or failed, or the time is over."""
    _, resources = await _thread(db, run.thread_id)
    store_ids = stores_of(resources)
    if not store_ids:
        return
    loop_time = asyncio.get_running_loop().time
    until = loop_time() + seconds
    with db.listen(vector_store_files.ingested_topic(store_ids[0])) as wakeup:
        while await vector_store_files.unfinished(db, store_ids):
            left = until - loop_time()
            if left <= 0:
                return
            await wakeup.wait(timeout_seconds=min(left, db.look_again_seconds or left))


async def check_stores(db: Database, project: str, *resources: Resources, now: int) -> None:
    """Conflict where a store's time is over: a run that would search it could only fail."""
    for store_id in (id for each in resources for id in stores_of(each)):
        try:
            stored = await vector_stores.get(db, project, store_id)
        except NotFound:
            continue
        if stored.is_expired(now):
            raise Conflict(f"Vector store {store_id} is expired.")


async def _found(
    db: Database,
    search: Search,
    project: str,
    store_ids: list[str],
    run: Run,
    call: FileSearchCall,
    *,
    now: int,
) -> list[Passage] | None:
    """The best passages; None where there is no store to look into."""
    while there := await _usable(db, project, store_ids, now=now):
        if not call.file_search.queries:
            return []
        try:
            return await search.search(
                project, there, call.file_search.queries, **_options(run, call), now=now
            )
        except NotFound:  # a store was deleted at this moment; the others are searched again
            continue
    return None


async def _usable(db: Database, project: str, store_ids: list[str], *, now: int) -> list[str]:
    """Those of the stores that are there; Conflict if the time of one is over."""
    there: list[str] = []
    for store_id in store_ids:
        try:
            await vector_stores.usable(db, project, store_id, now=now)
        except NotFound:
            continue
        there.append(store_id)
    return there


def _options(run: Run, call: FileSearchCall) -> dict[str, Any]:
    """How many passages the run wants, and how they are ranked."""
    declared = tool.declared(run.tools)
    options = (declared and declared.file_search) or FileSearchOptions()
    hybrid = options.ranking_options and options.ranking_options.hybrid_search
    ranking = call.file_search.ranking_options
    return {
        "limit": options.max_num_results or tool.DEFAULT_RESULTS,
        "ranker": ranking.ranker,
        "score_threshold": ranking.score_threshold,
        "hybrid": HybridSearch(hybrid.embedding_weight, hybrid.text_weight) if hybrid else None,
    }


async def _thread(db: Database, thread_id: str) -> tuple[str, Resources]:
    """A thread's project, and what its tools may use."""
    found = await threads.of_run(db, thread_id)
    if found is None:  # its run is about to learn it
        return "", {}
    project, body = found
    return project, decode_thread(body).tool_resources


def _result(passage: Passage) -> FileSearchResult:
    return FileSearchResult(
        file_id=passage.file_id,
        file_name=passage.filename,
        score=passage.score,
        content=[ResultText(passage.text)],
        page=passage.page,
    )
