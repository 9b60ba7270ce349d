"""Waits for a disk or a network in threads, and never leaves one at work behind."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def done_in(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """What it gives. Whoever is cancelled waits for its end: what it has begun, it would finish."""
    doing = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({doing})
        raise
