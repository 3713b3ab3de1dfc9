"""The one place where conversations go."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import User
from conversations import sharing
from conversations.models import Conversation, Share, Turn
from council.models import Deliberation

UNDO = timedelta(days=30)


def delete(conversation: Conversation) -> int:
    """Take a conversation off its owner's pages, stop what runs in it, and revoke its link; returns how many it had.

    It can be restored for thirty days. Its link stays revoked: whoever had it was told that it is over.
    """
    with transaction.atomic():
        Conversation.objects.filter(pk=conversation.pk, deleted=None).update(deleted=timezone.now())
        cancel(conversation)
        return sharing.revoke(Share.objects.filter(conversation=conversation))


def cancel(conversation: Conversation) -> int:
    """Ask the worker to stop what runs in a conversation; returns how many deliberations that concerns."""
    return _cancel(Turn.objects.filter(conversation=conversation))


def cancel_all_of(person: User) -> int:
    """The same for all that this person asked, whether it runs or waits for a worker."""
    return _cancel(Turn.objects.filter(conversation__owner=person))


def _cancel(turns: QuerySet[Turn]) -> int:
    return Deliberation.objects.filter(pk__in=turns.values("deliberation"), status__in=Deliberation.UNFINISHED).update(
        cancel_requested=True
    )


def purge(before: datetime) -> int:
    """Remove for good what was deleted before this time: turns, deliberations and all. Returns how many.

    A deliberation that somebody's copy shows as well stays, until that goes too.
    """
    count = 0
    for conversation in Conversation.objects.filter(deleted__lt=before):
        with transaction.atomic():
            deliberations = list(conversation.turns.values_list("deliberation", flat=True))
            conversation.delete()
            elsewhere = Turn.objects.filter(deliberation__in=deliberations).values("deliberation")
            Deliberation.objects.filter(pk__in=deliberations).exclude(pk__in=elsewhere).delete()
        count += 1
    return count
