"""Requests of poll helpers: held until what they ask for rests, or for a while.

The SDKs' helpers say that they poll. Others are answered at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from rethread.http.request import Request

T = TypeVar("T")

# Read once by the SDKs' poll helpers, from the first answer that is not at rest. Their next
# request is held anyway; others come again soon enough with it.
POLL_AFTER: Final = (b"openai-poll-after-ms", b"200")
FREE_LOOKS: Final = 4  # of one request, after which the next ones come with a pause
PAUSE_SECONDS: Final = 0.002  # longer each time
LONGEST_PAUSE_SECONDS: Final = 0.05


async def held(
    request: Request,
    topic: str,
    look: Callable[[], Awaitable[T]],
    *,
    is_at_rest: Callable[[T], bool],
) -> T:
    """What a look shows: for a poll helper, once it rests or the holding time is over."""
    if request.header(b"x-stainless-poll-helper") != "true":
        return await look()
    loop_time = asyncio.get_running_loop().time
    until = loop_time() + request.services.options.poll_hold_seconds
    with request.db.listen(topic) as wakeup:
        looks = 0
        while True:
            # A thousand files that are read wake their batch's poll a thousand times.
            if looks > FREE_LOOKS:
                await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, looks * PAUSE_SECONDS))
            looks += 1
            found = await look()
            left = until - loop_time()
            if is_at_rest(found) or left <= 0 or request.services.stop.has_begun:
                return found
            await request.services.wait(wakeup, timeout_seconds=left)
