"""A deliberation on its way to its viewers: each event is recorded first and shown then.

Text that grows is shown in frames, one for the whole deliberation: the first text of a slot at once, then at most one
in INTERVAL seconds. About once in CHECKPOINT seconds the texts are written to their rows. Channel layers lose messages
in silence, so a frame stands alone: it holds all that grew since the checkpoint before the last one. Events other than
growth travel as a bare notice of the new revision; each viewer's consumer reads the rows.

What a consumer needs to know of a frame, numbers being revisions of the deliberation:

- `revision`: how far the rows were when it was made.
- `changed`: when something other than text last changed; whoever has less must read the rows first.
- `base`: whoever has less than this cannot use the frame.
- `checkpoint`: the last checkpoint. `tail` is for whoever has it, `full` for the others.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Self
from uuid import UUID

from channels.layers import get_channel_layer

from conversations.markdown import LiveText
from conversations.naming import rewriter, slot_id
from council.core import ballots
from council.core.errors import Stale
from council.core.events import Event, StageStarted, TextGrew
from council.core.values import Plan, Slot, Stage
from council.record import Claim, Recorder
from council.threads import in_thread

logger = logging.getLogger(__name__)

INTERVAL = 0.1
TOGETHER = 0.002
CHECKPOINT = 1.0
SLOWEST = 0.5
LAG_TO_INTERVAL = 10


def group_of(conversation_id: UUID) -> str:
    """The channel group of everyone who looks at a conversation."""
    return f"conversation.{conversation_id.hex}"


async def tell(conversation_id: UUID, message: dict[str, Any]) -> None:
    """Send to all viewers. A layer that is down loses it: the rows hold the truth, and viewers look there too."""
    try:
        layer: Any = get_channel_layer()
        await layer.group_send(group_of(conversation_id), message)
    except Exception:  # whatever the layer's client raises, a deliberation goes on without it
        logger.warning("The channel layer did not take a message for %s", conversation_id, exc_info=True)


@dataclass(slots=True)
class _Growing:
    """A slot whose text grows on the page. Marks are counts of closed blocks: at the last checkpoint, and before it."""

    live: LiveText
    raw: list[str] = field(default_factory=list)
    shown: int = 0
    pieces: int = 0
    mark: int = 0
    mark_before: int = 0
    changed_at: int = 0
    announced: bool = False
    grown: bool = False
    full: str = ""
    tail: str = ""


class Live:
    """Records and shows one claimed deliberation. Use as an async context manager around `deliberate`."""

    def __init__(self, conversation_id: UUID, claim: Claim) -> None:
        self.conversation_id = conversation_id
        self.recorder = Recorder(claim)
        self._plan: Plan = claim.plan
        self._growing: dict[Slot, _Growing] = {}
        self._writing = asyncio.Lock()
        self._grown = asyncio.Event()
        self._urgent = asyncio.Event()
        self._changed = claim.revision
        self._told = 0
        self._events: list[Event] = []
        self._checkpoint = self._base = claim.revision
        self._generation = 0
        self._ticker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ticker = asyncio.create_task(self._tick())
        self._grown.set()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        await self._notify()

    async def emit(self, event: Event) -> None:
        """Record an event, then show it; events that come together are written together.

        Raises Stale where another worker has taken over.
        """
        self._events.append(event)
        async with self._writing:
            if self._events:
                events, self._events = self._events, []
                await in_thread(self.recorder.write, events)
                self._changed = self.recorder.revision
        if isinstance(event, StageStarted):
            self._growing = {slot: _Growing(LiveText(rewriter(self._plan, slot))) for slot in self.recorder.growing}
            self._checkpoint = self._base = self.recorder.revision
        else:
            for slot in [slot for slot in self._growing if slot not in self.recorder.growing]:
                del self._growing[slot]
        self._grown.set()

    def grew(self, event: TextGrew) -> None:
        """Take a piece of text in. On the loop, for every piece, so it only appends."""
        self.recorder.grew(event)
        growing = self._growing[event.slot]
        growing.pieces += 1
        growing.changed_at = self._generation
        growing.grown = True
        if event.text:
            growing.raw.append(event.text)
        if not growing.announced:
            growing.announced = True
            self._urgent.set()
        self._grown.set()

    async def stop(self, status: Any, reason: str) -> None:
        """End the deliberation before its end, with what had come, and show that."""
        async with self._writing:
            await in_thread(self.recorder.stop, self.recorder.snapshot(), status, reason)
            self._changed = self.recorder.revision

    async def _notify(self) -> None:
        """Say that something other than text changed, unless that was said."""
        if self._told == self._changed:
            return
        self._told = self._changed
        await tell(
            self.conversation_id, {"type": "changed", "deliberation": self.recorder.id.hex, "revision": self._changed}
        )

    async def _tick(self) -> None:
        written = monotonic()
        interval = INTERVAL
        while True:
            await self._grown.wait()
            self._grown.clear()
            try:
                if monotonic() - written >= CHECKPOINT:
                    await self._write_checkpoint()
                    written = monotonic()
                # Members often end, and begin, together: what comes in the same moment goes out together.
                woken = monotonic()
                await asyncio.sleep(TOGETHER)
                # A loop that wakes us late has too much to do: fewer frames, each with more in it.
                interval = min(SLOWEST, max(INTERVAL, LAG_TO_INTERVAL * (monotonic() - woken - TOGETHER)))
                self._urgent.clear()
                await self._notify()
                if frame := self._frame():
                    await tell(self.conversation_id, frame)
            except Stale:
                return
            except Exception:
                # The deliberation goes on and its end is recorded; viewers look at the rows meanwhile.
                logger.exception("A frame of deliberation %s was not made", self.recorder.id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._urgent.wait()

    async def _write_checkpoint(self) -> None:
        async with self._writing:
            snapshot = self.recorder.snapshot()
            if not snapshot:
                return
            marks = {slot: len(self._advance(slot, each).closed) for slot, each in self._growing.items()}
            self._generation += 1
            await in_thread(self.recorder.checkpoint, snapshot)
            self._base, self._checkpoint = self._checkpoint, self.recorder.revision
        for slot, growing in self._growing.items():
            growing.mark_before, growing.mark = growing.mark, marks.get(slot, growing.mark)
            growing.grown = True

    def _advance(self, slot: Slot, growing: _Growing) -> LiveText:
        """Give the renderer what came since; of a review only its critique is for people."""
        if growing.raw:
            if slot.stage is Stage.REVIEWING:
                growing.raw = ["".join(growing.raw)]
                critique = ballots.critique(growing.raw[0])
                growing.live.feed(critique[growing.shown :])
                growing.shown = max(growing.shown, len(critique))
            else:
                growing.live.feed("".join(growing.raw))
                growing.raw.clear()
        growing.live.advance()
        return growing.live

    def _frame(self) -> dict[str, Any] | None:
        """All that grew since the checkpoint before the last; None if nothing did since the last frame."""
        if not any(growing.grown for growing in self._growing.values()):
            return None
        full, tail = [], []
        for slot, growing in self._growing.items():
            if growing.changed_at < self._generation - 1 or not growing.pieces:
                continue
            if growing.grown:
                growing.grown = False
                self._render(slot, growing)
            full.append(growing.full)
            tail.append(growing.tail)
        return {
            "type": "frame",
            "deliberation": self.recorder.id.hex,
            "revision": self.recorder.revision,
            "changed": self._changed,
            "base": self._base,
            "checkpoint": self._checkpoint,
            "full": "".join(full),
            "tail": "".join(tail),
        }

    def _render(self, slot: Slot, growing: _Growing) -> None:
        live = self._advance(slot, growing)
        name = slot_id(self.recorder.id, slot)
        open_end = "".join(live.closed[growing.mark :]) + live.tail()
        word = "writing" if live.text or growing.raw else "thinking"
        state = (
            f'<hx-partial hx-target="#{name}-state" hx-swap="textContent">{word}</hx-partial>'
            f'<hx-partial hx-target="#{name}-tokens" hx-swap="textContent">{growing.pieces} tok</hx-partial>'
        )
        growing.full = (
            f'<hx-partial hx-target="#{name}-open" hx-swap="outerHTML">'
            f"{''.join(live.closed[growing.mark_before : growing.mark])}"
            f'<div id="{name}-open">{open_end}</div></hx-partial>{state}'
        )
        growing.tail = f'<hx-partial hx-target="#{name}-open" hx-swap="innerHTML">{open_end}</hx-partial>{state}'
