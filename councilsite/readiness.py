"""Whether all that the site stands on is there: `/readyz`, and the same as figures for whoever scrapes metrics.

It asks others: the database, its tables, the queue and its workers, the channel layer. It tells which of them is
missing and never why: anybody may ask. The log has why. Beside it stands `/healthz`, which says that this process
answers requests, and asks nobody.
"""

import asyncio
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from time import monotonic
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from procrastinate.contrib.django.models import ProcrastinateJob
from redis.backoff import NoBackoff
from redis.retry import Retry

from conversations.working import worker_alive
from council.threads import forget_a_dead_connection

logger = logging.getLogger(__name__)

# Seconds.
PATIENCE = 2.0  # for all parts together
FRESH = 1.0  # for which an answer is given again, however many ask

OK = "ok"
NO_ANSWER = "no answer"


def database() -> str:
    """It answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return OK


def migrations() -> str:
    """The tables are at least those of this release; those of a later one are there while it is put in place."""
    missing = _newest_migrations() - MigrationRecorder(connection).applied_migrations().keys()
    return "not all are applied" if missing else OK


@cache
def _newest_migrations() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def queue() -> str:
    """Its tables are there."""
    ProcrastinateJob.objects.exists()
    return OK


def worker() -> str:
    """One lives."""
    return OK if worker_alive() else "none has given a sign of life"


def channel_layer() -> str:
    """What carries live text between processes answers; the memory of one process always does."""
    if settings.REDIS_URL:
        waits = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
        with redis.Redis.from_url(settings.REDIS_URL, retry=Retry(NoBackoff(), 0), **waits) as client:
            client.ping()
    return OK


# Apart from pages and deliberations, which shall not wait for these, nor these for them. A part that hangs holds up
# those that ask the same.
_rows, _layer = ThreadPoolExecutor(1, "ready-rows"), ThreadPoolExecutor(1, "ready-layer")
PARTS = {
    "database": (database, _rows),
    "migrations": (migrations, _rows),
    "queue": (queue, _rows),
    "worker": (worker, _rows),
    "channel layer": (channel_layer, _layer),
}
_lock = threading.Lock()
_asked: dict[str, tuple[float, Future[str]]] = {}
_last: dict[str, str] = {}


def states() -> dict[str, str]:
    """Each part's state: OK, or what is wrong, in a few words. Waits PATIENCE seconds at most; not for the loop."""
    asked = _ask()
    wait(asked.values(), PATIENCE)
    return _told(asked)


async def _states() -> dict[str, str]:
    asked = _ask()
    await asyncio.wait([asyncio.wrap_future(each) for each in asked.values()], timeout=PATIENCE)
    return _told(asked)


def _ask() -> dict[str, Future[str]]:
    """Ask each part, unless it was asked just now or has not answered yet."""
    with _lock:
        for name, (check, threads) in PARTS.items():
            at, asked = _asked.get(name, (0.0, None))
            if asked is None or (asked.done() and monotonic() - at >= FRESH):
                _asked[name] = monotonic(), threads.submit(_state, name, check)
        return {name: asked for name, (_, asked) in _asked.items()}


def _state(name: str, check: Any) -> str:
    forget_a_dead_connection()
    try:
        state = check()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is no answer
        connection.close()
        state, why = NO_ANSWER, type(error).__name__
    else:
        why = state
    if state != _last.get(name, OK):
        logger.warning("%s: %s (%s)", "Ready again" if state == OK else "Not ready", name, why)
    _last[name] = state
    return state


def _told(asked: dict[str, Future[str]]) -> dict[str, str]:
    return {name: each.result() if each.done() else NO_ANSWER for name, each in asked.items()}


def with_probes(application: Any) -> Any:
    """The ASGI application for HTTP, with /healthz and /readyz before it.

    Whoever probes knows neither the site's name nor its scheme, and takes no turn: where all pages wait for a database
    that is away, the process is not to be taken for dead.
    """

    async def respond(scope: Any, receive: Any, send: Any) -> None:
        match scope["path"]:
            case "/healthz":
                await _answer(send, 200, f"{OK}\n")
            case "/readyz":
                states = await _states()
                status = 200 if set(states.values()) == {OK} else 503
                await _answer(send, status, "".join(f"{name}: {state}\n" for name, state in states.items()))
            case _:
                await application(scope, receive, send)

    return respond


async def _answer(send: Any, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
