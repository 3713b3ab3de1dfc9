"""One socket a page of a shared conversation: shows its viewer out once the link does not open for them any more."""

import random
from time import monotonic
from typing import Any
from uuid import UUID

from django.http import QueryDict
from django.utils import timezone

from accounts.sessions import person_of
from conversations import consumers
from conversations.changes import Changes, known_from, look
from conversations.consumers import NOTHING, ConversationConsumer
from conversations.models import Conversation, Share, digest
from conversations.viewers import LINKS, group_of, group_of_link
from council import rows


class ShareConsumer(ConversationConsumer):
    """The page of a live link it also brings forward, as it would its owner's. A snapshot never changes.

    Revoking is told to a group; when the link expires is known; and what no message came of, such as an owner whose
    account was switched off, is found by asking again every fifteen to thirty seconds.
    """

    live = False

    async def connect(self) -> None:
        """Open the socket. Whoever the link does not open for hears nothing, and the same whatever the reason."""
        self.conversation_id = UUID(int=0)  # until its link has been looked up
        self.token: str = self.scope["url_route"]["kwargs"]["token"]
        await self._open(group_of_link(digest(self.token)), LINKS)

    async def _update(self) -> bool:
        was_live = self.live
        if not await super()._update():
            return False
        if self.live and not was_live:
            # What came before it joined is in the rows.
            await self._join(group_of(self.conversation_id))
            return await super()._update()
        return True

    async def frame(self, message: dict[str, Any]) -> None:
        """Text that grew, for a live link."""
        if self.live:
            await super().frame(message)

    async def changed(self, message: dict[str, Any]) -> None:
        """Something else changed, for a live link."""
        if self.live:
            await super().changed(message)

    def _due(self, now: float) -> bool:
        return self.visible is None or super()._due(now)

    def _changes(self) -> Changes | None:
        if self.visible is None:
            link = Share.objects.open_to(person_of(self.scope["cookies"]), self.token)
            share = link.first()
            if share is None:
                return None
            right = random.uniform(consumers.RIGHT / 2, consumers.RIGHT)  # noqa: S311  # nothing secret
            if share.expires:
                right = min(right, (share.expires - timezone.now()).total_seconds())
            self.visible_until = monotonic() + right
            self.live, self.conversation_id = share.live, share.conversation_id
            self.visible = rows.of(Conversation.objects.filter(pk__in=link.filter(live=True).values("conversation")))
        if self.known is NOTHING:
            self.known = known_from(QueryDict(self.scope["query_string"]))
        if self.live:
            return look(self.visible, self.conversation_id, self.known)
        return Changes("", self.known, "", unfinished=False)
