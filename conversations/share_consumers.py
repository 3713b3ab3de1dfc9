"""One socket a page of a shared conversation: shows its viewer out once the link does not open for them any more."""

import random
from dataclasses import replace
from time import monotonic
from typing import Any
from uuid import UUID

from django.http import QueryDict
from django.template.loader import render_to_string
from django.utils import timezone

from accounts.sessions import person_of
from conversations import consumers, trail
from conversations.changes import Changes, known_from, look
from conversations.consumers import NOTHING, ConversationConsumer
from conversations.models import Conversation, Share
from conversations.viewers import LINKS, group_of, group_of_link
from governance import rows
from governance.rows import Statement
from governance.tokens import digest


class ShareConsumer(ConversationConsumer):
    """The page of a live link it also brings forward, as it would its owner's. A snapshot never changes.

    Revoking is told to a group, and so is the end of its owner's account or its viewer's session; when the link expires
    is known; and what no message came of is found by asking again every fifteen to thirty seconds.
    """

    kind = trail.LINK
    live = False
    shows = ""
    """What the page shows, or was told that the link shows now."""

    async def connect(self) -> None:
        """Open the socket. Whoever the link does not open for hears nothing, and the same whatever the reason."""
        self.conversation_id = UUID(int=0)  # until its link has been looked up
        self.shows = QueryDict(self.scope["query_string"]).get("shows", "")
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
        changes = self._asked()
        if changes is None and self.live:
            # Gone, or a snapshot since it was asked what kind of link it is.
            self.visible = None
            changes = self._asked()
        return changes

    def _asked(self) -> Changes | None:
        if self.known is NOTHING:
            self.known = known_from(QueryDict(self.scope["query_string"]))
        if visible := self.visible:
            return self._look(visible)
        person = person_of(self.scope["cookies"])
        link = Share.objects.open_to(person, self.token)
        share = link.select_related("conversation").first()
        if share is None:
            return None
        if person.pk != share.conversation.owner_id:
            trail.opened(share, person, self.address)
        self.people = frozenset({person.pk, share.conversation.owner_id} - {None})
        self.live, self.conversation_id = share.live, share.conversation_id
        visible = rows.of(Conversation.objects.filter(pk__in=link.filter(live=True).values("conversation")))
        changes = self._look(visible)
        right = random.uniform(consumers.RIGHT / 2, consumers.RIGHT)  # noqa: S311  # nothing secret
        if share.expires:
            right = min(right, (share.expires - timezone.now()).total_seconds())
        self.visible_until = monotonic() + right
        self.visible = visible
        shown, self.shows = self.shows or share.shows, share.shows
        if changes and shown != share.shows:
            changes = replace(changes, html=changes.html + render_to_string("conversations/_link_changed.html"))
        return changes

    def _look(self, visible: Statement) -> Changes | None:
        if self.live:
            return look(visible, self.conversation_id, self.known)
        return Changes("", self.known, "", unfinished=False)
