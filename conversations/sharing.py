"""Links: made, changed and revoked, what one shows, and copies of that. Whoever looks through one is told."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from uuid import UUID, uuid4, uuid5

from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from accounts.models import User
from conversations import reading, trail, viewers
from conversations.models import Conversation, Share, Turn
from conversations.reading import TurnRows
from council import retrying
from council.models import Deliberation
from governance import audit, rows
from governance.audit import Kind
from governance.tokens import digest, new_token

TAKEN = ("until", "title", "taken")
CHANGES = ("audience", "expires", "live", *TAKEN)
"""What its owner changes of a link. Who opens it and who revokes it, perhaps at the same moment, write the rest."""


def last_ended(conversation: Conversation) -> Turn | None:
    """Where a snapshot that is taken now ends; None: no deliberation has ended yet.

    One of which a part is just being tried again has ended before.
    """
    ended = conversation.turns.exclude(
        deliberation__status__in=Deliberation.UNFINISHED, deliberation__retry__isnull=True
    )
    return ended.order_by("created", "id").last()


def current(conversation: Conversation) -> Share | None:
    """The link of a conversation, expired or not; None: it is private."""
    return Share.objects.filter(conversation=conversation, revoked=None).first()


def save(
    conversation: Conversation, audience: str, expires: datetime | None, *, live: bool, by: UUID | None = None
) -> Share:
    """Give a conversation a link, or change the one it has; its address stays, and so does what a snapshot shows.

    A snapshot needs a turn that has ended. `by`: who does it, in the audit trail. Raises Conversation.DoesNotExist if
    it has been deleted meanwhile.
    """
    with transaction.atomic():
        # Two windows may do it at the same time, and a third may revoke or delete: that comes before or after.
        held = Conversation.objects.select_for_update().get(pk=conversation.pk, deleted=None)
        share = Share.objects.select_for_update().filter(conversation=held, revoked=None).first()
        changed = CHANGES if share else None
        if share is None:
            token = new_token()
            share = Share(token=token, digest=digest(token))
        share.conversation = held
        share.audience, share.expires = audience, expires
        if live:
            share.live, share.until, share.title = True, None, ""
        elif share.live or share.until is None:
            share.live = False
            _take(share)
        share.save(update_fields=changed)
        _tell([share.digest])
        audit.record(Kind.SHARED, by, trail.of(held), **trail.link(share), new=changed is None)
    return share


def update(share: Share, by: UUID | None = None) -> bool:
    """Bring a snapshot to the turns and the title that there are now. False: it is none any more."""
    with transaction.atomic():
        still = Share.objects.select_for_update(of=("self",)).filter(pk=share.pk, revoked=None, live=False)
        held = still.select_related("conversation").first()
        if held is None:
            return False
        _take(held)
        held.save(update_fields=TAKEN)
        _tell([held.digest])
        audit.record(Kind.SHARED, by, trail.of(held.conversation_id), **trail.link(held), new=False)
    return True


def behind(share: Share) -> bool:
    """Whether there is something that a snapshot does not show yet."""
    last = last_ended(share.conversation)
    if share.live or last is None:
        return False
    return last.pk != share.until_id or share.title != share.conversation.title


def revoke(shares: QuerySet[Share], by: UUID | None = None) -> int:
    """Make these links open for nobody, ever again, and their open pages close. Returns how many that concerns."""
    with transaction.atomic():
        ended = end(shares)
        rows.execute([trail.unshared(each, by) for each in ended])
    return len(ended)


def end(shares: QuerySet[Share]) -> list[Share]:
    """The same, without the audit trail: for whoever has more to do before that. Returns those that it concerns."""
    standing = list(shares.select_for_update().filter(revoked=None))
    Share.objects.filter(pk__in=[each.pk for each in standing]).update(revoked=timezone.now())
    _tell([each.digest for each in standing])
    return standing


def count_opening(share: Share) -> None:
    """One more time."""
    Share.objects.filter(pk=share.pk).update(opened=F("opened") + 1)


def token_of(share: Share) -> str:
    """The token, for its owner; empty where the key that it was encrypted with is gone."""
    try:
        return share.token
    except ImproperlyConfigured:
        return ""


def title_of(share: Share) -> str:
    """The title that a link shows."""
    return share.conversation.title if share.live else share.title


def turns(share: Share) -> list[TurnRows]:
    """The turns that a link shows, oldest first; a snapshot nothing that is just being tried again."""
    found = reading.turns(share.conversation_id)
    if share.until_id is None:
        return found
    return [retrying.settled(each) for each in found if each.turn.pk <= share.until_id]


def to_copy(share: Share) -> list[TurnRows]:
    """Those of them that a copy has: what goes on, or is tried again, is its owner's to stop."""
    found = reading.turns(share.conversation_id)
    until = share.until_id or (found[-1].turn.pk if found else 0)
    return [each for each in found if each.turn.pk <= until and not each.deliberation.unfinished]


def shown(share: Share) -> QuerySet[Turn]:
    """The rows of the same turns."""
    of_it = Turn.objects.filter(conversation=share.conversation_id)
    return of_it if share.until_id is None else of_it.filter(pk__lte=share.until_id)


def copy(share: Share, user: User, request_id: UUID) -> Conversation | None:
    """A conversation of this person's own with the ended turns that a link shows; None: it was revoked just now.

    The turns are new, the deliberations are the same rows, so nothing is stored, or counted, twice. The same
    `request_id` again gives the same copy of this link.
    """
    with transaction.atomic():
        # Held, so that nobody revokes it, or deletes the conversation, meanwhile.
        if not Share.objects.select_for_update().filter(pk=share.pk, revoked=None).exists():
            return None
        made, new = Conversation.objects.get_or_create(
            pk=uuid5(request_id, f"{user.pk} {share.pk}"),
            defaults={"owner": user, "title": title_of(share), "titled": True},
        )
        parent = None
        for each in to_copy(share) if new else ():
            parent = Turn.objects.create(
                conversation=made,
                parent=parent,
                deliberation=each.deliberation,
                request_id=uuid4(),
                created=each.turn.created,
            )
        if new:
            audit.record(Kind.COPIED, user.actor, trail.of(share.conversation_id), link=share.pk, copy=made.pk)
    return made


def _take(share: Share) -> None:
    share.until, share.title, share.taken = last_ended(share.conversation), share.conversation.title, timezone.now()


def _tell(digests: Sequence[str]) -> None:
    """Have whoever looks through these links asked whether they still may, once that is decided."""
    for each in digests:
        told = partial(async_to_sync(viewers.tell_group), viewers.group_of_link(each), {"type": "renewed"})
        transaction.on_commit(told)
