"""Event -> change -> rows: the only writer of a deliberation's rows once it is stored, with those of its slots' calls.

Functions that write are synchronous and short; a worker calls them off its loop. Each write carries the attempt that it
was begun under, in the WHERE of its first statement: a worker that was replaced raises Stale, and none of it is done.
Each write that a viewer can see raises the deliberation's revision by one, in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.db import DatabaseError
from django.utils import timezone

from council import call_rows, rows
from council.call_rows import CallEnd, NewCall, SentCall
from council.core.errors import Stale
from council.core.events import (
    AnswerFinished,
    Ended,
    Event,
    ReviewFinished,
    StageStarted,
    StandingsReady,
    SynthesisFinished,
)
from council.core.values import CHAIRMAN, Outcome, Plan, Reply, Slot, Stage, Status
from council.models import Answer, Call, Contribution, Deliberation, Review, Synthesis
from council.rows import Statement
from council.written import MODELS, Change

ATTEMPTS = 3

_DELIBERATION = Deliberation._meta.db_table
_MINE = "id = %s AND attempt = %s AND status IN ('queued', 'running')"

# In one statement, and so in one way to the database and back: a person waits.
_TAKE = f"""
    UPDATE {_DELIBERATION}
    SET attempt = attempt + 1, revision = revision + 1, layout = revision + 1, started = coalesce(started, now()),
        status = 'running'
    WHERE id = %(id)s AND status IN ('queued', 'running')
    RETURNING *
"""  # noqa: S608  # own names


@dataclass(frozen=True, slots=True)
class Claim:
    """A deliberation that this worker now carries out; `attempt` is its fence.

    `filled`: what earlier attempts brought. `sent`: calls whose rows are written, and that are still to go out.
    """

    id: Any
    attempt: int
    revision: int
    plan: Plan
    stored: dict[str, Any]
    filled: dict[Slot, Reply]
    sent: dict[Slot, SentCall] = field(default_factory=dict)


@dataclass(slots=True)
class Growing:
    """What has come for a slot and is not finished. `dirty`: since the last checkpoint."""

    parts: list[str] = field(default_factory=list)
    pieces: int = 0
    first_token: datetime | None = None
    dirty: bool = False

    @property
    def state(self) -> str:
        """In the words of `Contribution.State`."""
        if self.parts:
            return Contribution.State.WRITING
        return Contribution.State.THINKING if self.pieces else Contribution.State.WAITING


def claim_new(deliberation: Deliberation) -> Claim:
    """Take a deliberation that is not yet stored: it is stored as one that this process carries out."""
    deliberation.status = Deliberation.Status.RUNNING
    deliberation.attempt = deliberation.revision = deliberation.layout = 1
    deliberation.started = timezone.now()
    return _claim(deliberation, {})


def claim(deliberation_id: Any) -> Claim | None:
    """Take an unfinished deliberation over from whoever had it. None: it is over.

    One that was tried too often, or that somebody stopped before it went on, is ended here.
    """
    row = next(iter(Deliberation.objects.raw(_TAKE, {"id": deliberation_id})), None)
    if row is None:
        return None
    if row.attempt > 1:
        lost = row.calls.filter(state=Call.State.SENT, fence__lt=row.attempt)
        lost.update(state=Call.State.ENDED, outcome=Outcome.FAILED, error="Its worker was lost.", ended=timezone.now())
    taken = _claim(row, _filled(row) if row.attempt > 1 else {})
    if row.attempt > ATTEMPTS:
        Recorder(taken).stop([], Status.FAILED, "It was begun three times and never came to its end.")
        return None
    if row.cancel_requested:
        Recorder(taken).stop([], Status.CANCELLED, "Stopped. What had come by then is kept.")
        return None
    return taken


def holds(claim: Claim) -> bool:
    """Whether nobody has taken the deliberation over since."""
    return Deliberation.objects.filter(pk=claim.id, attempt=claim.attempt).exists()


def _claim(row: Deliberation, filled: dict[Slot, Reply]) -> Claim:
    return Claim(row.id, row.attempt, row.revision, Plan.from_json(row.plan), row.plan, filled)


def _filled(row: Deliberation) -> dict[Slot, Reply]:
    """The replies of slots that an earlier attempt filled."""
    ended: list[tuple[Slot, Contribution]] = [
        (Slot(Stage.ANSWERING, each.seat), each) for each in Answer.objects.filter(deliberation=row, state="ended")
    ]
    ended += [
        (Slot(Stage.REVIEWING, each.seat), each) for each in Review.objects.filter(deliberation=row, state="ended")
    ]
    ended += [
        (Slot(Stage.SYNTHESISING, CHAIRMAN), each) for each in Synthesis.objects.filter(deliberation=row, state="ended")
    ]
    return {
        slot: Reply(each.text, Outcome(each.outcome), each.error)
        for slot, each in ended
        if each.outcome != Outcome.CANCELLED
    }


class Recorder:
    """Writes what happens to one claimed deliberation. Texts that grow wait in memory for the next checkpoint.

    The methods that write are called one at a time; under its fence a deliberation has this writer alone.
    """

    def __init__(self, claim: Claim) -> None:
        self.id = claim.id
        self.attempt = claim.attempt
        self.revision = claim.revision
        self.growing: dict[Slot, Growing] = {}
        self._ends: list[CallEnd] = []
        self.taught: list[CallEnd] = []

    def grew(self, slot: Slot, text: str) -> None:
        """Keep a piece in memory; one of thinking has no text. Touches no database: for the loop, at each piece."""
        growing = self.growing[slot]
        growing.pieces += 1
        growing.dirty = True
        if growing.first_token is None:
            growing.first_token = timezone.now()
        if text:
            growing.parts.append(text)

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
        """Write a snapshot. What could not be written is in the next one."""
        change = Change({"revision": self.revision + 1}, slots=changed, ends=list(self._ends))
        try:
            self._execute(change, self._update(change))
        except DatabaseError:
            for slot, _ in changed:
                self.growing[slot].dirty = True
            raise
        return change

    def send(self, calls: Sequence[NewCall]) -> list[SentCall]:
        """Write the rows of calls that are about to be sent, and return them in their order. No viewer sees that."""
        fence = rows.required(f"SELECT 1 FROM {_DELIBERATION} WHERE {_MINE} FOR NO KEY UPDATE", self.id, self.attempt)  # noqa: S608  # own names
        try:
            _fenced, *results = rows.execute([fence, *call_rows.sending(calls, self.id, self.attempt)])
        except rows.NotThere:
            raise Stale from None
        return call_rows.sent(calls, results)

    def begin(self, event: StageStarted) -> None:
        """Make room in memory for the texts of a stage. On the loop, before its calls go out."""
        for seat in event.seats:
            self.growing[Slot(event.stage, seat)] = Growing()

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
        slots = [filled for event in events if (filled := self._filled(event, now))]
        return Change(values, begun, slots, list(self._ends))

    def write(self, change: Change) -> None:
        """Write it. What is already written of a slot that has ended stays as it was."""
        started = [statement for new in change.begun for statement in self._start(new)]
        self._execute(change, [*started, *self._update(change)])
        for slot, values in change.slots:
            if values["state"] == Contribution.State.ENDED:
                self.growing.pop(slot, None)

    def stop(self, changed: Sequence[tuple[Slot, dict[str, Any]]], status: Status, reason: str) -> None:
        """End the deliberation before its end, with everything that had come, labelled."""
        now = timezone.now()
        stopped = {"state": Contribution.State.ENDED, "outcome": Outcome.CANCELLED, "error": "Stopped before its end."}
        revision = self.revision + 1
        values = {"revision": revision, "status": status, "reason": reason, "finished": now, "layout": revision}
        change = Change(values, slots=changed, ends=list(self._ends))
        statements = self._update(change)
        ended = {**stopped, "finished": now, "revision": revision}
        for model in MODELS.values():
            table = model._meta.db_table
            statements.append(rows.update(table, ended, "deliberation_id = %s AND state <> 'ended'", self.id))
        # Stopped between their row and their sending. How the others ended is written before this.
        where = "deliberation_id = %s AND fence = %s AND state = 'sent'"
        statements.append(rows.update(call_rows.TABLE, {**stopped, "ended": now}, where, self.id, self.attempt))
        self._execute(change, statements)

    def call_ended(self, end: CallEnd) -> None:
        """Keep how a call ended for the next write: it becomes known together with what it brought. On the loop."""
        self._ends.append(end)

    def learn(self) -> None:
        """Keep what calls taught: apart from other writes, for many share these rows, and nobody waits for it."""
        taught, self.taught = self.taught, []
        call_rows.learn(taught)

    def _execute(self, change: Change, statements: Sequence[Statement]) -> None:
        """Carry the statements of a change out, in one transaction, together with how calls ended.

        It begins with the fence, whose row it locks until the end.
        """
        sql, given = rows.update(_DELIBERATION, change.values, _MINE, self.id, self.attempt)
        try:
            rows.execute([rows.required(f"{sql} RETURNING 1", *given), *call_rows.ending(change.ends), *statements])
        except rows.NotThere:
            raise Stale from None
        self.revision = change.revision
        del self._ends[: len(change.ends)]
        self.taught += [end for end in change.ends if end.learnt is not None]

    def _update(self, change: Change) -> list[Statement]:
        """One statement a stage: this is written every second, for every deliberation."""
        statements = []
        for stage, model in MODELS.items():
            key = ["deliberation_id"] if stage is Stage.SYNTHESISING else ["deliberation_id", "seat"]
            here = {"deliberation_id": self.id, "revision": change.revision}
            new = [
                {**here, **values} if stage is Stage.SYNTHESISING else {**here, "seat": slot.seat, **values}
                for slot, values in change.slots
                if slot.stage is stage
            ]
            if new:
                statements.append(rows.update_each(model, key, new, f"{model._meta.db_table}.state <> 'ended'"))
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
            begun = f"DELETE FROM {new[0]._meta.db_table} WHERE deliberation_id = %s AND state <> 'ended'"  # noqa: S608  # own name
            statements.insert(0, (begun, [self.id]))
        return statements

    def _filled(self, event: Event, now: datetime) -> tuple[Slot, dict[str, Any]] | None:
        """What is to be written of a slot that was filled."""
        ballot: dict[str, Any] = {}
        match event:
            case AnswerFinished(answer):
                slot, reply = Slot(Stage.ANSWERING, answer.seat), answer.reply
            case ReviewFinished(review):
                slot, reply = Slot(Stage.REVIEWING, review.seat), review.reply
                ballot = {
                    "ballot": [list(group) for group in review.ballot.groups],
                    "ballot_state": review.ballot.state,
                    "ballot_reason": review.ballot.reason,
                }
            case SynthesisFinished(synthesis):
                slot, reply = Slot(Stage.SYNTHESISING, CHAIRMAN), synthesis.reply
            case _:
                return None
        growing = self.growing.get(slot)
        values = {
            "state": Contribution.State.ENDED,
            "outcome": reply.outcome,
            "error": reply.error,
            "text": reply.text,
            "finished": now,
            "tokens": growing.pieces if growing else 0,
            "first_token": growing and growing.first_token,
            **call_rows.usage_columns(reply.usage),
            **ballot,
        }
        return slot, values
