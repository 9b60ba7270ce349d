"""Those who write wait for each other, but for nobody who does not come."""

import asyncio
from contextlib import ExitStack

import pytest

from rethread.tools.file_search import gathering
from rethread.tools.file_search.gathering import Gathering


async def test_half_of_those_who_take_part_go_together_and_nobody_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = Gathering()
    monkeypatch.setattr(gathering, "LONGEST_WAIT_SECONDS", 60)
    with ExitStack() as parts, together.taking_part():
        await together.come_together()  # alone
        for _ in range(5):
            parts.enter_context(together.taking_part())
        await asyncio.gather(*(together.come_together() for _ in range(3)))
        left = asyncio.create_task(together.come_together())
        await asyncio.sleep(0)
        assert not left.done()
        parts.close()
        await left
        parts.enter_context(together.taking_part())
        parts.enter_context(together.taking_part())
        monkeypatch.setattr(gathering, "LONGEST_WAIT_SECONDS", 0.01)
        await together.come_together()
