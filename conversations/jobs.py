"""The way of a question to a worker: through the queue, or straight to the worker of the same process.

Where website and worker are one process, a question need not wait until the queue is looked at. It has its job in the
queue all the same, as one that this worker has fetched: should the process die, the job is seen to be without a worker,
and another begins it again.
"""

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple
from uuid import UUID

import stamina
from asgiref.sync import async_to_sync
from django.db import connection
from django.utils import timezone
from procrastinate.connector import BaseConnector
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, NotificationCallback
from psycopg.types.json import Jsonb

from council.claiming import Claim
from governance.rows import Statement
from governance.times import hurried

logger = logging.getLogger(__name__)

QUEUE = "deliberations"
TASK = "deliberate"
TURNS_TO_GO_OUT = 5  # of the loop
TO_GO_OUT = 0.003  # seconds at most: where the loop is busy, others wait for their turn
MOST_GIVEN = 8  # that wait here for a place; more than these any worker may have

# The worker may just be going: its job is then without one, and soon somebody else's.
_DOING = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, worker_id)
    VALUES (%s, %s, %s, 'doing', (SELECT id FROM procrastinate_workers WHERE id = %s FOR KEY SHARE))
    RETURNING id
"""


class Arguments(NamedTuple):
    """What the job is about: a deliberation, and the conversation that shows it."""

    deliberation: UUID
    conversation: UUID

    def as_json(self) -> dict[str, Any]:
        """As the task is called with them."""
        return {"deliberation_id": str(self.deliberation), "conversation_id": str(self.conversation)}


def queue(arguments: Arguments) -> None:
    """Put a job into the queue, for whichever worker comes first. In the transaction of the question's rows."""
    app.configure_task(TASK, queue=QUEUE).defer(**arguments.as_json())


_STILL_HAS = """
    SELECT EXISTS (
        SELECT FROM procrastinate_jobs WHERE id = %(job)s AND worker_id = %(worker)s AND attempts = %(attempts)s
    ) AS mine
"""


# Nobody else ends a job whose worker lives.
_waiting = stamina.retry(on=ConnectorException, attempts=None, timeout=hurried(60.0), wait_max=2.0)


class GivenJobs(JobManager):
    """The jobs of a worker: first those that were given to it in its own process, then those of the queue."""

    def __init__(self, connector: BaseConnector, begin: Callable[[UUID, Claim], object]) -> None:
        super().__init__(connector)
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._given: deque[Job] = deque()
        self.worker_id: int | None = None
        self._look: NotificationCallback | None = None
        self._looking: asyncio.Future[None] | None = None

    def doing(self, arguments: Arguments) -> Statement:
        """The job's row, as it is once the worker has fetched it."""
        return _DOING, [QUEUE, TASK, Jsonb(arguments.as_json()), self.worker_id]

    def give(self, arguments: Arguments, claim: Claim, job_id: int) -> None:
        """Begin a deliberation whose job is stored as `doing`. From any thread; waits until its calls go out.

        A thread that goes on would take the interpreter from them.
        """
        begun = threading.Event()
        # In the worker's context: that of the request holds the person who asks, and their language.
        self._loop.call_soon_threadsafe(self._take, arguments, claim, job_id, begun, context=self._context.copy())
        begun.wait(TO_GO_OUT)

    def _take(self, arguments: Arguments, claim: Claim, job_id: int, begun: threading.Event) -> None:
        if self._look is None:
            begun.set()
            return  # it has stopped; without a worker the job goes to the next one
        self._begin(arguments.conversation, claim)
        self._turn(TURNS_TO_GO_OUT, begun)
        self._given.append(
            Job(
                id=job_id,
                status=Status.DOING.value,
                queue=QUEUE,
                lock=None,
                queueing_lock=None,
                task_name=TASK,
                task_kwargs=arguments.as_json(),
                worker_id=self.worker_id,
            )
        )
        notification: Any = {"type": "job_inserted", "job_id": job_id}
        self._looking = asyncio.ensure_future(self._look(channel="", notification=notification))

    def _turn(self, left: int, begun: threading.Event) -> None:
        """Once the loop has turned so often the first calls are out: a task each, and one for their bytes."""
        if left:
            self._loop.call_soon(self._turn, left - 1, begun)
        else:
            begun.set()

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """The next job."""
        return self._given.popleft() if self._given else await super().fetch_job(queues, worker_id)

    @_waiting
    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001  # the library's
        """End the job, unless it was handed back meanwhile: this worker was out of sight for too long."""
        if await self._still_has(job):
            await super().finish_job(job, status, delete_job)

    @_waiting
    async def retry_job(self, job: Job, *given: Any, **named: Any) -> None:
        """Put the job back into the queue, unless it was handed back meanwhile."""
        if await self._still_has(job):
            await super().retry_job(job, *given, **named)

    async def _still_has(self, job: Job) -> bool:
        """Whether the row is still this worker's; it may have been fetched anew by the same one, an attempt later."""
        found = await self.connector.execute_query_one_async(
            _STILL_HAS, job=job.id, worker=self.worker_id, attempts=job.attempts
        )
        return bool(found["mine"])

    async def register_worker(self) -> int:
        """Become a worker; cancelled meanwhile, leave no row behind."""
        registering = asyncio.ensure_future(super().register_worker())
        try:
            self.worker_id = await asyncio.shield(registering)
            _heed_cancellation()
        except asyncio.CancelledError:
            await super().unregister_worker(await registering)
            raise
        return self.worker_id

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Hear of new jobs, until cancelled. Only meanwhile jobs are taken from this process."""
        self._look = on_notification
        _here.append(self)
        try:
            await super().listen_for_jobs(on_notification=on_notification, queues=queues)
        finally:
            _here.remove(self)
            self._look = None

    async def unregister_worker(self, worker_id: int) -> None:
        """Be a worker no more. What was given and not begun goes back into the queue."""
        while self._given:
            await self.retry_job(self._given.popleft())
        await super().unregister_worker(worker_id)

    async def show_life(self, interval: float) -> None:
        """Give a sign of life every `interval` seconds, until cancelled: the library's own signs end with its worker's
        fetching, while its jobs have time left to end, and another worker would take them for lost.
        """
        while True:
            await asyncio.sleep(interval)
            if self.worker_id is not None:
                try:
                    await self.update_heartbeat(self.worker_id)
                except ConnectorException:
                    continue  # the database is away, and others say so
                except Exception:
                    logger.exception("No sign of life could be given")

    @property
    def free(self) -> bool:
        """Whether another job would soon find its place here."""
        return len(self._given) < MOST_GIVEN


def _heed_cancellation() -> None:
    """Raise what was swallowed: `asyncio.wait_for`, which pools use, takes a result that comes with it for better."""
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError


# In one statement: a process that is frozen in the middle of two would hold the row.
_BEGIN_AGAIN = """
    WITH stalled AS MATERIALIZED (
        SELECT id FROM procrastinate_jobs
        WHERE id = %s AND status = 'doing' AND attempts = %s  -- one more each time that it is begun again
        FOR UPDATE
    )
    SELECT procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) FROM stalled
"""


def begin_again(stalled: Job) -> bool:
    """Have another worker begin a job whose own was lost. False: somebody has seen to it since it was looked at.

    All workers look for such jobs. One that comes a moment later must not take it from the worker that has it by then.
    """
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN_AGAIN, [stalled.id, stalled.attempts])
        return cursor.rowcount > 0


class LeftOut(NamedTuple):
    """A deliberation that goes on, and for which no job waits, nor is under way elsewhere."""

    deliberation: UUID
    conversation: UUID
    job: int | None

    def begin_again(self) -> None:
        """Have a worker take it over."""
        if self.job is not None:
            async_to_sync(app.job_manager.retry_job_by_id_async)(job_id=self.job, retry_at=timezone.now())
            return
        with contextlib.suppress(AlreadyEnqueued):
            # Another process may have seen it too, and its job be under way by now: one of them waits for the other.
            lock = self.deliberation.hex
            task = app.configure_task(TASK, queue=QUEUE, lock=lock, queueing_lock=lock)
            task.defer(**Arguments(self.deliberation, self.conversation).as_json())


# A job that this process has, and does not work on, counts as none.
_LEFT_OUT = """
    SELECT deliberation.id, turn.conversation_id, job.id
    FROM council_deliberation deliberation
    JOIN conversations_turn turn ON turn.deliberation_id = deliberation.id
    LEFT JOIN procrastinate_jobs job ON job.task_name = %s AND job.status IN ('todo', 'doing')
        AND job.args ->> 'deliberation_id' = deliberation.id::text
    WHERE deliberation.status IN ('queued', 'running') AND deliberation.id <> ALL(%s::uuid[])
        AND (job.id IS NULL OR job.status = 'doing' AND job.worker_id = ANY(%s::bigint[]))
"""


def left_out(running: Collection[UUID]) -> set[LeftOut]:
    """What nobody seems to work on; `running` is what this process does. Much of it is just being fetched."""
    with connection.cursor() as cursor:
        cursor.execute(_LEFT_OUT, [TASK, list(running), [each.worker_id for each in _here if each.worker_id]])
        return {LeftOut(*row) for row in cursor.fetchall()}


_here: list[GivenJobs] = []


def here() -> GivenJobs | None:
    """The worker of this process, where it has one that is free to take a question."""
    return next((worker for worker in _here if worker.free), None)
