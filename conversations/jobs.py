"""The way of a question to a worker: through the queue, or straight to the worker of the same process.

Where website and worker are one process, a question need not wait until the queue is looked at. It has its job in the
queue all the same, as one that this worker has fetched: should the process die, the job is seen to be without a worker,
and another begins it again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from uuid import UUID

from procrastinate.connector import BaseConnector
from procrastinate.contrib.django import app
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, NotificationCallback
from psycopg.types.json import Jsonb

from council.record import Claim
from council.rows import Statement

QUEUE = "deliberations"
TASK = "deliberate"
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


class GivenJobs(JobManager):
    """The jobs of a worker: first those that were given to it in its own process, then those of the queue."""

    def __init__(self, connector: BaseConnector, begin: Callable[[UUID, Claim], object]) -> None:
        super().__init__(connector)
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._given: deque[Job] = deque()
        self._worker_id: int | None = None
        self._look: NotificationCallback | None = None
        self._looking: asyncio.Future[None] | None = None

    def doing(self, arguments: Arguments) -> Statement:
        """The job's row, as it is once the worker has fetched it."""
        return _DOING, [QUEUE, TASK, Jsonb(arguments.as_json()), self._worker_id]

    def give(self, arguments: Arguments, claim: Claim, job_id: int) -> None:
        """Begin a deliberation whose job is stored as `doing`. From any thread; does not wait."""
        self._loop.call_soon_threadsafe(self._take, arguments, claim, job_id)

    def _take(self, arguments: Arguments, claim: Claim, job_id: int) -> None:
        if self._look is None:
            return  # it has stopped; without a worker the job goes to the next one
        self._begin(arguments.conversation, claim)
        self._given.append(
            Job(
                id=job_id,
                status=Status.DOING.value,
                queue=QUEUE,
                lock=None,
                queueing_lock=None,
                task_name=TASK,
                task_kwargs=arguments.as_json(),
                worker_id=self._worker_id,
            )
        )
        notification: Any = {"type": "job_inserted", "job_id": job_id}
        self._looking = asyncio.ensure_future(self._look(channel="", notification=notification))

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """The next job."""
        return self._given.popleft() if self._given else await super().fetch_job(queues, worker_id)

    async def register_worker(self) -> int:
        """Become a worker; cancelled meanwhile, leave no row behind."""
        registering = asyncio.ensure_future(super().register_worker())
        try:
            self._worker_id = await asyncio.shield(registering)
            _heed_cancellation()
        except asyncio.CancelledError:
            await super().unregister_worker(await registering)
            raise
        return self._worker_id

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

    @property
    def free(self) -> bool:
        """Whether another job would soon find its place here."""
        return len(self._given) < MOST_GIVEN


def _heed_cancellation() -> None:
    """Raise what was swallowed: `asyncio.wait_for`, which pools use, takes a result that comes with it for better."""
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError


_here: list[GivenJobs] = []


def here() -> GivenJobs | None:
    """The worker of this process, where it has one that is free to take a question."""
    return next((worker for worker in _here if worker.free), None)
