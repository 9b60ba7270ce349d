"""How old a token is when it is read on another server than the one whose run it is of.

Two servers on one PostgreSQL, which waits for the disk. Each run is listened to on both: the one
that drives it hears of an event in its own process, the other one by NOTIFY.
"""

import asyncio
import json
from itertools import chain
from typing import Final

from benchmarks.measure import (
    Connection,
    assistant,
    get,
    percentile,
    post,
    process,
    report,
    rethread,
    run,
    stream,
)
from tests.own_postgres import own_postgres

TOKENS: Final = 100
TOKENS_A_SECOND: Final = 20
RUNS: Final = (1, 100)
FIRST: Final = 10  # tokens that are not counted: a listener may come when they are written already


async def benchmark() -> None:
    """One run, and some at once."""
    with (
        own_postgres() as postgres,
        process("benchmarks.model") as model,
        rethread(*(place := ("--database-url", postgres.url)), *upstream(model.port)) as here,
        rethread(*place, *upstream(model.port)) as there,
    ):
        assistant_id = await assistant(here.port, TOKENS, TOKENS_A_SECOND)
        for count in RUNS:
            ages = await asyncio.gather(
                *(_ages(here.port, there.port, assistant_id) for _ in range(count))
            )
            on_here = list(chain.from_iterable(one for one, _ in ages))
            on_there = list(chain.from_iterable(other for _, other in ages))
            for percent, goal in ((50, "<= 50 ms"), (99, "(none)")):
                what = f"a token on the other server, {count} runs, p{percent}"
                age, ceiling = (percentile(each, percent) * 1000 for each in (on_there, on_here))
                report(what, age, ceiling, unit="ms", goal=goal)


def upstream(port: int) -> tuple[str, str]:
    """The flags that name the model server."""
    return "--upstream", f"http://127.0.0.1:{port}/v1"


async def _ages(here: int, there: int, assistant_id: str) -> tuple[list[float], list[float]]:
    """How old each token of one run is when it is read, here and there, in seconds."""
    thread = {"messages": [{"role": "user", "content": "Go."}]}
    body = json.dumps({"assistant_id": assistant_id, "thread": thread}).encode()
    connection = await Connection.open(here)
    made = json.loads(await connection.ask(post("/v1/threads/runs", body)))
    connection.close()
    asked = get(f"/v1/threads/{made['thread_id']}/runs/{made['id']}/events")
    one, other = await asyncio.gather(stream(here, asked), stream(there, asked))
    assert one.tokens == other.tokens == TOKENS, (one.tokens, other.tokens)
    return one.lags[FIRST:], other.lags[FIRST:]


if __name__ == "__main__":
    run(benchmark)
