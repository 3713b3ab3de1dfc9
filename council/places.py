"""How many calls a provider is sent at the same time, by all workers together (`Provider.concurrency`).

Each call that wants a place is a row, in the order in which they came; the first so many of a provider's have one. A
process gives a sign of life for all of its rows now and then, so that those of one that died stop counting. Whoever
waits holds no thread and no connection, so a slow provider keeps nobody else waiting.
"""

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import Self

from django.db import IntegrityError
from django.db.models.functions import Now

from council.core.errors import ProviderGone
from council.models import Place, Provider
from council.threads import in_thread, outlasting
from governance import rows

logger = logging.getLogger(__name__)

# Seconds.
LOOK = 0.25  # between two looks whether a place has become free elsewhere
ALIVE = 5.0  # between two signs of life
LOST = 20.0  # without one, after which a row counts no more

_PLACE, _PROVIDER = Place._meta.db_table, Provider._meta.db_table

# Rows get their numbers one after another, so that none comes in before another that has its place already.
_IN_LINE = f"SELECT 1 FROM {_PROVIDER} WHERE id = %s FOR NO KEY UPDATE"  # noqa: S608  # own name
_TAKE = f"INSERT INTO {_PLACE} (provider_id, seen) VALUES (%s, now()) RETURNING id"  # noqa: S608  # own name

# A provider that has no limit any more lets all in.
_HAVE = f"""
    SELECT place.id, provider.concurrency IS NULL OR provider.concurrency > (
        SELECT count(*) FROM {_PLACE} AS earlier
        WHERE earlier.provider_id = place.provider_id AND earlier.id < place.id
            AND earlier.seen > now() - %s * interval '1 second'
    )
    FROM {_PLACE} AS place JOIN {_PROVIDER} AS provider ON provider.id = place.provider_id
    WHERE place.id = ANY(%s)
"""  # noqa: S608  # own names


class Places:
    """The places of this process. An async context manager; one task of it does all that concerns rows."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._held: set[int] = set()
        self._left: list[int] = []
        self._woken = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        mine = [*self._left, *self._held, *self._waiting]
        if mine:
            with contextlib.suppress(Exception):  # else they are seen to be lost
                await in_thread(_leave, mine)

    async def take(self, provider: int) -> int:
        """Wait for a place at a provider, and return it; give it to `leave` at the end.

        Raises ProviderGone where the provider has been removed.
        """
        self._keeper = self._keeper or asyncio.create_task(self._keep())
        while True:
            place = await outlasting(lambda: self._take(provider))
            waiting = self._waiting[place] = asyncio.get_running_loop().create_future()
            self._woken.set()
            try:
                if await waiting:
                    return place
            except asyncio.CancelledError:
                self.leave(place)
                raise

    async def _take(self, provider: int) -> int:
        """Get in line. Where nobody hears of it the row is nobody's, and seen to be lost."""
        taking = asyncio.ensure_future(in_thread(_take, provider))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._leave_taken)
            raise

    def _leave_taken(self, taking: asyncio.Future[int]) -> None:
        if not taking.cancelled() and not taking.exception():
            self.leave(taking.result())

    def leave(self, place: int) -> None:
        """The place is free for whoever comes next."""
        self._held.discard(place)
        self._waiting.pop(place, None)
        self._left.append(place)
        self._woken.set()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        alive = loop.time()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK if self._waiting or self._left else ALIVE):
                    await self._woken.wait()
            self._woken.clear()
            try:
                if self._left:
                    left = list(self._left)
                    await in_thread(_leave, left)
                    del self._left[: len(left)]
                if loop.time() - alive >= ALIVE:
                    await in_thread(_live, [*self._held, *self._waiting])
                    alive = loop.time()
                if self._waiting:
                    waiting = list(self._waiting)
                    have = await in_thread(_have, waiting)
                    for place in waiting:
                        if have.get(place, True):
                            self._let_in(place, there=place in have)
            except Exception:
                logger.exception("Could not look after the places at providers; trying again")
                await asyncio.sleep(1)

    def _let_in(self, place: int, *, there: bool) -> None:
        """Tell who waits that it has its place; or that its row is gone, as one that seemed lost is: it asks anew."""
        waiting = self._waiting.pop(place, None)  # who waited may have gone meanwhile
        if waiting and not waiting.done():
            if there:
                self._held.add(place)
            waiting.set_result(there)


def _take(provider: int) -> int:
    try:
        _line, taken = rows.execute([(_IN_LINE, [provider]), (_TAKE, [provider])])
    except IntegrityError as error:
        raise ProviderGone from error
    return int(taken.rows[0][0])


def _have(waiting: list[int]) -> dict[int, bool]:
    """Of these, as far as they are there, whether each has its place."""
    (found,) = rows.execute([(_HAVE, [LOST, waiting])])
    return dict(found.rows)


def _live(places: list[int]) -> None:
    """A sign of life for these; what nobody has given one for long is cleared away."""
    Place.objects.filter(pk__in=places).update(seen=Now())
    Place.objects.filter(seen__lt=Now() - timedelta(seconds=10 * LOST)).delete()


def _leave(places: list[int]) -> None:
    Place.objects.filter(pk__in=places).delete()
