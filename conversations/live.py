"""A deliberation on its way to its viewers: each event is recorded first and shown then.

Text that grows is shown in frames, one for the whole deliberation: a slot's first sign of life and its first text at
once, then one in FRAME seconds at most. Every CHECKPOINT seconds the texts are written to their rows. Where many
deliberations are shown both come less often, so that all of them together have a bounded part of the process's time.
What other events change is drawn once, while it is written, for all viewers who have what came before it; whoever lacks
more reads the rows.
"""

import asyncio
import contextlib
import logging
from collections import deque
from time import monotonic
from typing import Any, NamedTuple, Self
from uuid import UUID

from conversations import changes, reading
from conversations.growing import GrowingTexts
from conversations.pace import CHECKPOINT, FRAME
from conversations.reading import TurnRows
from conversations.viewers import tell
from council import call_rows, measuring, written
from council.call_rows import CallBegan, CallEnd, NewCall, SentCall
from council.claiming import Claim
from council.core.events import Event, StageStarted, StandInAsked
from council.core.values import Status
from council.record import Recorder
from council.threads import in_thread, outlasting
from council.written import Change

logger = logging.getLogger(__name__)

# Seconds.
TOGETHER = 0.002  # first pieces of text that come within it share a frame
ENDINGS_TOGETHER = 0.01  # ends that come within it share a transaction
AFTERWARDS = 0.05

TURNS_TO_GO_OUT = 6  # of the loop, for calls whose rows are written


async def _wait(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait for the event, at most so long; whether it came."""
    if not event.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()


class _Drawing(NamedTuple):
    """What is said of a change once it is written, and its HTML to come."""

    message: dict[str, Any]
    html: asyncio.Future[str]


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
        self._texts = GrowingTexts(claim.id, claim.plan, claim.revision)
        self._events: list[Event] = []
        self._calls: list[tuple[NewCall, asyncio.Future[SentCall]]] = []
        self._written = dict(claim.sent)
        self._error: Exception | None = None
        self._ending = False
        self._woken = asyncio.Event()  # there is something to do
        self._urgent = asyncio.Event()  # it is worth a frame before its time
        self._waited_for = asyncio.Event()  # a call waits for its row, or the end for its events
        self._changed = claim.revision
        self._rows: TurnRows | None = None  # as they are written; read after the first checkpoint
        self._drawings: deque[_Drawing] = deque()
        self._others: list[CallEnd] = []  # since then, of calls that fill no slot
        self.late = False
        """Whether one of these ended after the deliberation."""
        self._checkpointed = monotonic()
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
        if isinstance(event, StageStarted | StandInAsked):
            self.recorder.begin(event)
            self._texts.begin(event)
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
        if self._texts.grew(slot, text):
            self._urgent.set()
        self._woken.set()

    def began(self, call: CallBegan) -> None:
        """Record at the next checkpoint what is known of it. On the loop."""
        self.recorder.call_began(call)
        self._woken.set()

    async def ended(self, end: CallEnd) -> None:
        """Record it together with the event that it brings; at once where it brings none, for others follow."""
        self.recorder.call_ended(end)
        self._woken.set()

    def other_ended(self, end: CallEnd) -> None:
        """A call that fills no slot, and whose rows others write, has ended."""
        if self._rows:
            self._others.append(end)
        self.late = self.late or (self._worker is not None and self._worker.done())

    async def finish(self) -> None:
        """Record and show all that was told. Raises what kept it from being recorded."""
        await self._end()
        if self._error:
            raise self._error
        # Viewers read the end now; nobody waits for the rest.
        await asyncio.sleep(AFTERWARDS)
        measuring.tell()
        await self._learn()

    async def stop(self, status: Status, reason: str) -> None:
        """End the deliberation before its end, with what had come, and show that."""
        await self._end()
        await in_thread(self.recorder.stop, self.recorder.snapshot(), status, reason)
        await tell(self.conversation_id, self._notice(self.recorder.revision))
        measuring.tell()

    async def _end(self) -> None:
        self._ending = True
        self._hurry()
        if self._worker is not None:
            # Whoever is stopped meanwhile waits no more; what came is written all the same.
            await asyncio.shield(self._worker)

    def _hurry(self) -> None:
        self._waited_for.set()
        self._urgent.set()
        self._woken.set()

    async def _work(self) -> None:
        while not (self._ending and not self._events and not self.recorder.ends):
            await _wait(self._woken, self._next_checkpoint())
            self._woken.clear()
            if self._urgent.is_set():
                # Members often begin, and end, together: what comes in the same moment goes out together.
                await _wait(self._waited_for, ENDINGS_TOGETHER if self._events else TOGETHER)
            self._waited_for.clear()
            self._urgent.clear()
            try:
                # Where the database is away, for a moment as a rule, what comes meanwhile is written with the rest.
                await outlasting(self._write)
            except Exception as error:  # noqa: BLE001  # Stale as a rule; the engine hears of it
                self._give_up(error)
                return
            await self._show()
            if not self._ending:
                await self._learn()
                await _wait(self._urgent, FRAME.seconds(Live.count))
        await self._tell_changes(wait=True)

    def _give_up(self, error: Exception) -> None:
        self._error = error
        for _call, sent in self._calls:
            if not sent.done():
                sent.set_exception(error)

    async def _write(self) -> None:
        """Bring the rows up to what happened; those of calls first, for these wait for theirs."""
        if self.recorder.found_out:
            # The next call of the same model is to find it well, and that may be one of these.
            await self._write_events()
            await self._learn()
        self._calls = [(call, sent) for call, sent in self._calls if not sent.done()]
        if self._calls:
            calls = list(self._calls)
            rows = await in_thread(self.recorder.send, [call for call, _ in calls])
            del self._calls[: len(calls)]
            for (_call, sent), row in zip(calls, rows, strict=True):
                if sent.done():  # it was stopped meanwhile
                    self.recorder.call_ended(call_rows.never_sent(row))
                else:
                    sent.set_result(row)
            for _ in range(TURNS_TO_GO_OUT):  # a thread that goes on would take the interpreter from them
                await asyncio.sleep(0)
        await self._write_events()
        if monotonic() - self._checkpointed >= CHECKPOINT.seconds(Live.count):
            await self._write_checkpoint()

    async def _write_events(self) -> None:
        """Write what was told, and how calls ended."""
        if self._events or self.recorder.ends:
            events = list(self._events)
            await self._write_change(self.recorder.change(events))
            del self._events[: len(events)]
            for event in events:
                self._follow(event)

    async def _write_change(self, change: Change) -> None:
        """Write it, and have it drawn meanwhile: the drawing is shown once both are done."""
        before, after = self._rows, self._after(change)
        # Of a stage's texts the page has more than the rows: those that grow still are left as they are.
        known = self._changed if "layout" in change.values else self.recorder.revision
        html = asyncio.ensure_future(self._draw(before, after, known))
        try:
            await asyncio.sleep(0)  # it takes longer than the writing, and begins first
            await in_thread(self.recorder.write, change)
        except BaseException:
            html.cancel()
            raise
        self._drawings.append(_Drawing(self._notice(change.revision, known, before, after), html))
        html.add_done_callback(lambda _: self._hurry())
        self._rows, self._changed = after, change.revision

    def _after(self, change: Change) -> TurnRows | None:
        """The rows as they are once it is written; None where they are not known, and viewers read them."""
        try:
            return self._rows and written.after(self._rows, change)
        except Exception:
            logger.exception("The rows of deliberation %s are not known any more", self.recorder.id)
            return None

    async def _draw(self, before: TurnRows | None, after: TurnRows | None, known: int) -> str:
        """The change as HTML; empty where viewers have to read it."""
        if before is None or after is None or not changes.can_draw():
            return ""
        try:
            after = written.with_calls(after, self._others)
            return await changes.drawing(changes.step, after, known, before.deliberation.stage)
        except Exception:
            logger.exception("A change of deliberation %s was not drawn", self.recorder.id)
            return ""

    def _notice(
        self, revision: int, known: int = 0, before: TurnRows | None = None, after: TurnRows | None = None
    ) -> dict[str, Any]:
        """What viewers hear of a change, without its HTML, which is for whoever is as far as `known`."""
        return {
            "type": "changed",
            "deliberation": self.recorder.id.hex,
            "revision": revision,
            "before": known,
            "had": before.deliberation.stage if before else "",
            "stage": after.deliberation.stage if after else "",
            "unfinished": after.deliberation.unfinished if after else False,
            "html": "",
        }

    def _follow(self, event: Event) -> None:
        """Keep the texts that grow in step with what was recorded."""
        if isinstance(event, StageStarted):
            self._texts.begun(self.recorder.revision)
        elif not isinstance(event, StandInAsked):
            self._texts.keep(self.recorder.growing)

    async def _learn(self) -> None:
        if self.recorder.taught:
            try:
                await in_thread(self.recorder.learn)
            except Exception:
                logger.exception("What calls of deliberation %s taught was not kept", self.recorder.id)

    async def _show(self) -> None:
        try:
            if await self._tell_changes() and (frame := self._texts.frame(self.recorder.revision, self._changed)):
                await tell(self.conversation_id, frame)
        except Exception:
            # The deliberation goes on and its end is recorded; viewers look at the rows meanwhile.
            logger.exception("A frame of deliberation %s was not made", self.recorder.id)

    async def _tell_changes(self, *, wait: bool = False) -> bool:
        """Show what is drawn, in its order; whether that is all. What grows after it is shown after it."""
        while self._drawings and (wait or self._drawings[0].html.done()):
            notice, html = self._drawings[0]
            await tell(self.conversation_id, {**notice, "html": await html})
            self._drawings.popleft()
        return not self._drawings

    def _next_checkpoint(self) -> float | None:
        """Seconds until what grew is written, though nothing more comes; None where all is written."""
        if not self.recorder.dirty:
            return None
        return max(0.0, self._checkpointed + CHECKPOINT.seconds(Live.count) - monotonic())

    async def _write_checkpoint(self) -> None:
        self._checkpointed = monotonic()
        if not self.recorder.dirty:
            return
        snapshot = self.recorder.snapshot()
        marks = self._texts.marks()
        change = await in_thread(self.recorder.checkpoint, snapshot)
        self._texts.checkpointed(marks, self.recorder.revision)
        self._rows = self._after(change)
        if self._rows is None:
            # Not before: when a deliberation begins nobody looks yet, and where many do, each has enough to do.
            self._rows = await self._read()

    async def _read(self) -> TurnRows | None:
        try:
            return await in_thread(reading.of_deliberation, self.conversation_id, self.recorder.id)
        except Exception:
            logger.exception("The rows of deliberation %s were not read; viewers read them", self.recorder.id)
            return None
