"""Requests take turns: a web process works on one at a time, and the others wait.

Requests are answered in threads, and all threads of a process share one interpreter with the loop that carries the
live pages. Fifty that work at once take no less time than fifty in a row, but hold up every stream meanwhile.
"""

import asyncio
from typing import Any

SLOW = 0.1
"""Seconds after which a request works on beside the next one: it waits for something, and nobody shall wait for it."""

MOST = 12
"""Requests that are worked on at all: each has a thread, and that a connection to the database."""


def in_turns(application: Any) -> Any:
    """The ASGI application for HTTP, in turns."""
    turns, places = asyncio.Semaphore(1), asyncio.Semaphore(MOST)

    async def take_turns(scope: Any, receive: Any, send: Any) -> None:
        async with places:
            await turns.acquire()
            await work(scope, receive, send)

    async def work(scope: Any, receive: Any, send: Any) -> None:
        over = False

        def end_turn() -> None:
            nonlocal over
            if not over:
                over = True
                turns.release()

        timer = asyncio.get_running_loop().call_later(SLOW, end_turn)
        try:
            await application(scope, receive, send)
        finally:
            timer.cancel()
            end_turn()

    return take_turns
