"""Event -> change -> rows: the only writer of what a deliberation brings, with the rows of its slots' calls.

Functions that write are synchronous and short; a worker calls them off its loop. Each write carries the attempt that it
was begun under, in the WHERE of its first statement: a worker that was replaced raises Stale, and none of it is done.
Each write that a viewer can see raises the deliberation's revision by one, in the same transaction. Who has the right
to write is `council.claiming`'s.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError
from django.db.models import F
from django.utils import timezone

from council import breakers, call_rows, measuring, retrying, trail
from council.call_rows import CallBegan, CallEnd, NewCall, SentCall
from council.core.errors import Stale
from council.core.events import (
    AnswerFinished,
    Ended,
    Event,
    ReviewFinished,
    StageStarted,
    StandInAsked,
    StandingsReady,
    SynthesisFinished,
)
from council.core.values import CHAIRMAN, Outcome, Slot, Stage, Status, Usage
from council.models import Contribution, Deliberation
from council.retrying import Kept
from council.written import MODELS, Change
from governance import rows
from governance.rows import Statement

_DELIBERATION = Deliberation._meta.db_table
_MINE = "id = %s AND attempt = %s AND status IN ('queued', 'running')"


@dataclass(frozen=True, slots=True)
class Hold:
    """The right to write a deliberation; `attempt` is its fence.

    `retry`: which slot is tried again, and `kept`: what it had before, and what slots had before a fallback model was
    asked. `sent`: calls whose rows are written, and that are still to go out.
    """

    id: Any
    attempt: int
    revision: int
    retry: dict[str, Any] | None = field(default=None, kw_only=True)
    kept: dict[Slot, Kept] = field(default_factory=dict, kw_only=True)
    sent: dict[Slot, SentCall] = field(default_factory=dict, kw_only=True)


@dataclass(slots=True)
class Growing:
    """What has come for a slot and is not finished. `dirty`: since the last checkpoint. `usage`: of its call."""

    parts: list[str] = field(default_factory=list)
    pieces: int = 0
    first_token: datetime | None = None
    dirty: bool = False
    usage: Usage | None = None

    @property
    def state(self) -> str:
        """In the words of `Contribution.State`."""
        if self.parts:
            return Contribution.State.WRITING
        return Contribution.State.THINKING if self.pieces else Contribution.State.WAITING


class Recorder:
    """Writes what happens to one claimed deliberation. Texts that grow wait in memory for the next checkpoint.

    The methods that write are called one at a time; under its fence a deliberation has this writer alone.
    """

    def __init__(self, claim: Hold) -> None:
        self.id = claim.id
        self.attempt = claim.attempt
        self.revision = claim.revision
        self.taken = monotonic()
        self.calls = 0
        self.retry = claim.retry
        self.kept = dict(claim.kept)
        self.growing: dict[Slot, Growing] = {}
        self._began: dict[int, CallBegan] = {}
        self._ends: list[CallEnd] = []
        self.taught: list[CallEnd] = []
        self._known = {sent.id for sent in claim.sent.values()}
        self._doubtful = False  # whether there may be rows of calls that were never sent

    def grew(self, slot: Slot, text: str) -> None:
        """Keep a piece in memory; one of thinking has no text. Touches no database: for the loop, at each piece."""
        growing = self.growing[slot]
        growing.pieces += 1
        growing.dirty = True
        if growing.first_token is None:
            growing.first_token = timezone.now()
        if text:
            growing.parts.append(text)

    def call_began(self, call: CallBegan) -> None:
        """Keep what is known of a call that goes on for the next checkpoint. On the loop."""
        self._began[call.call] = call

    @property
    def dirty(self) -> bool:
        """Whether a checkpoint has anything to write."""
        return bool(self._began) or any(growing.dirty for growing in self.growing.values())

    def snapshot(self) -> list[tuple[Slot, dict[str, Any]]]:
        """What a checkpoint has to write of the texts that grew since the last one. On the loop."""
        changed = []
        for slot, growing in self.growing.items():
            if growing.dirty:
                growing.dirty = False
                growing.parts = ["".join(growing.parts)]
                changed.append(
                    (
                        slot,
                        {
                            "text": growing.parts[0],
                            "tokens": growing.pieces,
                            "state": growing.state,
                            "first_token": growing.first_token,
                        },
                    )
                )
        return changed

    def checkpoint(self, changed: Sequence[tuple[Slot, dict[str, Any]]]) -> Change:
        """Write a snapshot, and what is known of calls. What could not be written is in the next one."""
        change = Change({"revision": self.revision + 1}, slots=changed, ends=list(self._ends))
        began = list(self._began.values())
        try:
            self._execute(change, [*call_rows.began(began), *self._update(change)])
        except DatabaseError:
            for slot, _ in changed:
                self.growing[slot].dirty = True
            raise
        for each in began:
            if self._began.get(each.call) is each:
                self._began.pop(each.call, None)
        return change

    def send(self, calls: Sequence[NewCall]) -> list[SentCall]:
        """Write the rows of calls that are about to be sent, and return them in their order. No viewer sees that."""
        fence = rows.required(f"SELECT 1 FROM {_DELIBERATION} WHERE {_MINE} FOR NO KEY UPDATE", self.id, self.attempt)  # noqa: S608  # own names
        before = [self._unheard()] if self._doubtful else []
        try:
            results = rows.execute([fence, *before, *call_rows.sending(calls, self.id, self.attempt)])
        except rows.NotThere:
            raise Stale from None
        except (OperationalError, InterfaceError):
            # They may have been written: the connection broke before anybody heard of it.
            self._doubtful = True
            raise
        sent = call_rows.sent(calls, results[1 + len(before) :])
        self._known.update(each.id for each in sent)
        self._doubtful = False
        return sent

    def _unheard(self) -> Statement:
        return call_rows.unheard(self.id, self.attempt, self._known)

    def begin(self, event: StageStarted | StandInAsked) -> None:
        """Make room in memory for texts that begin, or begin afresh. On the loop, before their calls go out."""
        if isinstance(event, StandInAsked) and event.own.text.strip():
            own = retrying.broke_off(MODELS[event.slot.stage], event.own, timezone.now())
            if not self.kept.get(event.slot, own).tried_again:
                self.kept[event.slot] = own
        for slot in slots_of(event):
            self.growing[slot] = Growing()

    def change(self, events: Sequence[Event]) -> Change:
        """What events that came together come to, as one revision. On the loop."""
        now = timezone.now()
        values: dict[str, Any] = {"revision": self.revision + 1}
        for event in events:
            match event:
                case StageStarted(stage):
                    values |= {"stage": stage, "layout": self.revision + 1}
                case StandingsReady(standings):
                    values |= {"standings": [asdict(each) for each in standings]}
                case Ended(status, reason):
                    values |= {"status": status, "reason": reason, "finished": now, "layout": self.revision + 1}
        begun = [self._begun(event, now) for event in events if isinstance(event, StageStarted)]
        # Of a slot that changed twice in one moment, the last: a statement that knows both takes either.
        slots = dict(filled for event in events if (filled := self._filled(event, now)))
        return Change(values, begun, list(slots.items()), list(self._ends))

    def write(self, change: Change) -> None:
        """Write it. What is already written of a slot that has ended stays as it was."""
        started = [statement for new in change.begun for statement in self._start(new)]
        # Whoever waited for them may have gone before they were written again; at the latest now that is settled.
        unheard = [self._unheard()] if self._doubtful and change.values.get("finished") else []
        self._execute(change, [*started, *self._update(change), *unheard])
        for slot, values in change.slots:
            if values["state"] == Contribution.State.ENDED:
                self.growing.pop(slot, None)
                self.kept.pop(slot, None)

    def stop(self, changed: Sequence[tuple[Slot, dict[str, Any]]], status: Status, reason: str) -> None:
        """End the deliberation before its end, with everything that had come, labelled.

        What is being tried again, and has not come, leaves things as they were before. Where a fallback model was at
        it, the longer text stays: its, or what the seat's own model had written before it broke off.
        """
        now = timezone.now()
        stopped = {"state": Contribution.State.ENDED, "outcome": Outcome.CANCELLED, "error": "Stopped before its end."}
        revision = self.revision + 1
        values: dict[str, Any] = {"revision": revision, "finished": now, "layout": revision}
        values |= {"status": status, "reason": reason}
        before = {slot: had for slot, had in self.kept.items() if had.tried_again}
        own = {slot: had for slot, had in self.kept.items() if not had.tried_again}
        if self.retry and before:
            values |= retrying.given_back(self.retry, status)
        slots = [each for each in changed if each[0] not in before]
        used = {slot: growing.usage for slot, growing in self.growing.items() if growing.usage and slot not in before}
        slots += [(slot, call_rows.usage_columns(usage)) for slot, usage in used.items()]
        slots += [(slot, had.columns(had.in_vain("it was stopped."))) for slot, had in before.items()]
        change = Change(values, slots=slots, ends=list(self._ends))
        statements = self._update(change)
        for slot, had in own.items():
            longer = {**had.columns(f"{had.values['error']} {stopped['error']}"), "revision": revision}
            where = "deliberation_id = %s AND state <> 'ended' AND length(text) < %s"
            which = [self.id, len(had.values["text"])]
            if slot.seat != CHAIRMAN:
                where, which = f"{where} AND seat = %s", [*which, slot.seat]
            statements.append(rows.update(MODELS[slot.stage]._meta.db_table, longer, where, *which))
        ended = {**stopped, "earlier": None, "finished": now, "revision": revision}
        for model in MODELS.values():
            table = model._meta.db_table
            statements.append(rows.update(table, ended, "deliberation_id = %s AND state <> 'ended'", self.id))
        # Stopped between their row and their sending. How the others ended is written before this; a title's call tells
        # its own end.
        where = "deliberation_id = %s AND fence = %s AND state <> 'ended' AND purpose <> 'title'"
        never = {**stopped, "ended": now, "sent": None}
        statements.append(rows.update(call_rows.TABLE, never, where, self.id, self.attempt))
        self._execute(change, statements)

    @property
    def ends(self) -> bool:
        """Whether calls have ended of which nothing is written yet."""
        return bool(self._ends)

    @property
    def found_out(self) -> bool:
        """Whether a call has ended that was to find out how its model does, and its breaker does not say so yet."""
        return any(end.probe for end in (*self._ends, *self.taught))

    def call_ended(self, end: CallEnd) -> None:
        """Keep how a call ended for the next write: it becomes known together with what it brought. On the loop."""
        self._ends.append(end)
        self._began.pop(end.call, None)  # its end says the same
        self.calls += 1
        if end.slot in self.growing:
            self.growing[end.slot].usage = end.usage

    def learn(self) -> None:
        """Keep what calls taught: apart from other writes, for many share these rows, and nobody waits for it."""
        taught, self.taught = self.taught, []
        call_rows.learn(taught)
        breakers.heard(taught)

    def _execute(self, change: Change, statements: Sequence[Statement]) -> None:
        """Carry the statements of a change out, in one transaction, together with how calls ended.

        It begins with the fence, whose row it locks until the end.
        """
        sql, given = rows.update(_DELIBERATION, change.values, _MINE, self.id, self.attempt)
        told = []
        if change.values.get("finished"):
            told = [trail.ended(self.id, change.values["status"], monotonic() - self.taken)]
        try:
            fenced = rows.required(f"{sql} RETURNING 1", *given)
            rows.execute([fenced, *call_rows.ending(change.ends), *statements, *told])
        except rows.NotThere:
            if not (change.values.get("finished") and self._has_ended(change)):
                raise Stale from None
        except (OperationalError, InterfaceError):
            # It may have been written all the same. What is written next has another number, for pages that have seen
            # this one would not look again.
            self.revision = change.revision
            raise
        self.revision = change.revision
        del self._ends[: len(change.ends)]
        self.taught += [end for end in change.ends if end.learnt is not None or end.attempt.fault or end.probe]
        if change.values.get("finished"):
            measuring.ended(self.id, change.values["status"], monotonic() - self.taken, self.calls)

    def _has_ended(self, change: Change) -> bool:
        """Whether an earlier try wrote the end, and nobody heard of it; it has this one's number from now on."""
        ended = Deliberation.objects.filter(pk=self.id, attempt=self.attempt, status=change.values["status"])
        return bool(ended.exclude(finished=None).update(revision=change.revision, layout=change.revision))

    def _update(self, change: Change) -> list[Statement]:
        """One statement a stage, as a rule: this is written every second, for every deliberation."""
        alike: dict[tuple[Stage, tuple[str, ...]], list[dict[str, Any]]] = {}
        for slot, values in change.slots:
            key = {"deliberation_id": self.id, **({} if slot.seat == CHAIRMAN else {"seat": slot.seat})}
            new = {**key, "revision": change.revision, **values}
            alike.setdefault((slot.stage, tuple(values)), []).append(new)
        statements = []
        for (stage, _names), new_ones in alike.items():
            model = MODELS[stage]
            names = ["deliberation_id"] if stage is Stage.SYNTHESISING else ["deliberation_id", "seat"]
            statements.append(rows.update_each(model, names, new_ones, f"{model._meta.db_table}.state <> 'ended'"))
        return statements

    def _begun(self, event: StageStarted, now: datetime) -> list[Contribution]:
        """The rows of a stage that begins."""
        model = MODELS[event.stage]
        new = [model(deliberation_id=self.id, started=now, revision=self.revision + 1) for _ in event.seats]
        if event.stage is not Stage.SYNTHESISING:
            for row, seat in zip(new, event.seats, strict=True):
                row.seat = seat
        return new

    def _start(self, new: Sequence[Contribution]) -> list[Statement]:
        """Make a stage's rows; those of an earlier attempt that had not ended begin afresh."""
        statements = [rows.insert(new, "ON CONFLICT DO NOTHING")]
        if self.attempt > 1:
            table = new[0]._meta.db_table
            begun = f"DELETE FROM {table} WHERE deliberation_id = %s AND state <> 'ended' AND earlier IS NULL"  # noqa: S608  # own name
            statements.insert(0, (begun, [self.id]))
            if self.kept:
                # What it had before it began afresh is in these rows.
                afresh = {**retrying.EMPTY, "state": new[0].state, "revision": new[0].revision}
                statements.append(rows.update(table, afresh, "deliberation_id = %s AND state <> 'ended'", self.id))
        return statements

    def _filled(self, event: Event, now: datetime) -> tuple[Slot, dict[str, Any]] | None:
        """What is to be written of a slot that was filled, or that begins afresh."""
        more: dict[str, Any] = {}
        match event:
            case StandInAsked(slot, stand_in, _):
                # What its own model wrote, and what it had before it was tried again, outlast this process.
                kept = {"earlier": dict(self.kept[slot].values)} if slot in self.kept else {}
                return slot, {**_afresh(slot, stand_in), **kept}
            case AnswerFinished(answer):
                slot, reply = Slot(Stage.ANSWERING, answer.seat), answer.reply
            case ReviewFinished(review):
                slot, reply = Slot(Stage.REVIEWING, review.seat), review.reply
                more = {
                    "saw": list(review.saw),
                    "ballot": [list(group) for group in review.ballot.groups],
                    "ballot_state": review.ballot.state,
                    "ballot_reason": review.ballot.reason,
                }
            case SynthesisFinished(synthesis):
                slot, reply = Slot(Stage.SYNTHESISING, CHAIRMAN), synthesis.reply
                more = {"saw": list(synthesis.saw)}
            case _:
                return None
        if slot in self.kept:
            more["earlier"] = None
        growing = self.growing.get(slot)
        values = {
            "state": Contribution.State.ENDED,
            "outcome": reply.outcome,
            "error": reply.error,
            "stand_in": reply.stand_in,
            "text": reply.text,
            "finished": now,
            "tokens": growing.pieces if growing else 0,
            "first_token": growing and growing.first_token,
            **call_rows.usage_columns(reply.usage),
            **more,
        }
        if reply.kept and slot in self.kept:
            values |= self.kept[slot].columns(reply.error)
        return slot, values


def renew(deliberation_id: Any, attempt: int | None = None) -> bool:
    """Have viewers read a deliberation again: one of its calls has ended after it, or has a cost by now.

    `attempt`: that of the worker whose call it was. False: it goes on, or another worker has ended it.
    """
    ended = Deliberation.objects.filter(pk=deliberation_id, finished__isnull=False)
    if attempt is not None:
        ended = ended.filter(attempt=attempt)
    return bool(ended.update(revision=F("revision") + 1, layout=F("revision") + 1))


def slots_of(event: StageStarted | StandInAsked) -> list[Slot]:
    """The slots whose texts begin with it."""
    return [event.slot] if isinstance(event, StandInAsked) else [Slot(event.stage, seat) for seat in event.seats]


def _afresh(slot: Slot, stand_in: int) -> dict[str, Any]:
    """What is written of a slot that begins afresh with another model: all that is written of one that ends."""
    ballot = {"ballot": [], "ballot_state": "", "ballot_reason": ""}
    return {
        "state": Contribution.State.WAITING,
        "outcome": "",
        "error": "",
        "stand_in": stand_in,
        "text": "",
        "finished": None,
        "tokens": 0,
        "first_token": None,
        **call_rows.usage_columns(None),
        **(ballot if slot.stage is Stage.REVIEWING else {}),
    }
