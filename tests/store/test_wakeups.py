"""Wake-ups: never lost between two waits, only for those who listen, and nothing is left behind."""

import asyncio

from rethread.store.wakeups import Wakeups


async def test_a_wake_up_between_two_waits_is_not_lost() -> None:
    wakeups = Wakeups()
    with wakeups.listen("a") as wakeup:
        wakeups.notify("a")
        wakeups.notify("a")
        assert await wakeup.wait(timeout_seconds=20)
        assert not await wakeup.wait(timeout_seconds=0.01)


async def test_everybody_who_listens_to_the_topic_wakes_and_nobody_else() -> None:
    wakeups = Wakeups()
    with wakeups.listen("a") as first, wakeups.listen("a") as second, wakeups.listen("b") as other:
        waits = [asyncio.create_task(w.wait(timeout_seconds=20)) for w in (first, second)]
        await asyncio.sleep(0)
        wakeups.notify("a")
        assert await asyncio.gather(*waits) == [True, True]
        assert not await other.wait(timeout_seconds=0)


async def test_what_was_notified_before_is_not_heard() -> None:
    wakeups = Wakeups()
    wakeups.notify("a")
    with wakeups.listen("a") as wakeup:
        assert not await wakeup.wait(timeout_seconds=0)


async def test_topics_that_nobody_listens_to_take_no_room() -> None:
    wakeups = Wakeups()
    with wakeups.listen("a"):
        with wakeups.listen("a"):
            pass
        assert list(wakeups._listeners) == ["a"]
    wakeups.notify("a")
    assert not wakeups._listeners
