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
    """So many threads, each with its connection."""

    def __init__(self, count: int, name: str) -> None:
        self.count = count
        self._executor = ThreadPoolExecutor(count, name)

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that uses the ORM in one of the threads, and return or raise what it does."""

        def run() -> T:
            try:
                return function(*args, **kwargs)
            except (OperationalError, InterfaceError):
                # The next call in this thread begins with a fresh connection.
                connection.close()
                raise

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)


in_thread = Threads(6, "council-db")
"""The threads of a worker."""
