import asyncio

import pytest
from asgiref.sync import async_to_sync
from procrastinate.contrib.django.models import ProcrastinateWorker

from councilsite import working


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("steps", [0, 1, 5, 10, 20, 30, 40, 50, 60, 80, 120])
def test_a_worker_that_is_stopped_at_any_moment_leaves_no_row(steps):
    async def start_and_stop():
        worker = asyncio.create_task(working.work(1, 0.1))
        for _ in range(steps):
            await asyncio.sleep(0.001)
        worker.cancel()
        await asyncio.wait([worker])

    async_to_sync(start_and_stop)()
    assert not ProcrastinateWorker.objects.exists()
