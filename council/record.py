"""Event -> rows: the only writer of a deliberation's rows, its calls included.

Every function is synchronous and short; a worker calls them off its loop. Each write carries the attempt that it was
begun under in its WHERE: a worker that was replaced raises Stale and writes nothing. Each write that a viewer can see
raises the deliberation's revision by one, in the same transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.db import DatabaseError, transaction
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
    TextGrew,
)
from council.core.values import CHAIRMAN, Outcome, Plan, Reply, Slot, Stage, Status
from council.models import Answer, Contribution, Deliberation, Review, Synthesis
from council.rows import Result, Statement

ATTEMPTS = 3

_DELIBERATION = Deliberation._meta.db_table
_TABLES = {
    Stage.ANSWERING: Answer._meta.db_table,
    Stage.REVIEWING: Review._meta.db_table,
    Stage.SYNTHESISING: Synthesis._meta.db_table,
}

# In one statement, and so in one way to the database and back: a person waits.
_TAKE = f"""
    UPDATE {_DELIBERATION}
    SET attempt = attempt + 1, revision = revision + 1, layout = revision + 1, started = coalesce(started, now()),
        status = CASE WHEN attempt < %(attempts)s THEN 'running' ELSE 'failed' END,
        reason = CASE WHEN attempt < %(attempts)s THEN '' ELSE %(given_up)s END,
        finished = CASE WHEN attempt < %(attempts)s THEN NULL ELSE now() END
    WHERE id = %(id)s AND status IN ('queued', 'running')
    RETURNING *
"""  # noqa: S608  # own names


@dataclass(frozen=True, slots=True)
class Claim:
    """A deliberation that this worker now carries out; `attempt` is its fence."""

    id: Any
    attempt: int
    revision: int
    plan: Plan
    stored: dict[str, Any]
    filled: dict[Slot, Reply]


@dataclass(slots=True)
class Growing:
    """What has come for a slot and is not finished. `dirty`: since the last checkpoint."""

    started: datetime
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


def claim(deliberation_id: Any) -> Claim | None:
    """Take an unfinished deliberation over from whoever had it. None: it is over, or was tried too often."""
    given_up = "It was begun three times and never came to its end."
    taken = Deliberation.objects.raw(_TAKE, {"id": deliberation_id, "attempts": ATTEMPTS, "given_up": given_up})
    row = next(iter(taken), None)
    if row is None or row.status == Deliberation.Status.FAILED:
        return None
    filled = _filled(row) if row.attempt > 1 else {}
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
        self._finished: set[Slot] = set()
        self._ends: list[CallEnd] = []
        self.taught: list[CallEnd] = []

    def grew(self, event: TextGrew) -> None:
        """Keep a piece in memory. Touches no database, so it may be called on the loop."""
        growing = self.growing[event.slot]
        growing.pieces += 1
        growing.dirty = True
        if growing.first_token is None:
            growing.first_token = timezone.now()
        if event.text:
            growing.parts.append(event.text)

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

    def checkpoint(self, changed: Sequence[tuple[Slot, dict[str, Any]]]) -> None:
        """Write a snapshot. What could not be written is in the next one."""
        try:
            self._execute(self._grow(changed))
        except DatabaseError:
            for slot, _ in changed:
                self.growing[slot].dirty = True
            raise

    def write(self, events: Sequence[Event], calls: Sequence[NewCall] = ()) -> list[SentCall]:
        """Write events that came together, and calls that go out after them, as one revision.

        What is already written stays as it was. Returns the calls' rows, in their order.
        """
        now = timezone.now()
        values: dict[str, Any] = {}
        for event in events:
            match event:
                case StageStarted(stage):
                    values |= {"stage": stage, "layout": self.revision + 1}
                case StandingsReady(standings):
                    values |= {"standings": [asdict(each) for each in standings]}
                case Ended(status, reason):
                    values |= {"status": status, "reason": reason, "finished": now, "layout": self.revision + 1}
        statements = [statement for event in events for statement in self._rows_of(event, now)]
        sending = call_rows.sending(calls, self.id, self.attempt)
        results = self._execute([*statements, *sending], values)
        for slot in self._finished:
            self.growing.pop(slot, None)
        self._finished.clear()
        return call_rows.sent(calls, results[len(statements) :])

    def _rows_of(self, event: Event, now: datetime) -> list[Statement]:
        match event:
            case StageStarted(stage, seats):
                return self._start(stage, seats, now)
            case AnswerFinished(answer):
                return [self._finish(Slot(Stage.ANSWERING, answer.seat), answer.reply, now)]
            case ReviewFinished(review):
                ballot = {
                    "ballot": review.ballot.groups,
                    "ballot_state": review.ballot.state,
                    "ballot_reason": review.ballot.reason,
                }
                return [self._finish(Slot(Stage.REVIEWING, review.seat), review.reply, now, **ballot)]
            case SynthesisFinished(synthesis):
                return [self._finish(Slot(Stage.SYNTHESISING, CHAIRMAN), synthesis.reply, now)]
            case TextGrew():
                raise TypeError("Growth is written by checkpoint().")
        return []

    def stop(self, changed: Sequence[tuple[Slot, dict[str, Any]]], status: Status, reason: str) -> None:
        """End the deliberation before its end, with everything that had come, labelled."""
        now = timezone.now()
        stopped = {"state": Contribution.State.ENDED, "outcome": Outcome.CANCELLED, "error": "Stopped before its end."}
        values = {"status": status, "reason": reason, "finished": now, "layout": self.revision + 1}
        statements = self._grow(changed)
        for table in _TABLES.values():
            ended = {**stopped, "finished": now, "revision": self.revision + 1}
            statements.append(rows.update(table, ended, "deliberation_id = %s AND state <> 'ended'", self.id))
        # Stopped between their row and their sending. How the others ended is written before this.
        where = "deliberation_id = %s AND fence = %s AND state = 'sent'"
        statements.append(rows.update(call_rows.TABLE, {**stopped, "ended": now}, where, self.id, self.attempt))
        self._execute(statements, values)

    def call_ended(self, end: CallEnd) -> None:
        """Keep how a call ended for the next write: it becomes known together with what it brought. On the loop."""
        self._ends.append(end)

    def learn(self) -> None:
        """Keep what calls taught: apart from other writes, for many share these rows, and nobody waits for it."""
        taught, self.taught = self.taught, []
        call_rows.learn(taught)

    def _execute(self, statements: Sequence[Statement], values: dict[str, Any] | None = None) -> list[Result]:
        """Carry statements out as the next revision, in one transaction, together with how calls ended.

        It begins with the fence, whose row it locks until the end. `values` are for the deliberation itself.
        """
        revision = self.revision + 1
        ends = list(self._ends)
        mine = "id = %s AND attempt = %s AND status IN ('queued', 'running')"
        fence = rows.update(_DELIBERATION, {"revision": revision, **(values or {})}, mine, self.id, self.attempt)
        with transaction.atomic():
            fenced, *results = rows.execute([fence, *map(call_rows.ending, ends), *statements])
            if not fenced.count:
                raise Stale
        self.revision = revision
        del self._ends[: len(ends)]
        self.taught += [end for end in ends if end.learnt is not None]
        return results[len(ends) :]

    def _grow(self, changed: Sequence[tuple[Slot, dict[str, Any]]]) -> list[Statement]:
        """One statement a stage: this is written every second, for every deliberation."""
        statements: list[Statement] = []
        for stage, table in _TABLES.items():
            grown = [(slot.seat, values) for slot, values in changed if slot.stage is stage]
            if not grown:
                continue
            by_seat = "" if stage is Stage.SYNTHESISING else "AND row.seat = grown.seat"
            statement = (
                f"UPDATE {table} AS row SET text = grown.text, tokens = grown.tokens, state = grown.state, "  # noqa: S608  # own names
                "first_token = grown.first_token, revision = %s "
                "FROM unnest(%s::smallint[], %s::text[], %s::int[], %s::text[], %s::timestamptz[]) "
                "AS grown (seat, text, tokens, state, first_token) "
                f"WHERE row.deliberation_id = %s AND row.state <> 'ended' {by_seat}"
            )
            columns = [[values[name] for _, values in grown] for name in ("text", "tokens", "state", "first_token")]
            seats = [seat for seat, _ in grown]
            statements.append((statement, [self.revision + 1, seats, *columns, self.id]))
        return statements

    def _start(self, stage: Stage, seats: Iterable[int], now: datetime) -> list[Statement]:
        """Make the stage's rows; those of an earlier attempt that had not ended begin afresh."""
        for seat in seats:
            self.growing[Slot(stage, seat)] = Growing(started=now)
        common: dict[str, Any] = {"deliberation_id": self.id, "started": now, "revision": self.revision + 1}
        match stage:
            case Stage.ANSWERING:
                new: list[Contribution] = [Answer(seat=seat, **common) for seat in seats]
            case Stage.REVIEWING:
                new = [Review(seat=seat, **common) for seat in seats]
            case Stage.SYNTHESISING:
                new = [Synthesis(**common)]
        statements = [rows.insert(new, "ON CONFLICT DO NOTHING")]
        if self.attempt > 1:
            begun = f"DELETE FROM {_TABLES[stage]} WHERE deliberation_id = %s AND state <> 'ended'"  # noqa: S608  # own name
            statements.insert(0, (begun, [self.id]))
        return statements

    def _finish(self, slot: Slot, reply: Reply, now: datetime, **extra: Any) -> Statement:
        growing = self.growing.get(slot)
        self._finished.add(slot)
        values: dict[str, Any] = {
            "revision": self.revision + 1,
            "state": Contribution.State.ENDED,
            "outcome": reply.outcome,
            "error": reply.error,
            "text": reply.text,
            "finished": now,
            **call_rows.usage_columns(reply.usage),
            **extra,
        }
        if growing is not None and growing.pieces:
            values |= {"tokens": growing.pieces, "first_token": growing.first_token}
        where = "deliberation_id = %s AND state <> 'ended'"
        if slot.stage is Stage.SYNTHESISING:
            return rows.update(_TABLES[slot.stage], values, where, self.id)
        return rows.update(_TABLES[slot.stage], values, f"{where} AND seat = %s", self.id, slot.seat)
