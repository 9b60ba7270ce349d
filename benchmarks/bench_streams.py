"""200 streams at once, 20 tokens a second each: how old tokens are when read; memory a stream."""

import asyncio

from benchmarks.measure import (
    Start,
    assistant,
    direct,
    percentile,
    process,
    report,
    rethread,
    run,
    stream,
    through,
)

STREAMS = 200
RATE = 20
SECONDS = 15
STARTING_SECONDS = 4.0  # 50 runs a second are started while the others stream


async def _lags(port: int, request: bytes) -> list[float]:
    async def one(number: int) -> list[float]:
        await asyncio.sleep(number / STREAMS * STARTING_SECONDS)
        streamed = await stream(port, request)
        assert streamed.tokens == RATE * SECONDS
        return streamed.lags

    results = await asyncio.gather(*(one(number) for number in range(STREAMS)))
    return [lag for lags in results for lag in lags]


async def benchmark(rethread: Start = rethread) -> None:
    """The model server alone first, then through rethread."""
    with (
        process("benchmarks.model") as model,
        rethread("--upstream", f"http://127.0.0.1:{model.port}/v1") as server,
    ):
        alone = await _lags(model.port, direct(RATE * SECONDS, RATE))
        request = through(await assistant(server.port, RATE * SECONDS, RATE))
        await stream(server.port, through(await assistant(server.port, 10, 0)))
        before, cpu_before = server.memory_mib(), server.cpu_seconds()
        across = asyncio.create_task(_lags(server.port, request))
        await asyncio.sleep(SECONDS * 0.6)
        during = server.memory_mib()
        lags = await across
        cpu = server.cpu_seconds() - cpu_before
        report(
            f"{STREAMS} streams: age of a token when read, p99",
            percentile(lags, 99) * 1000,
            percentile(alone, 99) * 1000,
            unit="ms",
            goal="<= 100 ms",
        )
        print(f"  p50 {percentile(lags, 50) * 1000:.1f} ms, oldest {max(lags) * 1000:.1f} ms")
        print(f"  CPU a token, runs' starts and ends included: {cpu / len(lags) * 1e6:.0f} µs")
        print(f"  memory a stream: {(during - before) / STREAMS:.2f} MiB (goal <= 1 MB)")


if __name__ == "__main__":
    run(benchmark)
