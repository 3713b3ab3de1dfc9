"""Event -> rows: the only writer of a deliberation's rows, its calls included.

Every function is synchronous and short; a worker calls them off its loop. Each write carries the attempt that it was
begun under in its WHERE: a worker that was replaced raises Stale and writes nothing. Each write that a viewer can see
raises the deliberation's revision by one, in the same transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from psycopg.types.json import Jsonb

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
from council.core.values import CHAIRMAN, Outcome, Plan, Reply, Slot, Stage, Status, Usage
from council.models import Answer, Call, Contribution, Deliberation, LanguageModel, Provider, Review, Synthesis
from council.plans import ModelSnapshot
from council.providers.calling import Attempt

ATTEMPTS = 3

_DELIBERATION = Deliberation._meta.db_table
_CALL = Call._meta.db_table
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
            with self._revision() as (revision, updates):
                updates.extend(self._grow(changed, revision))
        except DatabaseError:
            for slot, _ in changed:
                self.growing[slot].dirty = True
            raise

    def write(self, events: Sequence[Event], calls: Sequence["NewCall"] = ()) -> list["SentCall"]:
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
        with self._revision(**values) as (revision, updates):
            for event in events:
                updates.extend(self._write_rows(event, revision, now))
            sent = sending(calls, self.id, self.attempt)
        for slot in self._finished:
            self.growing.pop(slot, None)
        self._finished.clear()
        return sent

    def _write_rows(self, event: Event, revision: int, now: datetime) -> list["Update"]:
        match event:
            case StageStarted(stage, seats):
                self._start(stage, seats, revision, now)
            case AnswerFinished(answer):
                return [self._finish(Slot(Stage.ANSWERING, answer.seat), answer.reply, revision, now)]
            case ReviewFinished(review):
                ballot = {
                    "ballot": review.ballot.groups,
                    "ballot_state": review.ballot.state,
                    "ballot_reason": review.ballot.reason,
                }
                return [self._finish(Slot(Stage.REVIEWING, review.seat), review.reply, revision, now, **ballot)]
            case SynthesisFinished(synthesis):
                return [self._finish(Slot(Stage.SYNTHESISING, CHAIRMAN), synthesis.reply, revision, now)]
            case TextGrew():
                raise TypeError("Growth is written by checkpoint().")
        return []

    def stop(self, changed: Sequence[tuple[Slot, dict[str, Any]]], status: Status, reason: str) -> None:
        """End the deliberation before its end, with everything that had come, labelled."""
        now = timezone.now()
        stopped = {"state": Contribution.State.ENDED, "outcome": Outcome.CANCELLED, "error": "Stopped before its end."}
        values = {"status": status, "reason": reason, "finished": now, "layout": self.revision + 1}
        with self._revision(**values) as (revision, updates):
            updates.extend(self._grow(changed, revision))
            for table in _TABLES.values():
                rows = {**stopped, "finished": now, "revision": revision}
                updates.append(_update(table, rows, "deliberation_id = %s AND state <> 'ended'", self.id))
            # Stopped between their row and their sending.
            where = "deliberation_id = %s AND fence = %s AND state = 'sent'"
            updates.append(_update(_CALL, {**stopped, "ended": now}, where, self.id, self.attempt))

    def call_ended(self, end: "CallEnd") -> None:
        """Keep how a call ended for the next write: it becomes known together with what it brought. On the loop."""
        self._ends.append(end)

    @contextmanager
    def _revision(self, **values: Any) -> Iterator[tuple[int, list["Update"]]]:
        """A transaction that begins with the fence and raises the revision; it locks the row until its end.

        What is added to the list of updates is written at its end, in one go.
        """
        revision = self.revision + 1
        ends = list(self._ends)
        with transaction.atomic():
            mine = "id = %s AND attempt = %s AND status IN ('queued', 'running')"
            if not _execute([_update(_DELIBERATION, {"revision": revision, **values}, mine, self.id, self.attempt)]):
                raise Stale
            updates = [_end_of_call(end) for end in ends]
            yield revision, updates
            _execute(updates)
        self.revision = revision
        del self._ends[: len(ends)]
        learn(ends)

    def _grow(self, changed: Sequence[tuple[Slot, dict[str, Any]]], revision: int) -> list["Update"]:
        """One statement a stage: this is written every second, for every deliberation."""
        updates = []
        for stage, table in _TABLES.items():
            rows = [(slot.seat, values) for slot, values in changed if slot.stage is stage]
            if not rows:
                continue
            by_seat = "" if stage is Stage.SYNTHESISING else "AND row.seat = grown.seat"
            statement = (
                f"UPDATE {table} AS row SET text = grown.text, tokens = grown.tokens, state = grown.state, "  # noqa: S608  # own names
                "first_token = grown.first_token, revision = %s "
                "FROM unnest(%s::smallint[], %s::text[], %s::int[], %s::text[], %s::timestamptz[]) "
                "AS grown (seat, text, tokens, state, first_token) "
                f"WHERE row.deliberation_id = %s AND row.state <> 'ended' {by_seat}"
            )
            columns = [[values[name] for _, values in rows] for name in ("text", "tokens", "state", "first_token")]
            updates.append((statement, [revision, [seat for seat, _ in rows], *columns, self.id]))
        return updates

    def _start(self, stage: Stage, seats: Iterable[int], revision: int, now: datetime) -> None:
        """Make the stage's rows; those of an earlier attempt that had not ended begin afresh."""
        for seat in seats:
            self.growing[Slot(stage, seat)] = Growing(started=now)
        match stage:
            case Stage.ANSWERING:
                rows: Any = Answer.objects
                new: list[Any] = [
                    Answer(deliberation_id=self.id, seat=seat, started=now, revision=revision) for seat in seats
                ]
            case Stage.REVIEWING:
                rows = Review.objects
                new = [Review(deliberation_id=self.id, seat=seat, started=now, revision=revision) for seat in seats]
            case Stage.SYNTHESISING:
                rows = Synthesis.objects
                new = [Synthesis(deliberation_id=self.id, started=now, revision=revision)]
        if self.attempt > 1:
            rows.filter(deliberation=self.id).exclude(state=Contribution.State.ENDED).delete()
        rows.bulk_create(new, ignore_conflicts=True)

    def _finish(self, slot: Slot, reply: Reply, revision: int, now: datetime, **extra: Any) -> "Update":
        growing = self.growing.get(slot)
        self._finished.add(slot)
        values: dict[str, Any] = {
            "revision": revision,
            "state": Contribution.State.ENDED,
            "outcome": reply.outcome,
            "error": reply.error,
            "text": reply.text,
            "finished": now,
            **_usage(reply.usage),
            **extra,
        }
        if growing is not None and growing.pieces:
            values |= {"tokens": growing.pieces, "first_token": growing.first_token}
        where = "deliberation_id = %s AND state <> 'ended'"
        if slot.stage is Stage.SYNTHESISING:
            return _update(_TABLES[slot.stage], values, where, self.id)
        return _update(_TABLES[slot.stage], values, f"{where} AND seat = %s", self.id, slot.seat)


Update = tuple[str, list[Any]]
"""A statement and its parameters. Written by hand and executed together, because a change of stage waits for a dozen
of them, and the ORM takes half a millisecond and a way to the database and back for each."""


def _update(table: str, values: Mapping[str, Any], where: str, *which: Any) -> Update:
    columns = ", ".join(f"{name} = %s" for name in values)
    new = [Jsonb(value) if isinstance(value, list | tuple) else value for value in values.values()]
    return f"UPDATE {table} SET {columns} WHERE {where}", [*new, *which]  # noqa: S608  # own names


def _execute(updates: Sequence[Update]) -> int:
    """Carry them out, in order; how many rows the last one changed."""
    if not updates:
        return 0
    with connection.cursor() as cursor:
        cursor.execute("; ".join(sql for sql, _ in updates), [each for _, given in updates for each in given])
        count: int = cursor.rowcount
    return count


def _usage(usage: Usage | None) -> dict[str, Any]:
    if usage is None:
        return {}
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost": usage.cost,
        "estimated": usage.estimated,
    }


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call that is about to be sent: what for, to which model, and which slot of a plan it may fill."""

    purpose: Call.Purpose
    model: ModelSnapshot
    slot: Slot | None = None


class SentCall(NamedTuple):
    """The id of a call's row, and the provider as it is now (None: gone or switched off)."""

    id: int
    provider: Provider | None


def sending(calls: Sequence[NewCall], deliberation_id: Any = None, fence: int = 0) -> list[SentCall]:
    """Write the rows of calls that are about to be sent."""
    if not calls:
        return []
    # A model may have been deleted since the plan was made, and its provider with it.
    models = {call.model.pk for call in calls}
    left = LanguageModel.objects.select_related("provider").in_bulk(models)
    providers = {model.provider_id: model.provider for model in left.values()}
    if missing := {call.model.provider for call in calls} - set(providers):
        providers |= Provider.objects.in_bulk(missing)
    now = timezone.now()
    rows = Call.objects.bulk_create(
        Call(
            deliberation_id=deliberation_id,
            purpose=call.purpose,
            seat=call.slot.seat if call.slot and call.slot.seat != CHAIRMAN else None,
            fence=fence,
            language_model_id=call.model.pk if call.model.pk in left else None,
            model_name=call.model.name,
            provider_name=call.model.provider_name,
            sent=now,
        )
        for call in calls
    )
    usable = [providers.get(call.model.provider) for call in calls]
    return [
        SentCall(row.pk, provider if provider and provider.enabled else None)
        for row, provider in zip(rows, usable, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call ended, and what its usage taught about the model's tokens (None: nothing)."""

    call: int
    attempt: Attempt
    usage: Usage | None
    first_token: datetime | None
    ended: datetime
    model: int
    learnt: float | None


def ended(end: CallEnd) -> None:
    """Write how a call ended."""
    _execute([_end_of_call(end)])


def _end_of_call(end: CallEnd) -> Update:
    values = {
        "state": Call.State.ENDED,
        "outcome": end.attempt.outcome,
        "error": end.attempt.error,
        "generation": end.attempt.generation,
        "first_token": end.first_token,
        "ended": end.ended,
        **_usage(end.usage),
    }
    return _update(_CALL, values, "id = %s AND state = 'sent'", end.call)


def learn(ends: Iterable[CallEnd]) -> None:
    """Keep what calls taught about their models' tokens; apart from other writes, for all share these rows."""
    for model, learnt in {end.model: end.learnt for end in ends if end.learnt is not None}.items():
        LanguageModel.objects.filter(pk=model).update(tokens_per_byte=learnt)
