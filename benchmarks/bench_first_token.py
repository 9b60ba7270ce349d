"""The first token through a run, against asking the model server directly; and 400 tokens."""

from benchmarks.measure import (
    Start,
    assistant,
    direct,
    median,
    process,
    report,
    rethread,
    run,
    stream,
    through,
)

ROUNDS = 60
TOKENS = 400


async def benchmark(rethread: Start = rethread) -> None:
    """Direct and through in turn, so that both see the same machine."""
    with (
        process("benchmarks.model") as model,
        rethread("--upstream", f"http://127.0.0.1:{model.port}/v1") as server,
    ):
        for tokens in (1, TOKENS):
            asked = direct(tokens, 0)
            run_asked = through(await assistant(server.port, tokens, 0))
            straight, across = [], []
            for number in range(ROUNDS + 5):
                one = await stream(model.port, asked)
                other = await stream(server.port, run_asked)
                assert one.tokens == other.tokens == tokens, (one.tokens, other.tokens)
                if number >= 5:  # the first ones warm up
                    straight.append(one)
                    across.append(other)
            if tokens == 1:
                first = median([each.first_token for each in across]) * 1000
                ceiling = median([each.first_token for each in straight]) * 1000
                report("first token through a run", first, ceiling, unit="ms", goal="+ 10 ms")
                print(f"  added: {first - ceiling:.1f} ms")
            else:
                whole = median([each.whole for each in across]) * 1000
                ceiling = median([each.whole for each in straight]) * 1000
                report(f"{TOKENS} tokens at full speed", whole, ceiling, unit="ms", goal="<= 1.5")


if __name__ == "__main__":
    run(benchmark)
