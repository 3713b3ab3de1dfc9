"""Figures for Prometheus, on an address of their own: METRICS_HOST and METRICS_PORT; without a port there are none.

What is counted on the way is in the memory of the process. What the rows know is asked when somebody looks, in a
thread of its own, and not again for a few seconds; every process tells the same of it.
"""

import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

import prometheus_client
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import connection
from django.db.models import Count, Min, Q
from django.db.models.functions import Now
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import REGISTRY, Collector

from conversations.live import Live
from council import measuring
from council.models import Deliberation
from council.threads import forget_a_dead_connection
from councilsite import readiness

# Seconds.
PATIENCE = 2.0  # with the database
FRESH = 5.0  # for which what the rows said is told again

_serving: list[Any] = []
_thread = ThreadPoolExecutor(1, "figures")


class Taken(CommandError):
    """The address for metrics cannot be had."""


def serve(environ: Mapping[str, str]) -> None:
    """Serve figures where METRICS_PORT says; nothing where it is not set, or where this process does so already.

    Raises Taken, and ImproperlyConfigured for a port that is none.
    """
    if _serving or not (port := environ.get("METRICS_PORT")):
        return
    if not (port.isdecimal() and int(port) < 2**16):
        raise ImproperlyConfigured(f"METRICS_PORT is a number below 65536, not {port!r}.")
    host = environ.get("METRICS_HOST") or "127.0.0.1"
    try:
        server, _ = prometheus_client.start_http_server(int(port), host)
    except OSError as error:
        raise Taken(f"Metrics cannot be served on {host} port {port} ({error.strerror}): see METRICS_PORT.") from None
    _serving.append(server)
    prometheus_client.disable_created_metrics()
    REGISTRY.register(Figures())


class _Rows(NamedTuple):
    """What the rows say."""

    jobs: dict[str, int]
    deliberations: dict[str, int]
    oldest: datetime | None
    breakers: list[tuple[str, str, str]]


class Figures(Collector):
    """What is not counted on the way, asked at each look."""

    def __init__(self) -> None:
        self._at = 0.0
        self._asked: Any = None

    def describe(self) -> Iterable[Any]:
        """Nothing beforehand: that would ask the database while the site starts."""
        return ()

    def collect(self) -> Iterable[Any]:
        """Of this process, of readiness, and of the rows where the database answers in time."""
        measuring.tell()
        yield _gauge("deliberations_here", "Deliberations that this process carries out.", Live.count)
        yield from _pool()
        ready = {part: float(state == readiness.OK) for part, state in readiness.states().items()}
        yield _gauge("ready", "Whether each part is there that the site stands on.", ready, "part")
        if rows := self._rows():
            yield from _of_rows(rows)

    def _rows(self) -> _Rows | None:
        if self._asked is None or (self._asked.done() and monotonic() - self._at >= FRESH):
            self._at, self._asked = monotonic(), _thread.submit(_read)
        with contextlib.suppress(Exception):  # whatever it is, council_ready tells it
            return self._asked.result(PATIENCE)
        return None


def _read() -> _Rows:
    forget_a_dead_connection()
    try:
        waiting = Q(status="todo") & (Q(scheduled_at=None) | Q(scheduled_at__lte=Now()))
        jobs = ProcrastinateJob.objects.aggregate(waiting=Count("pk", waiting), doing=Count("pk", Q(status="doing")))
        unfinished = Deliberation.objects.filter(status__in=Deliberation.UNFINISHED).order_by()
        counted = dict(unfinished.values_list("status").annotate(Count("pk")))
        oldest = unfinished.aggregate(Min("created"))["created__min"]
        return _Rows(jobs, {each: counted.get(each, 0) for each in Deliberation.UNFINISHED}, oldest, _breakers())
    except Exception:
        connection.close()
        raise


def _breakers() -> list[tuple[str, str, str]]:
    try:
        breaker = apps.get_model("council", "Breaker")
    except LookupError:
        return []
    return list(breaker.objects.values_list("language_model__provider__name", "language_model__name", "state"))


def _of_rows(rows: _Rows) -> Iterable[Any]:
    yield _gauge("jobs", "Jobs in the queue, of all processes.", rows.jobs, "state")
    yield _gauge("deliberations_unfinished", "Deliberations under way, of all processes.", rows.deliberations, "status")
    oldest = (timezone.now() - rows.oldest).total_seconds() if rows.oldest else 0.0
    yield _gauge("oldest_unfinished_seconds", "Since the oldest unfinished question was asked.", oldest)
    labels = ["provider", "model", "state"]
    breaker = GaugeMetricFamily("council_breaker", "1 for the state of a model's circuit breaker.", labels=labels)
    for each in rows.breakers:
        breaker.add_metric(each, 1)
    yield breaker


def _pool() -> Iterable[Any]:
    if pool := connection.pool:
        told = pool.get_stats()
        states = {"open": "pool_size", "idle": "pool_available", "waited_for": "requests_waiting"}
        counts = {state: told.get(name, 0) for state, name in states.items()}
        yield _gauge("database_connections", "Connections of this process to the database.", counts, "state")


def _gauge(name: str, said: str, value: Any, label: str = "") -> GaugeMetricFamily:
    if not label:
        return GaugeMetricFamily(f"council_{name}", said, value=value)
    gauge = GaugeMetricFamily(f"council_{name}", said, labels=[label])
    for key, count in value.items():
        gauge.add_metric([str(key)], count)
    return gauge
