"""Database work of a worker, off its event loop.

A few threads of the worker's own, each with a connection it keeps: the loop never blocks, and what one deliberation
writes does not wait behind all the others, as it would in the one thread that asgiref shares.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, connection

P = ParamSpec("P")
T = TypeVar("T")

_executor = ThreadPoolExecutor(max_workers=6, thread_name_prefix="council-db")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that uses the ORM in one of the threads, and return or raise what it does."""

    def run() -> T:
        try:
            return function(*args, **kwargs)
        except (OperationalError, InterfaceError):
            # The next call in this thread begins with a fresh connection.
            connection.close()
            raise

    return await asyncio.get_running_loop().run_in_executor(_executor, run)
