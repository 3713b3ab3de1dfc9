"""How often: what somebody may do in a while, and how much at the same time. What a superuser decides (`Limit`).

Counted by the limits library, in Redis where there is one, so that all processes count together; else, and while Redis
is away, in the memory of each process. Open sockets, and what comes over them, are counted by each process for itself.
"""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from ipaddress import ip_network
from math import ceil
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import SlidingWindowCounterRateLimiter

from accounts.models import Limit
from governance import rows

logger = logging.getLogger(__name__)

What, Per = Limit.What, Limit.Per

KNOWN_FOR = 5.0
"""Seconds for which a process goes by the limits that it has read."""
PAUSE = 5.0
"""Seconds for which a Redis that did not answer is not asked."""
MINUTE, HOUR = 60, 3600


@dataclass(slots=True)
class _Outage:
    until: float = 0.0


_outage = _Outage()
_read_last: list[Limit] = []
"""The limits that this process has read last, whenever that was."""

# Where an administrator has decided nothing about it.
DEFAULTS = {
    What.ASKS: Limit(what=What.ASKS, per=Per.PERSON, amount=120, seconds=HOUR),
    What.GOING: Limit(what=What.GOING, per=Per.PERSON, amount=5),
    What.SOCKETS: Limit(what=What.SOCKETS, per=Per.PERSON, amount=60),
    What.MESSAGES: Limit(what=What.MESSAGES, per=Per.PERSON, amount=60, seconds=MINUTE),
    # Three hundred people behind one address have two pages each that come back after a restart. Each opening costs one
    # look in the thread that all open pages share: ten a second from one address leave room for everybody else's.
    What.OPENINGS: Limit(what=What.OPENINGS, per=Per.ADDRESS, amount=600, seconds=MINUTE),
    What.SIGN_INS: Limit(what=What.SIGN_INS, per=Per.ADDRESS, amount=30, seconds=5 * MINUTE),
    What.LINKS: Limit(what=What.LINKS, per=Per.ADDRESS, amount=240, seconds=MINUTE),
    What.ACTS: Limit(what=What.ACTS, per=Per.PERSON, amount=300, seconds=HOUR),
}


class Reached(Exception):
    """A limit is reached; the message says when to come back. `seconds`: until then; None: once something has ended."""

    def __init__(self, what: str, seconds: int | None) -> None:
        super().__init__(_words(what, seconds))
        self.what = what
        self.seconds = seconds


def take(what: str, person: AbstractBaseUser | AnonymousUser | None = None, address: str = "") -> None:
    """Count one of these. Raises Reached, and then it is not to be done."""
    _ask("hit", what, person, address)


def look(what: str, person: AbstractBaseUser | AnonymousUser | None = None, address: str = "") -> None:
    """Whether another may be done, without counting it: for what counts once it has gone wrong. Raises Reached."""
    _ask("test", what, person, address)


def take_here(held: Iterable[tuple[Limit, str]]) -> None:
    """Count one of what these limits of `in_a_while` are about, in this process alone: for who may wait for no Redis.

    Raises Reached.
    """
    for limit, whose in held:
        _within(limit, *_by(_limiter(""), "hit", *_named(limit, whose)))


def _ask(way: str, what: str, person: AbstractBaseUser | AnonymousUser | None, address: str) -> None:
    for limit, whose in in_a_while(what, person, address):
        _within(limit, *_counted(way, *_named(limit, whose)))


def _named(limit: Limit, whose: str) -> tuple[RateLimitItemPerSecond, tuple[str, ...]]:
    """A limit as the library knows it, and whose count it is."""
    item = RateLimitItemPerSecond(limit.amount, limit.seconds)
    return item, ("council", limit.what, str(limit.pk or "default"), whose)


def _within(limit: Limit, free: bool, reset: float) -> None:  # noqa: FBT001  # as it was counted
    if not free:
        raise Reached(limit.what, max(1, ceil(reset - time.time())))


def _counted(way: str, item: RateLimitItemPerSecond, names: tuple[str, ...]) -> tuple[bool, float]:
    """Whether there was room, and when there will be, in seconds since 1970. A Redis that is away is left alone."""
    if settings.REDIS_URL and time.monotonic() >= _outage.until:
        try:
            return _by(_limiter(settings.REDIS_URL), way, item, names)
        except Exception as error:  # noqa: BLE001  # whatever the client of Redis raises
            _outage.until = time.monotonic() + PAUSE
            logger.warning("Redis is away (%s): each process counts for itself", error)
    return _by(_limiter(""), way, item, names)


def _by(
    limiter: SlidingWindowCounterRateLimiter, way: str, item: RateLimitItemPerSecond, names: tuple[str, ...]
) -> tuple[bool, float]:
    return getattr(limiter, way)(item, *names), limiter.get_window_stats(item, *names).reset_time


def at_once(
    what: str, person: AbstractBaseUser | AnonymousUser | None = None, address: str = ""
) -> list[tuple[Limit, str]]:
    """The limits to how much of it may go on at the same time, each with whose it is: counted by whoever knows."""
    return [(limit, whose) for limit, whose in _apply(what, person, address) if limit.seconds is None]


def in_a_while(
    what: str, person: AbstractBaseUser | AnonymousUser | None = None, address: str = ""
) -> list[tuple[Limit, str]]:
    """The limits to how often it may be done, each with whose it is."""
    return [(limit, whose) for limit, whose in _apply(what, person, address) if limit.seconds is not None]


def of_address(what: str, address: str) -> list[tuple[Limit, str]]:
    """The limits of `in_a_while` to what strangers do, for the loop, which may not wait for the database.

    They are those that the process has read last; before it has read any, the site's own.
    """
    decided = [each for each in _read_last if each.what == what]
    return [(limit, f"address {network(address)}") for limit in decided or [DEFAULTS[Limit.What(what)]]]


class Open:
    """What is open in this process, by whose it is. For one thread."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count: Counter[str] = Counter()

    def enter(self, held: Collection[tuple[Limit, str]]) -> None:
        """One more for each whose it is by these limits of `at_once`. Raises Reached, and then for none of them."""
        if any(self._count[whose] >= limit.amount for limit, whose in held):
            raise Reached(self._what, None)
        self._count.update({whose for _limit, whose in held})

    def leave(self, held: Collection[tuple[Limit, str]]) -> None:
        """One less for each."""
        for whose in {whose for _limit, whose in held}:
            self._count[whose] -= 1
            if self._count[whose] <= 0:
                del self._count[whose]


def network(address: str) -> str:
    """What an address counts as: whoever has one of IPv6 has all of its network."""
    if ":" in address:
        with contextlib.suppress(ValueError):
            return str(ip_network(f"{address}/64", strict=False))
    return address


def forget() -> None:
    """Read the limits anew: one was just changed here."""
    _rows.cache_clear()


def forget_counts() -> None:
    """Count from nothing again, in this process's memory: for tests."""
    _limiter.cache_clear()
    _read_last.clear()
    _outage.until = 0.0


def _apply(what: str, person: AbstractBaseUser | AnonymousUser | None, address: str) -> Iterable[tuple[Limit, str]]:
    """The limits that concern this, each with whose count it is."""
    decided = [each for each in _rows(int(time.monotonic() / KNOWN_FOR)) if each.what == what]
    groups: frozenset[int] = frozenset()
    if person is not None and person.pk and any(each.group_id for each in decided):
        groups = frozenset(person.groups.values_list("pk", flat=True))  # type: ignore[union-attr]  # of whoever has a key
    address = network(address)
    # Those of one's groups hold in place of those for everyone, and these in place of the site's own.
    of_groups = [each for each in decided if each.group_id in groups]
    for_everyone = [each for each in decided if each.group_id is None]
    for limit in of_groups or for_everyone or [DEFAULTS[Limit.What(what)]]:
        if limit.per == Per.GROUP:
            yield limit, f"group {limit.group_id}"
        elif limit.per == Per.PERSON and person is not None and person.pk:
            yield limit, f"person {person.pk}"
        elif limit.per == Per.ADDRESS or person is None or not person.pk:
            yield limit, f"address {address}"


@lru_cache(maxsize=1)
def _rows(_now: int) -> list[Limit]:
    (found,) = rows.execute([rows.select(Limit, "ORDER BY id")])
    _read_last[:] = rows.instances(Limit, found.rows)
    return list(_read_last)


@cache
def _limiter(redis: str) -> SlidingWindowCounterRateLimiter:
    storage: Storage = RedisStorage(redis, socket_timeout=0.5, socket_connect_timeout=0.5) if redis else MemoryStorage()
    return SlidingWindowCounterRateLimiter(storage)


def _words(what: str, seconds: int | None) -> str:
    if seconds is None:
        return _("As much as you may have at work at the same time is at work. Wait until something has ended.")
    minutes = ceil(seconds / MINUTE)
    if seconds < MINUTE:
        when = ngettext("in %s second", "in %s seconds", seconds) % seconds
    else:
        when = ngettext("in %s minute", "in %s minutes", minutes) % minutes
    said: dict[Any, str] = {
        What.ASKS: _("You have asked as often as you may for now. Ask again %(when)s."),
        What.SIGN_INS: _("There were too many tries to sign in. Try again %(when)s."),
    }
    return said.get(what, _("That was too often. Try again %(when)s.")) % {"when": when}
