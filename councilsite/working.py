"""The worker: carries out the jobs that wait in the database, for `up` and for `worker` alike."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable

import psycopg
import uvloop
from django.db import DatabaseError, InterfaceError, connection
from procrastinate.contrib.django import app
from procrastinate.exceptions import ProcrastinateException

from conversations import tasks
from conversations.jobs import GivenJobs
from conversations.working import HEARTBEAT, STALLED, worker_alive
from council.threads import Threads
from governance.times import hurried

CONCURRENCY = 200  # jobs at a time; they wait for providers, not for the processor
RETRY = hurried(2.0)  # seconds between two tries to reach a database that has gone
SILENCE = hurried(60.0)  # seconds without an answer of the database, twice, after which a worker is of no use

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
        with contextlib.suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signalled(concurrency, grace, ready))
    finally:
        connection.close_pool()


async def _until_signalled(concurrency: int, grace: float, ready: Callable[[], None]) -> None:
    task = asyncio.create_task(work(concurrency, grace))
    watching = asyncio.create_task(_watch_the_database())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    ready()
    try:
        await task
    finally:
        watching.cancel()


async def _watch_the_database() -> None:
    """End a process that a half-open connection has made deaf, for whoever keeps it running to start it anew.

    A line that is dead ends with an error, and all goes on. One whose other end still acknowledges and never answers
    ends with nothing, and a thread that waits for it cannot be called back. Two looks, for a process that was itself
    frozen may miss one; by a connection of its own, which is there before the line dies.
    """
    in_own_thread = Threads(1, "watchdog")
    missed = 0
    while missed < 2:
        await asyncio.sleep(HEARTBEAT)
        try:
            async with asyncio.timeout(SILENCE):
                await in_own_thread(worker_alive)
        except TimeoutError:
            missed += 1
        except (DatabaseError, InterfaceError):
            missed = 0  # it is away, and says so
        else:
            missed = 0
    logger.critical("The database has not answered for %.0f seconds: this worker ends.", 2 * SILENCE)
    os._exit(1)


async def _work(concurrency: int, grace: float) -> None:
    # An app of its own, over the same tasks. To replace the app's connector instead would take the website's
    # connector away where both run in one process, and a job must be deferred inside the transaction of its rows.
    connector = app.connector.get_worker_connector()
    worker_app = app.with_connector(connector)
    worker_app.job_manager = given = GivenJobs(connector, tasks.begin)
    alive = asyncio.create_task(given.show_life(HEARTBEAT))
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
        alive.cancel()
        # Also after an `open_async` that was cut short, which leaves a pool that nothing ends.
        await connector.close_async()
