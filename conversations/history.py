"""A person's conversations in pages, newest first.

A page begins after a place in that order, not after a number of lines: whatever is asked, renamed or deleted meanwhile,
no line comes twice, and none that stayed where it was is left out.
"""

import struct
from base64 import b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self
from uuid import UUID

from django.db.models import Q

from conversations.models import Conversation, ConversationQuerySet

PAGE = 40
"""Lines."""

MOST = 1000
"""Lines that one request draws."""

_FORM = struct.Struct(">Q16s")
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 30, tzinfo=UTC)  # later ones are no date in some zones


class Place(NamedTuple):
    """Where a conversation stands in the order."""

    updated: datetime
    id: UUID

    @classmethod
    def of(cls, conversation: Conversation) -> Self:
        """Its place now; the next question moves it to the top."""
        return cls(conversation.updated, conversation.pk)

    @classmethod
    def read(cls, text: str) -> Self | None:
        """The place that `as_text` gave; None: that is none."""
        try:
            microseconds, key = _FORM.unpack(b64decode(text, b"-_", validate=True))
            updated = _BEGINNING + timedelta(microseconds=microseconds)
        except (ValueError, struct.error, OverflowError):
            return None
        return cls(updated, UUID(bytes=key)) if updated < _END else None

    def as_text(self) -> str:
        """For an address: 32 characters that stand for themselves there."""
        microseconds = (self.updated - _BEGINNING) // timedelta(microseconds=1)
        return urlsafe_b64encode(_FORM.pack(microseconds, self.id.bytes)).decode()


def following(conversations: ConversationQuerySet, place: Place) -> ConversationQuerySet:
    """Those of them that come after a place."""
    # An index is searched by the first condition; the second sorts out what was asked at the same moment.
    conversations = conversations.filter(updated__lte=place.updated)
    return conversations.filter(Q(updated__lt=place.updated) | Q(pk__lt=place.id))


def page(
    conversations: ConversationQuerySet, before: Place | None = None, size: int = PAGE
) -> tuple[list[Conversation], Place | None]:
    """The first `size` lines, or those that follow a place; and the place after which the next page begins."""
    found = list((following(conversations, before) if before else conversations)[: size + 1])
    more = len(found) > size
    found = found[:size]
    return found, Place.of(found[-1]) if more else None
