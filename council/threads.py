"""Database work off the event loop.

Threads of our own, each with a connection that it keeps: the loop never blocks, what one deliberation writes does not
wait behind all the others, as it would in the one thread that asgiref shares, and no connection is fetched, examined
and given back for each look at the rows.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, connection

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """So many threads, each with its connection.

    Where little goes on, it is always the same one that works: it and its end of the database have at hand what they
    need. To take turns made each statement a third slower.
    """

    def __init__(self, count: int, name: str) -> None:
        self.count = count
        self._first = ThreadPoolExecutor(1, name)
        self._others = ThreadPoolExecutor(count - 1, name) if count > 1 else self._first
        self._busy = False

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that uses the ORM in one of the threads, and return or raise what it does."""

        async def run_in(executor: ThreadPoolExecutor) -> T:
            return await asyncio.get_running_loop().run_in_executor(executor, run)

        def run() -> T:
            try:
                return function(*args, **kwargs)
            except (OperationalError, InterfaceError):
                # The next call in this thread begins with a fresh connection.
                connection.close()
                raise

        if self._busy:
            return await run_in(self._others)
        self._busy = True
        try:
            return await run_in(self._first)
        finally:
            self._busy = False


in_thread = Threads(6, "council-db")
"""The threads of a worker."""
