"""The worker: carries out the jobs that wait in the database, for `up` and for `worker` alike."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable

import psycopg
from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.exceptions import ProcrastinateException

from conversations import tasks
from conversations.jobs import GivenJobs
from conversations.working import HEARTBEAT, STALLED
from governance.times import hurried

CONCURRENCY = 200  # jobs at a time; they wait for providers, not for the processor
RETRY = hurried(2.0)  # seconds between two tries to reach a database that has gone

logger = logging.getLogger(__name__)


async def work(concurrency: int, grace: float) -> None:
    """Work until cancelled. Jobs then have `grace` seconds to end before they are cut."""
    async with tasks.lifespan():
        while True:
            try:
                await _work(concurrency, grace)
                logger.warning("The worker stopped by itself and starts again.")
            except (ProcrastinateException, psycopg.Error, OSError) as error:
                logger.warning("The worker cannot reach the database and tries again: %s", error)
            await asyncio.sleep(RETRY)


def work_alone(concurrency: int, grace: float, ready: Callable[[], None]) -> None:
    """Work until SIGTERM or Ctrl-C; a second one cuts the jobs at once. `ready` is called when it heeds them."""
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(_until_signalled(concurrency, grace, ready))
    finally:
        connection.close_pool()


async def _until_signalled(concurrency: int, grace: float, ready: Callable[[], None]) -> None:
    task = asyncio.create_task(work(concurrency, grace))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    ready()
    await task


async def _work(concurrency: int, grace: float) -> None:
    # An app of its own, over the same tasks. To replace the app's connector instead would take the website's
    # connector away where both run in one process, and a job must be deferred inside the transaction of its rows.
    connector = app.connector.get_worker_connector()
    worker_app = app.with_connector(connector)
    worker_app.job_manager = GivenJobs(connector, tasks.begin)
    try:
        await worker_app.open_async()
        await worker_app.run_worker_async(
            concurrency=concurrency,
            install_signal_handlers=False,
            shutdown_graceful_timeout=grace,
            # Notifications start a job at once. One that comes while jobs are being fetched is lost, so look often.
            fetch_job_polling_interval=0.5,
            update_heartbeat_interval=HEARTBEAT,
            stalled_worker_timeout=STALLED,
            delete_jobs="successful",
        )
    finally:
        # Also after an `open_async` that was cut short, which leaves a pool that nothing ends.
        await connector.close_async()
