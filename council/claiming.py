"""Whose a deliberation is: begun by this process, taken over from a worker that was lost, opened again for one slot.

Each of these raises its attempt, which is the fence of `council.record`: whoever had the deliberation before can write
nothing any more. Everything else that is written of a deliberation is written there.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from django.db import transaction
from django.db.models import F, Model
from django.utils import timezone

from council import call_rows, measuring, retrying
from council.call_rows import PURPOSES
from council.core.errors import NotOffered, Stale, UnderWay
from council.core.values import CHAIRMAN, Outcome, Plan, Reply, Slot, Stage, Status
from council.models import Answer, Contribution, Deliberation
from council.plans import ModelSnapshot
from council.record import Hold, Recorder
from council.written import MODELS, in_rows

ATTEMPTS = 3

_STAGES = {purpose: stage for stage, purpose in PURPOSES.items()}

# In one statement, and so in one way to the database and back: a person waits.
_TAKE = f"""
    UPDATE {Deliberation._meta.db_table}
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
class Claim(Hold):
    """A deliberation that this worker now carries out.

    `filled`: what earlier attempts brought. `lost`: how many calls went out of which nobody knows what came of them;
    `begun`: what had come of those that nobody ended. `standing`: which fallback model was asked last in a
    seat's place.
    """

    plan: Plan
    stored: dict[str, Any]
    filled: dict[Slot, Reply]
    lost: dict[Asked, int] = field(default_factory=dict)
    begun: dict[Asked, str] = field(default_factory=dict)
    standing: dict[Slot, int] = field(default_factory=dict)


def claim_new(deliberation: Deliberation) -> Claim:
    """Take a deliberation that is not yet stored: it is stored as one that this process carries out."""
    deliberation.status = Deliberation.Status.RUNNING
    deliberation.attempt = deliberation.revision = deliberation.layout = 1
    deliberation.started = timezone.now()
    return _claim(deliberation, {})


def claim(deliberation_id: Any) -> Claim | None:
    """Take an unfinished deliberation over from whoever had it. None: it is over.

    One that was tried too often, or that somebody stopped before it went on, is ended here. Attempts that ended because
    a worker was told to go tell nothing against it.
    """
    row = next(iter(Deliberation.objects.raw(_TAKE, {"id": deliberation_id})), None)
    if row is None:
        return None
    slots: dict[Slot, Contribution] = {}
    if row.attempt > 1:
        left = row.calls.filter(fence__lt=row.attempt)
        measuring.calls_lost(call_rows.lose(left))
        if not row.cancel_requested:  # else somebody stopped them
            call_rows.drop(left.filter(fence__gt=_tried_again(row)))
        slots = _slots(row)
    kept = {slot: had for slot, each in slots.items() if (had := retrying.kept(each))}
    # Before its plan is read: where that is what nobody survives, this ends it.
    hold = Hold(row.id, row.attempt, row.revision, retry=row.retry, kept=kept)
    if row.attempt - _tried_again(row) > ATTEMPTS + row.handed_over:
        Recorder(hold).stop([], Status.FAILED, "It was begun three times and never came to its end.")
        return None
    if row.cancel_requested:
        Recorder(hold).stop([], Status.CANCELLED, "Stopped. What had come by then is kept.")
        return None
    lost, begun = _lost(row) if row.attempt > 1 else ({}, {})
    filled = {slot: retrying.reply_of(each) for slot, each in slots.items() if each.state == Contribution.State.ENDED}
    standing = {slot: each.stand_in for slot, each in slots.items() if slot not in filled and each.stand_in is not None}
    return replace(_claim(row, filled), lost=lost, begun=begun, standing=standing, kept=kept)


def hand_over(claim: Claim) -> None:
    """Pass it on: this worker was told to go, and has dropped its calls. Raises Stale where another has it already."""
    fenced = Deliberation.objects.filter(pk=claim.id, attempt=claim.attempt, status__in=Deliberation.UNFINISHED)
    with transaction.atomic():
        if not fenced.update(handed_over=F("handed_over") + 1):
            raise Stale
        call_rows.hand_over(claim.id, claim.attempt)


def holds(claim: Claim) -> bool:
    """Whether nobody has taken the deliberation over since."""
    return Deliberation.objects.filter(pk=claim.id, attempt=claim.attempt).exists()


def _tried_again(row: Deliberation) -> int:
    """The attempt with which a slot of it was last opened again; 0: it never was."""
    return int(row.retry["attempt"]) if row.retry else 0


def _lost(row: Deliberation) -> tuple[dict[Asked, int], dict[Asked, str]]:
    """How often each model was asked without its becoming known what came of it, and the last text of each."""
    # Whoever tries a slot again by hand does it knowing what became of it before.
    calls = row.calls.filter(unknown=True, purpose__in=_STAGES, fence__gt=_tried_again(row)).order_by("pk")
    # What a worker dropped because it was told to go is made again as often as that happens.
    calls = calls.exclude(outcome=Outcome.CANCELLED)
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
            handed_over=0,
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
