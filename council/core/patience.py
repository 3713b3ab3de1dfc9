"""How long a stage waits for its calls: until its deadline, or a little longer than enough of them took.

What a call had brought when the wait ended is kept: it counts as cut off, or as too slow where there is no text. It is
not tried again, and nobody stopped it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

NOT_WAITED_FOR = "the council did not wait any longer."


class Patience:
    """The wait of one stage; use it as a context manager around that. Without limits it never ends.

    `quorum`: how many usable replies are enough (None: all). `grace`: seconds that the others still have then.
    `seconds`: how long the stage may take in all (None: as long as it takes).
    """

    def __init__(self, quorum: int | None = None, grace: float = 0.0, seconds: float | None = None) -> None:
        self.over = ""
        """Once the wait has ended, why."""
        self._quorum = quorum
        self._grace = grace
        self._seconds = seconds
        self._usable = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._waiting: set[asyncio.Timeout] = set()

    def __enter__(self) -> Self:
        if self._seconds is not None:
            self._end_after(self._seconds, f"The stage took {self._seconds:.0f} seconds; {NOT_WAITED_FOR}")
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()

    def heard(self) -> None:
        """A usable reply has come."""
        self._usable += 1
        if self._usable == self._quorum:
            self._end_after(self._grace, f"Enough others were done; {NOT_WAITED_FOR}")

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Around a call with all its attempts. Raises TimeoutError when the wait is over."""
        async with asyncio.timeout(0 if self.over else None) as timeout:
            self._waiting.add(timeout)
            try:
                yield
            finally:
                self._waiting.discard(timeout)

    def _end_after(self, seconds: float, why: str) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, self._end, why))

    def _end(self, why: str) -> None:
        self.over = self.over or why
        for timeout in self._waiting:
            timeout.reschedule(asyncio.get_running_loop().time())
