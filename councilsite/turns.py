"""Requests take turns: a web process works on a few at a time, and the others wait.

Each request has a thread of its own, and all threads of a process share one interpreter with the loop that carries the
live pages. Fifty that work at once take no less time than fifty in a row, but hold up every stream meanwhile.
"""

import asyncio
from typing import Any

AT_ONCE = 4
# Requests in the admin may wait for a provider, and few people make them.
EXEMPT = "/admin/"


def in_turns(application: Any, at_once: int = AT_ONCE) -> Any:
    """The ASGI application for HTTP, with at most `at_once` requests under way."""
    turns = asyncio.Semaphore(at_once)

    async def take_turns(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith(EXEMPT):
            await application(scope, receive, send)
        else:
            async with turns:
                await application(scope, receive, send)

    return take_turns
