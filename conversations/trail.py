"""What people do with conversations, in the audit trail."""

from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.cache import cache

from accounts import limits
from conversations.models import Conversation, Share
from governance import audit
from governance.audit import NOTHING, Kind, Thing
from governance.rows import Statement

CONVERSATION, LINK = "conversation", "link"
ONCE_IN = 3600  # seconds


def actor_of(user: AbstractBaseUser | AnonymousUser) -> UUID | None:
    """Who somebody is in the trail; None for who has not signed in."""
    return getattr(user, "actor", None)


def of(conversation: Conversation | Any) -> Thing:
    """A conversation, or its key, as what something was done to."""
    return Thing(CONVERSATION, getattr(conversation, "pk", conversation))


def told(kind: Kind, user: AbstractBaseUser | AnonymousUser, conversation: Conversation, **details: Any) -> None:
    """Somebody did something with a conversation."""
    audit.record(kind, actor_of(user), of(conversation), **details)


def refused(
    user: AbstractBaseUser | AnonymousUser, rule: str, limit: limits.Reached | None, act: str, on: Thing = NOTHING
) -> None:
    """One of the site's rules has kept somebody from something; limits are counted, for they may be hit at will."""
    if limit:
        audit.count(Kind.REFUSED, Thing("limit", limit.what))
    elif rule:
        audit.record(Kind.REFUSED, actor_of(user), on, rule=rule, act=act)


def link(share: Share) -> dict[str, Any]:
    """What an event says of a link; never its address."""
    expires = share.expires.isoformat() if share.expires else None
    return {"link": share.pk, "audience": str(share.audience), "live": share.live, "expires": expires}


def unshared(share: Share, by: UUID | None) -> Statement:
    """The statement that tells that a link is revoked."""
    return audit.event(Kind.UNSHARED, by, of(share.conversation_id), link=share.pk)


def opened(share: Share, user: AbstractBaseUser | AnonymousUser, address: str) -> None:
    """Somebody reads by a link: told once an hour by each process, and of a snapshot once more when it was updated.

    Who has not signed in is counted: anybody may, as often as they like.
    """
    taken = share.taken.timestamp() if share.taken else 0
    key = f"link-{share.pk}-{taken}-opened-by-{user.pk or limits.network(address)}"
    if cache.get(key):
        return
    if actor := actor_of(user):
        audit.record(Kind.LINK_OPENED, actor, of(share.conversation_id), link=share.pk)
    else:
        audit.count(Kind.LINK_OPENED, Thing(LINK, share.pk))
    cache.set(key, 1, ONCE_IN)  # once it is told
