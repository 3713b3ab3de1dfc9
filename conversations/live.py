"""A deliberation on its way to its viewers: each event is recorded first and shown then.

Text that grows is shown in frames, one for the whole deliberation: a slot's first sign of life and its first text at
once, then at most one in INTERVAL seconds. Where many deliberations are shown they come less often, for a frame takes
about a millisecond and all of them may have a sixth of the loop's time (SHARE). About once in CHECKPOINT seconds the
texts are written to their rows. Channel layers lose messages in silence, so a frame stands alone: it holds all that
grew since the checkpoint before the last one. Events other than growth travel as a bare notice of the new revision;
each viewer's consumer reads the rows.

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
from django.db import InterfaceError, OperationalError
from django.utils.translation import gettext as _

from conversations.markdown import LiveText
from conversations.naming import rewriter, slot_id
from council.call_rows import CallEnd, NewCall, SentCall
from council.core import ballots
from council.core.events import Event, StageStarted
from council.core.values import Plan, Slot, Stage, Status
from council.models import Contribution
from council.record import Claim, Recorder
from council.threads import in_thread

logger = logging.getLogger(__name__)

# Seconds.
INTERVAL = 0.1  # between two frames of a deliberation
SHARE = 0.006  # and at least this for each deliberation that the process shows,
SLOWEST = 0.5  # up to this
TOGETHER = 0.002  # first pieces of text that come within it share a frame
ENDINGS_TOGETHER = 0.01  # ends that come within it share a transaction
TO_GO_OUT = 0.003  # for calls whose rows are written; a thread that writes would take the interpreter from them
AFTERWARDS = 0.05
CHECKPOINT = 1.0  # between two writings of texts that grow
PATIENCE = 60.0  # with a database that is away
LAYER_SECONDS = 0.5  # for a message to the channel layer
LAYER_PAUSE = 5.0  # after one that took longer

EARLY = 20  # pieces of a review among which its critique is looked for


async def _wait(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait for the event, at most so long; whether it came."""
    if not event.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()


def group_of(conversation_id: UUID) -> str:
    """The channel group of everyone who looks at a conversation."""
    return f"conversation.{conversation_id.hex}"


@dataclass(slots=True)
class _Outage:
    """Until when the channel layer is taken to be away. That is said once, and not for each frame."""

    begun: bool = False
    until: float = 0.0


_outage = _Outage()


async def tell(conversation_id: UUID, message: dict[str, Any]) -> None:
    """Send to all viewers. A layer that is down loses it: the rows hold the truth, and viewers look there too.

    One that hangs is left alone for a while: what is recorded must not wait for it.
    """
    if monotonic() < _outage.until:
        return
    try:
        layer: Any = get_channel_layer()
        async with asyncio.timeout(LAYER_SECONDS):
            await layer.group_send(group_of(conversation_id), message)
        _outage.begun = False
    except TimeoutError:
        _outage.until = monotonic() + LAYER_PAUSE
        if not _outage.begun:
            logger.warning("The channel layer does not answer; pages look for themselves")
        _outage.begun = True
    except Exception:  # whatever the layer's client raises, a deliberation goes on without it
        if not _outage.begun:
            logger.warning("The channel layer takes no messages; pages look for themselves", exc_info=True)
        _outage.begun = True


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
    readable: bool = False
    grown: bool = False
    full: str = ""
    tail: str = ""


class Live:
    """Records and shows one claimed deliberation. Use as an async context manager around `deliberate`.

    One task of its own does all the writing and showing, so that things happen in their order: a call's row is written
    before anything goes out to its provider, and an event before any viewer sees it. The calls of a stage go out before
    the end of the stage before is written, a few milliseconds earlier: after a crash in between, both are made again.
    Whatever comes in the same moment is written in one transaction.
    """

    count = 0
    """How many are shown by this process."""

    def __init__(self, conversation_id: UUID, claim: Claim) -> None:
        self.conversation_id = conversation_id
        self.recorder = Recorder(claim)
        self._plan: Plan = claim.plan
        self._growing: dict[Slot, _Growing] = {}
        self._events: list[Event] = []
        self._calls: list[tuple[NewCall, asyncio.Future[SentCall]]] = []
        self._written = dict(claim.sent)
        self._error: Exception | None = None
        self._ending = False
        self._woken = asyncio.Event()  # there is something to do
        self._urgent = asyncio.Event()  # it is worth a frame before its time
        self._waited_for = asyncio.Event()  # a call waits for its row, or the end for its events
        self._changed = claim.revision
        self._told = 0
        self._checkpoint = self._base = claim.revision
        self._checkpointed = monotonic()
        self._generation = 0
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._worker = asyncio.create_task(self._work())
        Live.count += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        Live.count -= 1
        await self._end()

    async def emit(self, event: Event) -> None:
        """Take an event in, to be recorded and then shown.

        Raises what kept an earlier event from being recorded: Stale where another worker has taken over.
        """
        if self._error:
            raise self._error
        if isinstance(event, StageStarted):
            self.recorder.begin(event)
            for seat in event.seats:
                slot = Slot(event.stage, seat)
                self._growing[slot] = _Growing(LiveText(rewriter(self._plan, slot)))
        self._events.append(event)
        self._urgent.set()
        self._woken.set()

    async def sending(self, call: NewCall) -> SentCall:
        """Record the call, unless it was recorded with the question. Raises as `emit`."""
        if self._error:
            raise self._error
        if call.slot in self._written:
            return self._written.pop(call.slot)
        sent = asyncio.get_running_loop().create_future()
        self._calls.append((call, sent))
        self._hurry()
        return await sent

    def grew(self, call: NewCall, text: str) -> None:
        """Take a piece of text in. On the loop, for every piece, so it only appends. Raises as `emit`.

        Nobody waits for a text that cannot be kept, and it costs.
        """
        if self._error:
            raise self._error
        slot = call.slot
        assert slot is not None  # noqa: S101  # a deliberation's calls all have one
        self.recorder.grew(slot, text)
        growing = self._growing[slot]
        growing.pieces += 1
        growing.changed_at = self._generation
        growing.grown = True
        if text:
            growing.raw.append(text)
        if not growing.readable and self._begins(slot, growing):
            self._urgent.set()
        self._woken.set()

    def _begins(self, slot: Slot, growing: _Growing) -> bool:
        """Whether this is the first sign of life, or the first that people can read; both are shown at once."""
        if slot.stage is Stage.REVIEWING and growing.pieces <= EARLY:
            growing.readable = bool(ballots.critique("".join(growing.raw)))
        else:
            growing.readable = bool(growing.raw)
        return growing.readable or growing.pieces == 1

    async def ended(self, end: CallEnd) -> None:
        """Record it together with the event that it brings."""
        self.recorder.call_ended(end)

    async def finish(self) -> None:
        """Record and show all that was told. Raises what kept it from being recorded."""
        await self._end()
        if self._error:
            raise self._error
        # Viewers read the end now; nobody waits for the rest.
        await asyncio.sleep(AFTERWARDS)
        await self._learn()

    async def stop(self, status: Status, reason: str) -> None:
        """End the deliberation before its end, with what had come, and show that."""
        await self._end()
        await in_thread(self.recorder.stop, self.recorder.snapshot(), status, reason)
        self._changed = self.recorder.revision
        await self._notify()

    async def _end(self) -> None:
        self._ending = True
        self._hurry()
        if self._worker is not None:
            await self._worker

    def _hurry(self) -> None:
        self._waited_for.set()
        self._urgent.set()
        self._woken.set()

    async def _work(self) -> None:
        failing_since: float | None = None
        while not (self._ending and not self._events):
            await _wait(self._woken, self._next_checkpoint())
            self._woken.clear()
            if self._urgent.is_set():
                # Members often begin, and end, together: what comes in the same moment goes out together.
                await _wait(self._waited_for, ENDINGS_TOGETHER if self._events else TOGETHER)
            self._waited_for.clear()
            self._urgent.clear()
            try:
                await self._write()
                failing_since = None
            except (OperationalError, InterfaceError) as error:
                # The database is away, for a moment as a rule; what came waits here meanwhile.
                logger.warning("Deliberation %s cannot be written and waits: %s", self.recorder.id, error)
                failing_since = failing_since or monotonic()
                if monotonic() - failing_since > PATIENCE:
                    self._give_up(error)
                    return
                self._woken.set()
                await asyncio.sleep(SLOWEST)
                continue
            except Exception as error:  # noqa: BLE001  # Stale as a rule; the engine hears of it
                self._give_up(error)
                return
            await self._show()
            if not self._ending:
                await self._learn()
                await _wait(self._urgent, min(SLOWEST, max(INTERVAL, Live.count * SHARE)))

    def _give_up(self, error: Exception) -> None:
        self._error = error
        for _call, sent in self._calls:
            if not sent.done():
                sent.set_exception(error)

    async def _write(self) -> None:
        """Bring the rows up to what happened; those of calls first, for these wait for theirs."""
        self._calls = [(call, sent) for call, sent in self._calls if not sent.done()]
        if self._calls:
            calls = list(self._calls)
            rows = await in_thread(self.recorder.send, [call for call, _ in calls])
            del self._calls[: len(calls)]
            for (_call, sent), row in zip(calls, rows, strict=True):
                if not sent.done():  # it was stopped meanwhile
                    sent.set_result(row)
            await asyncio.sleep(TO_GO_OUT)
        if self._events:
            events = list(self._events)
            await in_thread(self.recorder.write, events)
            del self._events[: len(events)]
            self._changed = self.recorder.revision
            for event in events:
                self._follow(event)
        if monotonic() - self._checkpointed >= CHECKPOINT:
            await self._write_checkpoint()

    def _follow(self, event: Event) -> None:
        """Keep the texts that grow in step with what was recorded."""
        if isinstance(event, StageStarted):
            self._checkpoint = self._base = self.recorder.revision
        else:
            for slot in [slot for slot in self._growing if slot not in self.recorder.growing]:
                del self._growing[slot]

    async def _learn(self) -> None:
        if self.recorder.taught:
            try:
                await in_thread(self.recorder.learn)
            except Exception:
                logger.exception("What calls of deliberation %s taught was not kept", self.recorder.id)

    async def _show(self) -> None:
        try:
            await self._notify()
            if frame := self._frame():
                await tell(self.conversation_id, frame)
        except Exception:
            # The deliberation goes on and its end is recorded; viewers look at the rows meanwhile.
            logger.exception("A frame of deliberation %s was not made", self.recorder.id)

    async def _notify(self) -> None:
        """Say that something other than text changed, unless that was said."""
        if self._told == self._changed:
            return
        self._told = self._changed
        await tell(
            self.conversation_id, {"type": "changed", "deliberation": self.recorder.id.hex, "revision": self._changed}
        )

    def _next_checkpoint(self) -> float | None:
        """Seconds until what grew is written, though nothing more comes; None where all is written."""
        if not any(growing.dirty for growing in self.recorder.growing.values()):
            return None
        return max(0.0, self._checkpointed + CHECKPOINT - monotonic())

    async def _write_checkpoint(self) -> None:
        self._checkpointed = monotonic()
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
        tokens = _("%(count)s tok") % {"count": growing.pieces}
        word = (Contribution.State.WRITING if live.text or growing.raw else Contribution.State.THINKING).label
        state = (
            f'<hx-partial hx-target="#{name}-state" hx-swap="textContent">{word}</hx-partial>'
            f'<hx-partial hx-target="#{name}-tokens" hx-swap="textContent">{tokens}</hx-partial>'
        )
        growing.full = (
            f'<hx-partial hx-target="#{name}-open" hx-swap="outerHTML">'
            f"{''.join(live.closed[growing.mark_before : growing.mark])}"
            f'<div id="{name}-open">{open_end}</div></hx-partial>{state}'
        )
        growing.tail = f'<hx-partial hx-target="#{name}-open" hx-swap="innerHTML">{open_end}</hx-partial>{state}'
