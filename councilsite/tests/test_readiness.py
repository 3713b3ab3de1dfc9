"""/readyz: whether all that the site stands on is there, for anybody who asks."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from channels.testing import HttpCommunicator
from django.db import OperationalError, connection
from django.db.backends.utils import CursorWrapper
from django.db.migrations.recorder import MigrationRecorder
from procrastinate.contrib.django.models import ProcrastinateWorker

from conversations import changes
from council.threads import in_thread
from councilsite import asgi, database, metrics, pages, readiness

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 30  # seconds
PARTS = ["database", "migrations", "queue", "worker", "channel layer"]
NO_REDIS = "redis://:a-password@127.0.0.1:9/0"
ALL_THERE = "".join(f"{part}: ok\n" for part in PARTS)


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    monkeypatch.setattr(readiness, "_asked", {})
    monkeypatch.setattr(readiness, "_last", {})
    monkeypatch.setattr(readiness, "FRESH", 0.0)


@pytest.fixture
def worker(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
        (key,) = cursor.fetchone()
        yield ProcrastinateWorker.objects.filter(pk=key)
        cursor.execute("DELETE FROM procrastinate_workers")


async def get(host: bytes = b"10.1.2.3") -> tuple[int, str]:
    asked = HttpCommunicator(asgi.application, "GET", "/readyz", headers=[(b"host", host)])
    response = await asked.get_response(PATIENCE)
    assert (b"cache-control", b"no-store") in response["headers"]
    return response["status"], response["body"].decode()


def test_a_site_that_has_all_it_needs_is_ready_under_any_name(worker):
    assert asyncio.run(get()) == (200, ALL_THERE)


def test_without_a_worker_that_lives_it_is_not_ready(worker):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    status, said = asyncio.run(get())
    assert status == 503
    assert said == ALL_THERE.replace("worker: ok", "worker: none has given a sign of life")


def test_with_a_migration_that_is_not_applied_it_is_not_ready(worker):
    newest = MigrationRecorder.Migration.objects.filter(app="council").latest("id")
    newest.delete()
    try:
        status, said = asyncio.run(get())
    finally:
        newest.save(force_insert=True)
    assert status == 503
    assert "migrations: not all are applied\n" in said


def test_without_its_database_it_says_so_of_each_part_that_needs_it(worker, monkeypatch):
    def away(*_):
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as patched:
        patched.setattr(CursorWrapper, "execute", away)
        status, said = asyncio.run(get())
    assert status == 503
    assert said == ALL_THERE.replace("ok", "no answer", len(PARTS) - 1)


def test_without_the_tables_of_the_queue_it_is_not_ready(worker):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE procrastinate_jobs RENAME TO elsewhere")
        try:
            status, said = asyncio.run(get())
        finally:
            cursor.execute("ALTER TABLE elsewhere RENAME TO procrastinate_jobs")
    assert status == 503
    assert said == ALL_THERE.replace("queue: ok", "queue: no answer")


def test_with_the_tables_of_a_later_release_it_is_ready(worker):
    later = MigrationRecorder.Migration.objects.create(app="council", name="9999_of_a_later_release")
    try:
        assert asyncio.run(get()) == (200, ALL_THERE)
    finally:
        later.delete()


def test_without_its_channel_layer_it_is_not_ready_and_tells_no_secret(worker, settings, caplog):
    settings.REDIS_URL = NO_REDIS
    for _ in range(2):
        assert asyncio.run(get()) == (503, ALL_THERE.replace("layer: ok", "layer: no answer"))
    (told,) = caplog.messages  # the second time is no news
    assert "channel layer" in told
    assert "a-password" not in told
    settings.REDIS_URL = ""
    assert asyncio.run(get()) == (200, ALL_THERE)


def test_with_a_redis_it_is_ready(worker, settings, valkey):
    settings.REDIS_URL = valkey
    assert asyncio.run(get()) == (200, ALL_THERE)


def test_a_database_that_hangs_is_no_answer_and_holds_nobody_up(worker, monkeypatch):
    """Nor is it asked again and again meanwhile."""
    monkeypatch.setattr(readiness, "PATIENCE", 0.05)
    asked, back = [], threading.Event()

    def hang() -> str:
        asked.append(1)
        back.wait(PATIENCE)
        return readiness.OK

    threads = ThreadPoolExecutor(1)
    monkeypatch.setitem(readiness.PARTS, "database", (hang, threads))
    for _ in range(3):
        status, said = asyncio.run(get())
        assert status == 503
        assert "database: no answer\n" in said
    back.set()
    threads.shutdown()
    assert len(asked) == 1


def test_every_thread_that_keeps_a_connection_finds_one_in_the_pool():
    kept = [pages._threads, in_thread._first, in_thread._others, changes.drawing._first, metrics._thread]
    kept += {threads for _, threads in readiness.PARTS.values()} - {readiness._layer}
    first_of_the_command = 1
    assert sum(each._max_workers for each in kept) + first_of_the_command <= database.POOL["max_size"]


def test_however_many_ask_each_part_is_asked_once_in_a_second(worker, monkeypatch):
    monkeypatch.setattr(readiness, "FRESH", 3600.0)
    asked = []
    monkeypatch.setitem(readiness.PARTS, "queue", (lambda: asked.append(1) or readiness.OK, ThreadPoolExecutor(1)))

    async def all_at_once() -> list[tuple[int, str]]:
        return await asyncio.gather(*[get() for _ in range(20)])

    assert asyncio.run(all_at_once()) == [(200, ALL_THERE)] * 20
    assert len(asked) == 1
