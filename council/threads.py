"""Database work off the event loop.

Threads of our own, each with a connection that it keeps: the loop never blocks, what one deliberation writes does not
wait behind all the others, as it would in the one thread that asgiref shares, and no connection is fetched, examined
and given back for each look at the rows.
"""

import asyncio
import logging
import select
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, connection

from governance.times import hurried

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Seconds.
PATIENCE = hurried(60.0)  # with a database that is away
AGAIN = 0.5  # between two tries


class Threads:
    """So many threads, each with its connection.

    Where little goes on, it is always the same one that works: it and its end of the database have at hand what they
    need. To take turns made each statement a third slower.
    """

    def __init__(self, count: int, name: str) -> None:
        self._first = ThreadPoolExecutor(1, name)
        self._others = ThreadPoolExecutor(count - 1, name) if count > 1 else self._first
        self._busy = False

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that uses the ORM in one of the threads, and return or raise what it does."""

        def run() -> T:
            forget_a_dead_connection()
            try:
                return function(*args, **kwargs)
            except (OperationalError, InterfaceError):
                # The next call in this thread begins with a fresh connection.
                connection.close()
                raise

        if self._busy:
            return await asyncio.wrap_future(self._others.submit(run))
        self._busy = True
        working = self._first.submit(run)
        # Not at the end of the waiting: who waits may be cancelled, and the thread works on.
        working.add_done_callback(self._leave)
        return await asyncio.wrap_future(working)

    def _leave(self, _working: Future[object]) -> None:
        self._busy = False


def forget_a_dead_connection() -> None:
    """Let go of the thread's connection if the database has ended it; the next statement then takes another."""
    held = connection.connection
    if held is not None and (held.closed or _readable(held.pgconn.socket)):
        connection.close()


def _readable(socket: int) -> bool:
    """Whether the database has said something unasked, as it does when it goes."""
    looking = select.poll()
    looking.register(socket, select.POLLIN)
    return bool(looking.poll(0))


in_thread = Threads(6, "council-db")
"""The threads of a worker."""


async def outlasting(do: Callable[[], Awaitable[T]]) -> T:
    """Do it, and where the database is away just then do it again, for PATIENCE seconds. Raises what it raises.

    It may have been done before: the connection broke before anybody heard of it. `do` must bear that.
    """
    since: float | None = None
    while True:
        try:
            return await do()
        except (OperationalError, InterfaceError) as error:
            since = since or monotonic()
            if monotonic() - since > PATIENCE:
                raise
            logger.warning("The database is away and is waited for: %s", error)
            await asyncio.sleep(AGAIN)
