"""One socket a conversation page: authorise, send what the page lacks, forward, look. It reads, and writes nothing."""

import asyncio
import contextlib
import logging
import math
import random
from dataclasses import replace
from time import monotonic
from typing import Any
from uuid import UUID

import orjson
from channels.consumer import get_handler_name
from channels.generic.websocket import AsyncWebsocketConsumer
from django.http import QueryDict

from accounts import limits, sockets
from accounts.sessions import person_of
from conversations import trail
from conversations.changes import Changes, Known, drawing, known_from, look, page_message
from conversations.models import Conversation
from conversations.viewers import group_of
from governance import rows
from governance.rows import Statement
from governance.times import hurried

logger = logging.getLogger(__name__)

SETTLE = hurried(1.0)
"""Seconds until the first look: a page was whole when it was loaded, and whatever it hears makes it look before."""

LOOK = hurried(3.0)
"""Seconds between looks at the rows while a deliberation is unfinished: a lost last frame heals by then."""

QUIET = hurried(5.0)
"""Seconds without a message after which a page that waits is told that its socket lives."""

AFTERWARDS = hurried(30.0)
"""Seconds after the end, or the opening of the page, until it looks once more: a title may come that late, unheard."""

RIGHT = hurried(30.0)
"""Seconds for which the answer holds, at most, that somebody may see the conversation, while text comes."""

NOT_FOUND = 4404
TOO_LONG = 4413
TOO_MUCH = 4429

Held = list[tuple[limits.Limit, str]]

_open_sockets = limits.Open(limits.What.SOCKETS)

LONGEST = 1_000_000
"""Bytes of a message. Daphne refuses to send more than a mebibyte; a page whose socket is closed asks by request."""
NOTHING = Known(0, 0)


class ConversationConsumer(AsyncWebsocketConsumer):
    """Brings a page forward. The page says what it has in the address: `after` (turn) and `revision`."""

    kind = trail.CONVERSATION
    """What it shows, in the log."""
    conversation_id: UUID
    joined: tuple[str, ...] = ()
    people: frozenset[int] = frozenset()
    """Those whose sessions and accounts bear on the right to see it: their groups are joined."""
    visible: Statement | None = None
    visible_until = 0.0
    held: Held | None = None
    """How many may be open, and whose it is by each of these limits, once that is known,"""
    entered = False
    """and whether it is counted among the open ones."""
    seen = False
    """Whether somebody has seen something by it: whose right ends later has tried nothing."""

    async def connect(self) -> None:
        """Open the socket. Whoever may not see the conversation hears nothing and is shown out at the first look.

        They hear the same as for one that does not exist.
        """
        self.conversation_id = self.scope["url_route"]["kwargs"]["conversation_id"]
        await self._open(group_of(self.conversation_id))

    async def _open(self, *groups: str) -> None:
        """Open the socket for what these groups hear."""
        self.watcher: asyncio.Task[None] | None = None
        self.known = NOTHING
        self.deliberation = ""
        self.unfinished = True
        self.heard = 0.0
        self.told = 0.0
        self.last_look = monotonic() + AFTERWARDS
        self.updating = asyncio.Lock()
        try:
            limits.take_here(limits.of_address(limits.What.OPENINGS, self.address))
        except limits.Reached:
            await self.close(TOO_MUCH)
            return
        # Until it has looked nobody knows whose it is, and looking at limits would hold up the loop.
        self.may_send = [(limits.DEFAULTS[limits.What.MESSAGES], f"address {limits.network(self.address)}")]
        await self.accept()
        # Joined before it looks, so that nothing falls in between.
        await self._join(*groups)
        self.watcher = asyncio.create_task(self._watch())

    async def _join(self, *groups: str) -> None:
        for group in set(groups).difference(self.joined):
            await self.channel_layer.group_add(group, self.channel_name)
            self.joined += (group,)

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Without the framework's look for stale connections, a change of thread a frame: `read` sees to them."""
        if self.joined or message["type"].startswith("websocket."):
            await getattr(self, get_handler_name(message))(message)

    async def disconnect(self, code: int) -> None:  # noqa: ARG002  # the name is the framework's
        """Leave the groups."""
        if self.watcher is not None:
            self.watcher.cancel()
        if self.held and self.entered:
            _open_sockets.leave(self.held)
            self.entered = False
        await self._leave()

    async def _leave(self) -> None:
        groups, self.joined = self.joined, ()
        for group in groups:
            with contextlib.suppress(Exception):
                await self.channel_layer.group_discard(group, self.channel_name)

    async def _show_out(self, code: int) -> None:
        await self._leave()
        await self.close(code)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002  # the names are the framework's
        """Actions are form posts. What comes here is dropped, and whoever sends much of it is shown out."""
        try:
            limits.take_here(self.may_send)
        except limits.Reached:
            await self._show_out(TOO_MUCH)

    async def frame(self, message: dict[str, Any]) -> None:
        """Text that grew; see `conversations.growing` for the numbers."""
        self.heard = monotonic()
        needed = max(message["changed"], message["base"])
        if message["deliberation"] != self.deliberation or self.known.revision < needed:
            await self._update()
        if message["deliberation"] != self.deliberation or message["revision"] < self.known.revision:
            return
        html = message["tail" if self.known.revision >= message["checkpoint"] else "full"]
        self.known = replace(self.known, revision=message["revision"])
        await self._send(html)

    async def changed(self, message: dict[str, Any]) -> None:
        """Something other than text changed; the message has it drawn for whoever has all that came before it."""
        self.heard = monotonic()
        async with self.updating:
            if message["deliberation"] == self.deliberation and message["revision"] <= self.known.revision:
                return
            if self._in_step(message):
                known = replace(self.known, revision=message["revision"], stage=message["stage"])
                self.known, self.unfinished = known, message["unfinished"]
                await self._send(message["html"])
                return
        await self._update()

    def _in_step(self, message: dict[str, Any]) -> bool:
        """Whether the page lacks nothing but this, and its right to see it was asked for not long ago."""
        return (
            bool(message["html"])
            and message["deliberation"] == self.deliberation
            and message["before"] <= self.known.revision
            and message["had"] == self.known.stage
            and self.visible is not None
        )

    async def renewed(self, message: dict[str, Any]) -> None:  # noqa: ARG002  # the rows say what changed
        """The conversation has another title, another turn, or more of its cost."""
        async with self.updating:
            self.visible = None  # a page may have been open for hours
        await self._update()

    async def access_changed(self, message: dict[str, Any]) -> None:
        """A session of this person has ended, or their account is switched off."""
        await self.renewed(message)

    async def _update(self) -> bool:
        """Send what the rows have and the page has not. Whoever may not, or no longer, see it is shown out: False."""
        async with self.updating:
            try:
                await self._enter()
            except limits.Reached:
                await self._show_out(TOO_MUCH)
                return False
            changes = await drawing(self._changes)
            if changes is None:
                self.deliberation = ""
                if not self.seen:
                    logger.info("The socket of a %s was refused", self.kind)  # a consumer writes no rows
                await self._show_out(NOT_FOUND)
                return False
            self.seen = True
            new = {sockets.group_of(each) for each in self.people}.difference(self.joined)
            if self.joined and new:
                await self._join(*new)
                self.visible = None  # it may have changed before anybody could tell this socket
            self.known, self.unfinished = changes.known, changes.unfinished
            self.deliberation = changes.deliberation
            if changes.html or not self.told:
                # A page that has heard nothing takes its socket for mute, and asks by request.
                await self._send(changes.html or None)
            return True

    async def _watch(self) -> None:
        """Look at the rows at first, and then now and then while something goes on.

        That is where nothing is heard, and as often as the right to see it is to be asked for again. After the end,
        once.
        """
        await asyncio.sleep(SETTLE)
        while self.joined:
            now = monotonic()
            if now >= self.visible_until:
                self.visible = None
            first = self.known is NOTHING
            try:
                if first or self._due(now):
                    await self._update()
                    if not first and now >= self.last_look:
                        self.last_look = math.inf
                await self._show_life()
            except Exception:
                logger.exception("Could not look at conversation %s", self.conversation_id)
            await asyncio.sleep(LOOK)

    async def _show_life(self) -> None:
        """A line that somebody between has dropped looks as if the models only thought: a page must tell them apart."""
        async with self.updating:
            if self.joined and self.unfinished and monotonic() - self.told >= QUIET:
                await self._send(None)

    def _due(self, now: float) -> bool:
        if self.unfinished:
            self.last_look = now + AFTERWARDS
            return self.visible is None or now - self.heard >= LOOK
        return now >= self.last_look

    async def _send(self, html: str | None) -> None:
        self.told = monotonic()
        said = orjson.dumps(page_message(html, self.known, unfinished=self.unfinished))
        if len(said) > LONGEST:
            await self._show_out(TOO_LONG)
            return
        await self.send(text_data=said.decode())

    @property
    def address(self) -> str:
        """Where its browser is."""
        return str((self.scope.get("client") or [""])[0])

    async def _enter(self) -> None:
        """Count it among the open ones, once, and before anything is drawn for it. Raises limits.Reached."""
        if self.held is not None:
            return
        self.may_send, self.held = await drawing(self._limits)
        # On the loop: one that has been closed meanwhile is none.
        if self.joined:
            _open_sockets.enter(self.held)
            self.entered = True

    def _limits(self) -> tuple[Held, Held]:
        """What its person may send, and have open. In a thread."""
        person = person_of(self.scope["cookies"])
        messages = limits.in_a_while(limits.What.MESSAGES, person, self.address)
        return messages, limits.at_once(limits.What.SOCKETS, person, self.address)

    def _changes(self) -> Changes | None:
        if self.known is NOTHING:
            self.known = known_from(QueryDict(self.scope["query_string"]))
        if visible := self.visible:
            return look(visible, self.conversation_id, self.known)
        person = person_of(self.scope["cookies"])
        self.people = frozenset({person.pk} - {None})
        visible = rows.of(Conversation.objects.visible_to(person).filter(pk=self.conversation_id))
        changes = look(visible, self.conversation_id, self.known)
        # Once the rows have answered, and not before: what failed gives no right. Not all at the same moment where
        # many began together.
        self.visible_until = monotonic() + random.uniform(RIGHT / 2, RIGHT)  # noqa: S311  # nothing secret
        self.visible = visible
        return changes
