"""Event -> change -> rows: the only writer of a deliberation's rows once it is stored, with those of its slots' calls.

Functions that write are synchronous and short; a worker calls them off its loop. Each write carries the attempt that it
was begun under, in the WHERE of its first statement: a worker that was replaced raises Stale, and none of it is done.
Each write that a viewer can see raises the deliberation's revision by one, in the same transaction.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple, Self

from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.db.models import Model, Q
from django.utils import timezone

from council import breakers, call_rows, measuring, retrying
from council.call_rows import CallEnd, NewCall, SentCall
from council.core.errors import NotOffered, Stale, UnderWay
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
from council.core.values import CHAIRMAN, Outcome, Plan, Reply, Slot, Stage, Status
from council.models import Answer, Call, Contribution, Deliberation
from council.plans import ModelSnapshot
from council.retrying import Kept
from council.written import MODELS, Change, in_rows
from governance import rows
from governance.rows import Statement

ATTEMPTS = 3

_STAGES = {
    Call.Purpose.ANSWER: Stage.ANSWERING,
    Call.Purpose.REVIEW: Stage.REVIEWING,
    Call.Purpose.SYNTHESIS: Stage.SYNTHESISING,
}

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


class Asked(NamedTuple):
    """A model that was asked to fill a slot, by the names that a call's row keeps of it."""

    slot: Slot
    model: str
    provider: str

    @classmethod
    def of(cls, slot: Slot, model: ModelSnapshot) -> Self:
        """As a call's row would say it."""
        return cls(slot, model.name, model.provider_name)


@dataclass(frozen=True, slots=True)
class Hold:
    """The right to write a deliberation; `attempt` is its fence.

    `retry`: which slot is tried again, and `kept`: what it had before. `sent`: calls whose rows are written, and that
    are still to go out.
    """

    id: Any
    attempt: int
    revision: int
    retry: dict[str, Any] | None = field(default=None, kw_only=True)
    kept: dict[Slot, Kept] = field(default_factory=dict, kw_only=True)
    sent: dict[Slot, SentCall] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True, slots=True)
class Claim(Hold):
    """A deliberation that this worker now carries out.

    `filled`: what earlier attempts brought. `lost`: how many calls went out of which nobody knows what came of them;
    `begun`: what had come of those that nobody ended.
    """

    plan: Plan
    stored: dict[str, Any]
    filled: dict[Slot, Reply]
    lost: dict[Asked, int] = field(default_factory=dict)
    begun: dict[Asked, str] = field(default_factory=dict)


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
    slots: dict[Slot, Contribution] = {}
    if row.attempt > 1:
        call_rows.lose(row.calls.filter(fence__lt=row.attempt))
        slots = _slots(row)
    kept = {slot: had for slot, each in slots.items() if (had := retrying.kept(each))}
    # Before its plan is read: where that is what nobody survives, this ends it.
    hold = Hold(row.id, row.attempt, row.revision, retry=row.retry, kept=kept)
    if row.attempt - (row.retry["attempt"] if row.retry else 0) > ATTEMPTS:
        Recorder(hold).stop([], Status.FAILED, "It was begun three times and never came to its end.")
        return None
    if row.cancel_requested:
        Recorder(hold).stop([], Status.CANCELLED, "Stopped. What had come by then is kept.")
        return None
    lost, begun = _lost(row) if row.attempt > 1 else ({}, {})
    filled = {slot: retrying.reply_of(each) for slot, each in slots.items() if each.state == Contribution.State.ENDED}
    return replace(_claim(row, filled), lost=lost, begun=begun, kept=kept)


def holds(claim: Claim) -> bool:
    """Whether nobody has taken the deliberation over since."""
    return Deliberation.objects.filter(pk=claim.id, attempt=claim.attempt).exists()


def _lost(row: Deliberation) -> tuple[dict[Asked, int], dict[Asked, str]]:
    """How often each model was asked without its becoming known what came of it, and the last text of each."""
    silent = Q(outcome=Outcome.TIMED_OUT, first_token=None)
    # Whoever tries a slot again by hand does it knowing what became of it before.
    earlier = row.retry["attempt"] if row.retry else 0
    calls = row.calls.filter(Q(outcome=Outcome.UNKNOWN) | silent, purpose__in=_STAGES, fence__gt=earlier).order_by("pk")
    asked = [
        Asked(Slot(_STAGES[purpose], CHAIRMAN if seat is None else seat), model, provider)
        for purpose, seat, model, provider in calls.values_list("purpose", "seat", "model_name", "provider_name")
    ]
    begun = {}
    for each in {each.slot: each for each in asked}.values():  # the last of each slot
        found = MODELS[each.slot.stage]._default_manager.filter(deliberation=row).exclude(state="ended")
        if each.slot.seat != CHAIRMAN:
            found = found.filter(seat=each.slot.seat)
        begun[each] = next(iter(found.values_list("text", flat=True)), "")
    return dict(Counter(asked)), begun


def reopen(deliberation_id: Any, scope: Any, slot: Slot) -> None:
    """Empty one slot of a deliberation that has ended, for a worker to try it again; what it had is kept.

    `scope`: that of whoever asks. Raises UnderWay, NotOffered, and IntegrityError where another of the scope goes on.
    """
    with transaction.atomic():
        found = Deliberation.objects.select_for_update().get(pk=deliberation_id)
        if found.unfinished:
            raise UnderWay
        slots = _slots(found)
        if slot not in retrying.offers(in_rows(found, slots)):
            raise NotOffered
        now, revision = timezone.now(), found.revision + 1
        # Those that an earlier release wrote do not say it; nothing was tried again then.
        saw = [at.seat for at, each in slots.items() if at.stage is Stage.ANSWERING and retrying.usable(each)]
        for each in slots.values():
            if not isinstance(each, Answer) and each.saw is None:
                _store(each, saw=saw)
        if slot in slots:
            _store(slots[slot], **retrying.emptied(slots[slot], now), revision=revision)
        idle = (now - found.finished).total_seconds() if found.finished else 0.0
        retry = {
            "stage": slot.stage,
            "seat": slot.seat,
            "attempt": found.attempt + 1,
            "idle": idle + (found.retry["idle"] if found.retry else 0.0),
            "before": {"status": found.status, "stage": found.stage},
            "reason": found.reason,
        }
        # Another attempt: whoever carried it out until now has nothing to do with it any more.
        _store(
            found,
            scope=scope,
            status=Deliberation.Status.QUEUED,
            stage=slot.stage,
            retry=retry,
            attempt=found.attempt + 1,
            revision=revision,
            layout=revision,
            cancel_requested=False,
            finished=None,
        )


def _store(row: Model, **values: Any) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save(update_fields=list(values))


def _claim(row: Deliberation, filled: dict[Slot, Reply]) -> Claim:
    plan = Plan.from_json(row.plan)
    if row.retry:
        # Whoever tries a slot again waits for that one.
        plan = replace(plan, quorum=None)
    return Claim(row.id, row.attempt, row.revision, plan, row.plan, filled, retry=row.retry)


def _slots(row: Deliberation) -> dict[Slot, Contribution]:
    """What is stored of its slots."""
    found: dict[Slot, Contribution] = {}
    for stage, model in MODELS.items():
        for each in model.objects.filter(deliberation=row):
            found[Slot(stage, getattr(each, "seat", CHAIRMAN))] = each
    return found


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
        before = [call_rows.unheard(self.id, self.attempt, self._known)] if self._doubtful else []
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

    def begin(self, event: StageStarted | StandInAsked) -> None:
        """Make room in memory for texts that begin, or begin afresh. On the loop, before their calls go out."""
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
        self._execute(change, [*started, *self._update(change)])
        for slot, values in change.slots:
            if values["state"] == Contribution.State.ENDED:
                self.growing.pop(slot, None)
                self.kept.pop(slot, None)

    def stop(self, changed: Sequence[tuple[Slot, dict[str, Any]]], status: Status, reason: str) -> None:
        """End the deliberation before its end, with everything that had come, labelled.

        What is being tried again, and has not come, leaves things as they were before.
        """
        now = timezone.now()
        stopped = {"state": Contribution.State.ENDED, "outcome": Outcome.CANCELLED, "error": "Stopped before its end."}
        revision = self.revision + 1
        values: dict[str, Any] = {"revision": revision, "finished": now, "layout": revision}
        values |= {"status": status, "reason": reason}
        if self.retry and self.kept:
            values |= retrying.given_back(self.retry, status)
        change = Change(values, slots=[each for each in changed if each[0] not in self.kept], ends=list(self._ends))
        back = [(slot, had.columns(had.in_vain("it was stopped."))) for slot, had in self.kept.items()]
        statements = self._update(replace(change, slots=[*change.slots, *back]))
        ended = {**stopped, "finished": now, "revision": revision}
        for model in MODELS.values():
            table = model._meta.db_table
            statements.append(rows.update(table, ended, "deliberation_id = %s AND state <> 'ended'", self.id))
        # Stopped between their row and their sending. How the others ended is written before this.
        where = "deliberation_id = %s AND fence = %s AND state <> 'ended'"
        statements.append(rows.update(call_rows.TABLE, {**stopped, "ended": now}, where, self.id, self.attempt))
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
        self.calls += 1

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
        try:
            rows.execute([rows.required(f"{sql} RETURNING 1", *given), *call_rows.ending(change.ends), *statements])
        except rows.NotThere:
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
                # What it had before it was tried again is in these rows.
                afresh = {**retrying.EMPTY, "state": new[0].state, "started": new[0].started}
                afresh["revision"] = new[0].revision
                statements.append(rows.update(table, afresh, "deliberation_id = %s AND state <> 'ended'", self.id))
        return statements

    def _filled(self, event: Event, now: datetime) -> tuple[Slot, dict[str, Any]] | None:
        """What is to be written of a slot that was filled, or that begins afresh."""
        more: dict[str, Any] = {}
        match event:
            case StandInAsked(slot, stand_in):
                return slot, _afresh(slot, stand_in)
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
        if self.retry:
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
