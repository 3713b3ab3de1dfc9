"""What a worker does: deliberations, and the titles of conversations."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import InterfaceError, OperationalError
from django.db.models import Q
from django.utils import timezone
from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.jobs import Job

from conversations import deleting, jobs, titles
from conversations.live import Live
from conversations.models import Conversation, Turn
from conversations.viewers import tell
from conversations.working import STALLED
from council import bills, call_rows, calls, claiming, measuring, record
from council.core.deliberate import deliberate
from council.core.errors import Stale
from council.core.values import Status
from council.models import Call, Deliberation
from council.threads import in_thread
from governance import audit, chain
from governance.times import hurried

logger = structlog.get_logger(__name__)

LOOK_FOR_CANCELS = 0.3
LOOK_FOR_STALLED = hurried(20.0)
TITLE_AFTER = hurried(3.0)  # seconds: where many ask at once, the answers come first


@dataclass(slots=True)
class _Running:
    """A deliberation that this process carries out, the title made meanwhile, and whether somebody stopped it."""

    claim: claiming.Claim
    live: Live
    task: asyncio.Task[None]
    title: asyncio.Task[None] | None
    stopped: bool = False

    async def end(self) -> None:
        """Stop what still goes on."""
        tasks = [self.task, *([self.title] if self.title else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_running: dict[UUID, _Running] = {}


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Around a worker's run: connections to providers, the eye on cancellations, the rescue of stalled jobs."""
    async with calls.connections(), asyncio.TaskGroup() as group:
        watchers = [group.create_task(_watch_cancels()), group.create_task(_rescue_stalled())]
        try:
            yield
        finally:
            for watcher in watchers:
                watcher.cancel()
            while _running:  # begun here, and its job not fetched any more
                await _running.popitem()[1].end()


def begin(conversation_id: UUID, claim: claiming.Claim) -> _Running:
    """Begin a deliberation that this process has claimed. On the worker's loop; its job waits for the end."""
    # What its tasks and their calls say names it.
    structlog.contextvars.bind_contextvars(deliberation=str(claim.id))
    live = Live(conversation_id, claim)
    _running[claim.id] = running = _Running(
        claim,
        live,
        asyncio.create_task(_deliberate(claim, live)),
        None if claim.plan.history else asyncio.create_task(_title(claim, live)),
    )
    return running


class _Again(BaseRetryStrategy):
    """A job that was handed over is for the next worker at once, one that failed a little later.

    How often a deliberation is begun is known, and bounded, where it is claimed.
    """

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:  # noqa: ARG002  # the library's
        return RetryDecision(retry_in={"seconds": 0 if isinstance(exception, asyncio.CancelledError) else 2})


@app.task(name=jobs.TASK, queue=jobs.QUEUE, retry=_Again())
async def deliberate_job(deliberation_id: str, conversation_id: str) -> None:
    """Carry a deliberation out, from its beginning or from where another worker left it."""
    structlog.contextvars.bind_contextvars(deliberation=deliberation_id)
    key, conversation = UUID(deliberation_id), UUID(conversation_id)
    running = _running.get(key)
    if running and not await in_thread(claiming.holds, running.claim):
        # While this process was out of sight another had it, and has given it back.
        del _running[key]
        await running.end()
        running = None
    if running is None:
        try:
            claim = await in_thread(claiming.claim, key)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            logger.exception("Deliberation %s could not be begun", key)
            raise
        if claim is None:
            # It is over; the title that its worker was making is lost with it.
            titles_lost = Call.objects.filter(deliberation=key, deliberation__finished__isnull=False)
            if lost := await in_thread(call_rows.lose, titles_lost):
                measuring.calls_lost(lost)
                await _renew(key, conversation)
            return
        running = begin(conversation, claim)
    try:
        await running.task
        if running.title:
            await running.title
    except asyncio.CancelledError:
        await running.end()
        if not running.stopped and _running.get(key) is running:
            # The worker is going: the next one takes the deliberation over, with all that is recorded.
            with contextlib.suppress(Stale):
                await in_thread(claiming.hand_over, running.claim)
            raise
    finally:
        await running.end()
        if _running.get(key) is running:
            del _running[key]
        if running.title:
            # Its end is written at once or, where the database is away just then, not at all.
            open_still = Call.objects.filter(deliberation=key, fence=running.claim.attempt, purpose=Call.Purpose.TITLE)
            lost = await in_thread(call_rows.lose, open_still, call_rows.UNWRITTEN)
            if lost or running.live.late:
                await _renew(key, conversation, running.claim.attempt)


async def _renew(key: UUID, conversation: UUID, attempt: int | None = None) -> None:
    """The title's call has ended after the deliberation, whose figures have it too."""
    if await in_thread(record.renew, key, attempt):
        await tell(conversation, {"type": "renewed"})


async def _deliberate(claim: claiming.Claim, live: Live) -> None:
    measuring.begun(claim.attempt, len(claim.filled))
    async with live:
        asker = calls.Asker(claim, live)
        try:
            await deliberate(claim.plan, asker.ask, live.emit)
            await live.finish()
        except asyncio.CancelledError:
            if _stopped_by_a_person(claim.id):
                with contextlib.suppress(Stale):  # it had just ended
                    await live.stop(Status.CANCELLED, "Stopped. What had come by then is kept.")
            raise
        except Exception as error:
            match _cause(error):
                case Stale():
                    measuring.stale()
                case OperationalError() | InterfaceError():
                    # The database was away for a moment: the job is begun again and goes on from what is recorded.
                    raise
                case cause:
                    await _failed(live, cause)


async def _title(claim: claiming.Claim, live: Live) -> None:
    """Give a conversation a title from its first question. It may fail: the question's start stays."""
    conversation_id = live.conversation_id
    try:
        await asyncio.sleep(TITLE_AFTER)
        # Fenced like all that is written: another worker that has taken over asks for a title itself.
        mine = Q(turns__deliberation=claim.id, turns__deliberation__attempt=claim.attempt)
        untitled = Conversation.objects.filter(mine, pk=conversation_id, titled=False)
        title = await titles.suggest(claim, live.other_ended) if await in_thread(untitled.exists) else ""
        if title and await in_thread(untitled.update, title=title, titled=True):
            await tell(conversation_id, {"type": "renewed"})
    except Exception:
        logger.exception("Conversation %s keeps its question's start for a title", conversation_id)


def _cause(error: Exception) -> Exception:
    """The first real error inside the groups that nested task groups make."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def _failed(live: Live, error: BaseException) -> None:
    logger.error("Deliberation %s failed", live.recorder.id, exc_info=error)
    await live.stop(Status.FAILED, "Something went wrong on this site's side. What had come by then is kept.")


def _stopped_by_a_person(deliberation_id: UUID) -> bool:
    running = _running.get(deliberation_id)
    return running is not None and running.stopped


async def _watch_cancels() -> None:
    """See within half a second that somebody stopped a deliberation that runs here."""
    while True:
        await asyncio.sleep(LOOK_FOR_CANCELS)
        if not _running:
            continue
        try:
            stopped = await in_thread(
                lambda: list(
                    Deliberation.objects.filter(
                        pk__in=list(_running), cancel_requested=True, status__in=Deliberation.UNFINISHED
                    ).values_list("pk", flat=True)
                )
            )
        except Exception:
            logger.exception("Could not look for stopped deliberations")
            continue
        for key in stopped:
            running = _running.get(key)
            if running and not running.stopped:
                running.stopped = True
                running.task.cancel()


async def _rescue_stalled() -> None:
    """Hand what a worker that died has left to those that live, and begin again what nobody works on."""
    suspects: set[jobs.LeftOut] = set()
    while True:
        try:
            suspects = await in_thread(_rescue, suspects)
        except Exception:
            logger.exception("Could not look for stalled jobs")
        await asyncio.sleep(LOOK_FOR_STALLED)


def _rescue(suspects: set[jobs.LeftOut]) -> set[jobs.LeftOut]:
    """What nobody works on; what was among the suspects already is begun again."""
    # In a thread that mends its connection: the queue's own never comes back after the database was away.
    for job in async_to_sync(app.job_manager.get_stalled_jobs)(seconds_since_heartbeat=STALLED):
        if jobs.begin_again(job):
            logger.warning("Job %s lost its worker and is begun again", job.id)
    # A question that was stored when its process lost the database just then, or a worker whose job another has ended.
    found = jobs.left_out(list(_running))
    for each in found & suspects:
        logger.warning("Deliberation %s has nobody who works on it and is begun again", each.deliberation)
        each.begin_again()
    return found


@app.periodic(cron="* * * * *")
@app.task(name="tell", queue="upkeep", pass_context=False)
async def tell_job(timestamp: int) -> None:  # noqa: ARG001  # the name is the queue's
    """Put what was counted in the minute that is over into the audit trail."""
    await in_thread(audit.tell)


@app.periodic(cron="* * * * *")
@app.task(name="bills", queue="upkeep", pass_context=False)
async def bills_job(timestamp: int) -> None:  # noqa: ARG001  # the name is the queue's
    """Ask providers what they billed for calls of which nobody knows what came, and show it."""
    await bills.look(calls.transport(), _show)


async def _show(deliberation: UUID) -> None:
    turns = Turn.objects.filter(deliberation=deliberation)
    for conversation in await in_thread(lambda: list(turns.values_list("conversation_id", flat=True))):
        await tell(conversation, {"type": "renewed"})


@app.periodic(cron="41 3 * * *")
@app.task(name="verify", queue="upkeep", pass_context=False)
async def verify_job(timestamp: int) -> None:  # noqa: ARG001  # the name is the queue's
    """Look through the audit trail, and say where it ends: whoever keeps the logs has an anchor."""
    found = await in_thread(chain.verify_and_keep)
    log = logger.error if found.wrong else logger.info
    log("Audit trail verified", events=found.events, head=found.head.hash, wrong=len(found.wrong))


@app.periodic(cron="17 3 * * *")
@app.task(name="purge", queue="upkeep", pass_context=False)
async def purge_job(timestamp: int) -> None:  # noqa: ARG001  # the name is the queue's
    """Remove for good what was deleted more than thirty days ago, and sessions that are over."""
    await in_thread(deleting.purge, timezone.now() - deleting.UNDO)
    await in_thread(call_command, "clearsessions")
