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

from django.db import connection, transaction
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
_TABLES = {
    Stage.ANSWERING: Answer._meta.db_table,
    Stage.REVIEWING: Review._meta.db_table,
    Stage.SYNTHESISING: Synthesis._meta.db_table,
}


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
    with transaction.atomic():
        row = (
            Deliberation.objects.select_for_update()
            .filter(pk=deliberation_id, status__in=Deliberation.UNFINISHED)
            .first()
        )
        if row is None:
            return None
        row.attempt += 1
        row.started = row.started or timezone.now()
        if row.attempt > ATTEMPTS:
            row.status, row.reason = Deliberation.Status.FAILED, "It was begun three times and never came to its end."
            row.finished = timezone.now()
        else:
            row.status = Deliberation.Status.RUNNING
        row.revision += 1
        row.layout = row.revision
        row.save(update_fields=("attempt", "started", "status", "reason", "finished", "revision", "layout"))
        if row.attempt > ATTEMPTS:
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
        """Write a snapshot."""
        with self._revision() as revision:
            self._grow(changed, revision)

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
        with self._revision(**values) as revision:
            for event in events:
                self._write_rows(event, revision, now)
            return sending(calls, self.id, self.attempt)

    def _write_rows(self, event: Event, revision: int, now: datetime) -> None:
        match event:
            case StageStarted(stage, seats):
                self._start(stage, seats, revision, now)
            case AnswerFinished(answer):
                self._finish(Slot(Stage.ANSWERING, answer.seat), answer.reply, revision, now)
            case ReviewFinished(review):
                ballot = {
                    "ballot": review.ballot.groups,
                    "ballot_state": review.ballot.state,
                    "ballot_reason": review.ballot.reason,
                }
                self._finish(Slot(Stage.REVIEWING, review.seat), review.reply, revision, now, **ballot)
            case SynthesisFinished(synthesis):
                self._finish(Slot(Stage.SYNTHESISING, CHAIRMAN), synthesis.reply, revision, now)
            case TextGrew():
                raise TypeError("Growth is written by checkpoint().")

    def stop(self, changed: Sequence[tuple[Slot, dict[str, Any]]], status: Status, reason: str) -> None:
        """End the deliberation before its end, with everything that had come, labelled."""
        now = timezone.now()
        with self._revision(status=status, reason=reason, finished=now, layout=self.revision + 1) as revision:
            self._grow(changed, revision)
            for rows in (Answer.objects, Review.objects, Synthesis.objects):
                rows.filter(deliberation=self.id).exclude(state=Contribution.State.ENDED).update(
                    state=Contribution.State.ENDED,
                    outcome=Outcome.CANCELLED,
                    error="Stopped before its end.",
                    finished=now,
                    revision=revision,
                )
            # Stopped between their row and their sending.
            Call.objects.filter(deliberation=self.id, fence=self.attempt, state=Call.State.SENT).update(
                state=Call.State.ENDED, outcome=Outcome.CANCELLED, error="Stopped.", ended=now
            )

    def call_ended(self, end: "CallEnd") -> None:
        """Keep how a call ended for the next write: it becomes known together with what it brought. On the loop."""
        self._ends.append(end)

    @contextmanager
    def _revision(self, **values: Any) -> Iterator[int]:
        """A transaction that begins with the fence and raises the revision; it locks the row until its end."""
        revision = self.revision + 1
        ends = list(self._ends)
        with transaction.atomic():
            mine = "id = %s AND attempt = %s AND status IN ('queued', 'running')"
            if not _set(_DELIBERATION, {"revision": revision, **values}, mine, self.id, self.attempt):
                raise Stale
            for end in ends:
                ended(end)
            yield revision
        self.revision = revision
        del self._ends[: len(ends)]
        learn(ends)

    def _grow(self, changed: Sequence[tuple[Slot, dict[str, Any]]], revision: int) -> None:
        """One statement a stage: this is written every second, for every deliberation."""
        for stage, table in _TABLES.items():
            rows = [(slot.seat, values) for slot, values in changed if slot.stage is stage]
            if not rows:
                continue
            by_seat = "" if stage is Stage.SYNTHESISING else "AND row.seat = grown.seat"
            with connection.cursor() as cursor:
                cursor.execute(
                    f"UPDATE {table} AS row SET text = grown.text, tokens = grown.tokens, state = grown.state, "  # noqa: S608  # own names
                    "first_token = grown.first_token, revision = %s "
                    "FROM unnest(%s::smallint[], %s::text[], %s::int[], %s::text[], %s::timestamptz[]) "
                    "AS grown (seat, text, tokens, state, first_token) "
                    f"WHERE row.deliberation_id = %s AND row.state <> 'ended' {by_seat}",
                    [
                        revision,
                        [seat for seat, _ in rows],
                        *([values[name] for _, values in rows] for name in ("text", "tokens", "state", "first_token")),
                        self.id,
                    ],
                )

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

    def _finish(self, slot: Slot, reply: Reply, revision: int, now: datetime, **extra: Any) -> None:
        growing = self.growing.pop(slot, None)
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
            _set(_TABLES[slot.stage], values, where, self.id)
        else:
            _set(_TABLES[slot.stage], values, f"{where} AND seat = %s", self.id, slot.seat)


def _set(table: str, values: Mapping[str, Any], where: str, *which: Any) -> int:
    """Update rows, as the ORM would at several times the cost: a change of stage waits for a dozen of these."""
    columns = ", ".join(f"{name} = %s" for name in values)
    new = [Jsonb(value) if isinstance(value, list | tuple) else value for value in values.values()]
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {columns} WHERE {where}", [*new, *which])  # noqa: S608  # own names
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
    providers = Provider.objects.in_bulk({call.model.provider for call in calls})
    models = {call.model.pk for call in calls}
    left = set(LanguageModel.objects.filter(pk__in=models).values_list("pk", flat=True))
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
    values = {
        "state": Call.State.ENDED,
        "outcome": end.attempt.outcome,
        "error": end.attempt.error,
        "generation": end.attempt.generation,
        "first_token": end.first_token,
        "ended": end.ended,
        **_usage(end.usage),
    }
    _set(Call._meta.db_table, values, "id = %s AND state = 'sent'", end.call)


def learn(ends: Iterable[CallEnd]) -> None:
    """Keep what calls taught about their models' tokens; apart from other writes, for all share these rows."""
    for model, learnt in {end.model: end.learnt for end in ends if end.learnt is not None}.items():
        LanguageModel.objects.filter(pk=model).update(tokens_per_byte=learnt)
