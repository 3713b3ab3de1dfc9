"""The one place where conversations go."""

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

import council.trail
from accounts.models import User
from conversations import sharing, trail
from conversations.models import Conversation, Share, Turn
from council.models import Deliberation
from governance import audit, rows
from governance.audit import Kind
from governance.rows import Statement

logger = structlog.get_logger(__name__)

UNDO = timedelta(days=30)


def delete(conversation: Conversation, by: UUID | None = None) -> int:
    """Take a conversation off its owner's pages, stop what runs in it, and revoke its link; returns how many it had.

    It can be restored for thirty days. Its link stays revoked: whoever had it was told that it is over. `by`: who does
    it, in the audit trail; None: the site.
    """
    with transaction.atomic():
        Conversation.objects.filter(pk=conversation.pk, deleted=None).update(deleted=timezone.now())
        stopped = _cancel(Turn.objects.filter(conversation=conversation))
        revoked = sharing.end(Share.objects.filter(conversation=conversation))
        # Last: who holds the audit trail waits for nobody else's rows.
        told = [*(_stopped(each, by) for each in stopped), *(trail.unshared(each, by) for each in revoked)]
        rows.execute([*told, audit.event(Kind.DELETED, by, trail.of(conversation))])
    return len(revoked)


def restore(conversation: Conversation, by: UUID | None = None) -> None:
    """Take a deletion back."""
    with transaction.atomic():
        if Conversation.objects.filter(pk=conversation.pk, deleted__isnull=False).update(deleted=None):
            audit.record(Kind.RESTORED, by, trail.of(conversation))


def cancel(conversation: Conversation, by: UUID | None = None) -> int:
    """Ask the worker to stop what runs in a conversation; returns how many that were not to stop yet."""
    return _cancel_and_tell(Turn.objects.filter(conversation=conversation), by)


def cancel_one(deliberation: UUID, where: str) -> None:
    """The same for one deliberation, unless it is over; `where` that was asked for: the shell."""
    with transaction.atomic():
        stopped = _going().filter(pk=deliberation).update(cancel_requested=True)
        if stopped:
            audit.record(Kind.STOPPED, None, council.trail.thing(deliberation), by=where)
    if stopped:
        logger.info("Stop asked for", deliberation=str(deliberation))


def cancel_all_of(person: User, by: UUID | None = None) -> int:
    """The same for all that this person asked, whether it runs or waits for a worker."""
    return _cancel_and_tell(Turn.objects.filter(conversation__owner=person), by)


def _cancel_and_tell(turns: QuerySet[Turn], by: UUID | None) -> int:
    with transaction.atomic():
        stopped = _cancel(turns)
        rows.execute([_stopped(each, by) for each in stopped])
    for each in stopped:
        logger.info("Stop asked for", deliberation=str(each))
    return len(stopped)


def _cancel(turns: QuerySet[Turn]) -> list[UUID]:
    """Ask for their end; which deliberations that concerns."""
    going = _going().filter(pk__in=turns.values("deliberation"))
    keys = list(going.order_by("pk").select_for_update().values_list("pk", flat=True))
    Deliberation.objects.filter(pk__in=keys).update(cancel_requested=True)
    return keys


def _going() -> QuerySet[Deliberation]:
    """Those that nobody has asked to stop yet: it is asked for once, and told once, however often somebody does so."""
    return Deliberation.objects.filter(status__in=Deliberation.UNFINISHED, cancel_requested=False)


def _stopped(deliberation: UUID, by: UUID | None) -> Statement:
    return audit.event(Kind.STOPPED, by, council.trail.thing(deliberation))


def purge(before: datetime) -> int:
    """Remove for good what was deleted before this time: turns, deliberations and all. Returns how many.

    A deliberation that somebody's copy shows as well stays, until that goes too.
    """
    count = 0
    for conversation in Conversation.objects.filter(deleted__lt=before):
        with transaction.atomic():
            deliberations = list(conversation.turns.values_list("deliberation", flat=True))
            key = conversation.pk
            conversation.delete()
            elsewhere = Turn.objects.filter(deliberation__in=deliberations).values("deliberation")
            Deliberation.objects.filter(pk__in=deliberations).exclude(pk__in=elsewhere).delete()
            audit.record(Kind.PURGED, None, trail.of(key))
        count += 1
    return count
