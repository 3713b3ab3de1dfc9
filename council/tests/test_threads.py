"""Database work off the loop: a thread is busy for as long as it works."""

import asyncio
import threading

from council.threads import Threads

PATIENCE = 20


async def test_a_thread_whose_waiter_has_gone_counts_as_busy_until_it_is_done():
    threads, go = Threads(2, "test"), threading.Event()
    waiting = asyncio.create_task(threads(go.wait))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    try:
        # Behind the first it would wait for ever.
        assert await asyncio.wait_for(threads(lambda: "done"), PATIENCE) == "done"
    finally:
        go.set()
