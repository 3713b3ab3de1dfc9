import asyncio
import contextlib

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from procrastinate.contrib.django.models import ProcrastinateWorker
from procrastinate.exceptions import ConnectorException

from bench.provider import Provider
from conversations import asking, jobs
from conversations.tests import cast
from councilsite import working

PATIENCE = 10
"""Seconds for a worker to end that never will; no test asks how long it takes."""


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_stopped_at_any_moment_ends_and_leaves_no_row():
    async def start_and_stop(milliseconds: int) -> bool:
        worker = asyncio.create_task(working.work(1, 0.1))
        await asyncio.sleep(milliseconds / 1000)
        worker.cancel()
        ended, _ = await asyncio.wait([worker], timeout=PATIENCE)
        if not ended:
            worker.cancel()
            await asyncio.wait([worker])
        return bool(ended)

    # The queue's tables are not emptied between tests, and some have their worker die.
    before = list(ProcrastinateWorker.objects.values_list("pk", flat=True))
    # Its start takes some fifty.
    deaf = [moment for moment in range(100) if not async_to_sync(start_and_stop)(moment)]
    assert not deaf
    assert not ProcrastinateWorker.objects.exclude(pk__in=before).exists()


@pytest.mark.parametrize("lost", [ConnectorException(), psycopg.OperationalError(), ConnectionRefusedError(), None])
async def test_a_worker_that_lost_the_database_or_stopped_by_itself_begins_again(monkeypatch, lost):
    begun, again = [], asyncio.Event()

    async def once(*given):
        begun.append(given)
        if len(begun) == 1:
            if lost:
                raise lost
            return
        again.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(working, "_work", once)
    monkeypatch.setattr(working, "RETRY", 0)
    monkeypatch.setattr(working.tasks, "lifespan", contextlib.nullcontext)
    worker = asyncio.create_task(working.work(7, 0.1))
    await asyncio.wait([worker, asyncio.create_task(again.wait())], timeout=PATIENCE, return_when="FIRST_COMPLETED")
    assert not worker.done()
    worker.cancel()
    await asyncio.wait([worker])
    assert begun == [(7, 0.1)] * 2


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_told_to_go_gives_signs_of_life_until_its_jobs_have_ended(monkeypatch):
    monkeypatch.setattr(working, "HEARTBEAT", 0.1)

    def last_sign():
        return ProcrastinateWorker.objects.order_by("pk").last().last_heartbeat

    def ask(url: str) -> None:
        asking.ask(cast.alice(), "What now?", cast.council(url))

    async def told_to_go() -> None:
        worker = asyncio.create_task(working.work(5, 60))
        try:
            while not (mine := jobs.here()):
                await asyncio.sleep(0.01)
            await sync_to_async(ask)(provider.url)
            while mine._given or not provider.requests():  # what it has not taken up yet it hands back
                await asyncio.sleep(0.01)
            worker.cancel()
            while jobs.here():
                await asyncio.sleep(0.01)
            before = await sync_to_async(last_sign)()
            async with asyncio.timeout(PATIENCE):
                while await sync_to_async(last_sign)() == before:
                    await asyncio.sleep(0.05)
            assert not worker.done()
        finally:
            worker.cancel()
            worker.cancel()
            await asyncio.wait([worker])

    with Provider(tokens=2000, tokens_per_second=20) as provider:
        async_to_sync(told_to_go)()
