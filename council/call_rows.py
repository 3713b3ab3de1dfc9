"""Calls -> rows: one for each attempt at a request, written before it is sent and again when it has ended."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, cast

from django.db import transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Concat
from django.utils import timezone

from council import trail
from council.core.errors import Stale
from council.core.values import CHAIRMAN, Outcome, Slot, Stage, Usage
from council.models import Breaker, Call, CallPolicy, LanguageModel, Provider
from council.plans import ModelSnapshot
from council.providers.calling import Attempt
from council.providers.policy import Policy
from governance import rows
from governance.rows import Result, Statement

TABLE = Call._meta.db_table
_MODEL, _PROVIDER, _BREAKER, _POLICY = (each._meta.db_table for each in (LanguageModel, Provider, Breaker, CallPolicy))

PURPOSES = {
    Stage.ANSWERING: Call.Purpose.ANSWER,
    Stage.REVIEWING: Call.Purpose.REVIEW,
    Stage.SYNTHESISING: Call.Purpose.SYNTHESIS,
}
"""What the calls of a stage are for."""

HANDED_OVER = (
    "Its worker was told to go and another made it again. What it had come to by then may be billed all the same."
)
LOST = "Its worker was lost. Whether the provider carried it out, and bills it, is not known."
DROPPED = "Its worker could not go on with it. Whether the provider carried it out, and bills it, is not known."
UNWRITTEN = "How it ended could not be written down. Whether the provider carried it out, and bills it, is not known."
TOLD = " The provider has said since what it cost."
NEVER_SENT = "Its worker was lost before it was sent."
UNHEARD = "It was never sent: the database was away just then."

UNBILLED = Q(unknown=True) & (Q(cost=None) | Q(estimated=True))
"""Calls that may be billed, and nobody knows how much."""

# Three times in a deliberation people wait for this one. A call goes out at once where its provider has no limit and
# its model's breaker is closed; else its row waits for `go`. A model may have been deleted since the plan was made;
# the lock keeps it until the call's row is there.
_SENDING = f"""
    INSERT INTO {TABLE} (deliberation_id, fence, purpose, seat, language_model_id, model_name, model_id, provider_name,
        queued, sent, state, outcome, error, generation, estimated)
    SELECT %s::uuid, %s, call.purpose, call.seat::smallint, there.id, call.model_name, call.model_id,
        call.provider_name, call.queued,
        CASE WHEN there.free THEN %s END,
        CASE WHEN there.free THEN '{Call.State.SENT}' ELSE '{Call.State.QUEUED}' END, '', '', '', false
    FROM (VALUES {{}}) AS call (place, purpose, seat, model, model_name, model_id, provider_name, queued)
    LEFT JOIN LATERAL (
        SELECT model.id, provider.enabled AND provider.concurrency IS NULL AND breaker.state IS NULL AS free
        FROM {_MODEL} AS model
        JOIN {_PROVIDER} AS provider ON provider.id = model.provider_id
        LEFT JOIN {_BREAKER} AS breaker
            ON breaker.language_model_id = model.id AND breaker.state <> '{Breaker.State.CLOSED}'
        WHERE model.id = call.model
        FOR KEY SHARE OF model
    ) AS there ON true
    ORDER BY call.place
    RETURNING id, sent
"""  # noqa: S608  # own names

_PROVIDERS = f"""
    SELECT {_MODEL}.id, {rows.columns(Provider)}, {rows.columns(CallPolicy)}
    FROM {_MODEL} JOIN {_PROVIDER} ON {_PROVIDER}.id = {_MODEL}.provider_id LEFT JOIN {_POLICY} ON {_POLICY}.id = 1
    WHERE {_MODEL}.id = ANY(%s) AND {_PROVIDER}.enabled
        AND (%s OR {_MODEL}.enabled AND {_MODEL}.approval = '{LanguageModel.Approval.APPROVED}')
"""  # noqa: S608  # own names
_TO_POLICY = 1 + len(Provider._meta.concrete_fields)
_DEFAULT_POLICY = Policy()

_GONE = f"SELECT sent FROM {TABLE} WHERE id = %s AND state = '{Call.State.SENT}'"  # noqa: S608  # own name

# Many deliberations share these rows; one that another is just teaching is left to it.
_LEARN = f"""
    UPDATE {_MODEL} SET tokens_per_byte = learnt.value
    FROM unnest(%s::bigint[], %s::float8[]) AS learnt (model, value),
        (SELECT id FROM {_MODEL} WHERE id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED) AS free
    WHERE {_MODEL}.id = free.id AND free.id = learnt.model
"""  # noqa: S608  # own name


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call that is about to be sent: what for, to which model, and which slot of a plan it may fill.

    `queued`: when it was asked for, where that is not just now.
    """

    purpose: Call.Purpose
    model: ModelSnapshot
    slot: Slot | None = None
    queued: datetime | None = None


class SentCall(NamedTuple):
    """The id of a call's row, the provider as it is now (None: not to be asked any more), and the rules for calls.

    `sent` is None where the way is not free: the provider has a limit, or the model is left alone. `title_of`: the
    deliberation whose title it is to bring, and which may end before it goes out.
    """

    id: int
    provider: Provider | None
    policy: Policy = _DEFAULT_POLICY
    sent: datetime | None = None
    title_of: Any = None


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call ended, and what its usage taught about the model's tokens (None: nothing).

    `probe`: it was to find out whether the model is well again. `slot`: what it was to fill.
    """

    call: int
    attempt: Attempt
    usage: Usage | None
    first_token: datetime | None
    ended: datetime
    model: int
    learnt: float | None
    sent: datetime | None = None
    probe: bool = False
    policy: Policy = _DEFAULT_POLICY
    slot: Slot | None = None

    @property
    def billed(self) -> bool:
        """Nobody knows what came of it, but what it cost: the opposite of UNBILLED."""
        used = self.usage
        return self.attempt.unknown and used is not None and used.cost is not None and not used.estimated


class Bill(NamedTuple):
    """What a provider says that a call used: tokens, where it does, and micro-dollars."""

    input_tokens: int | None
    output_tokens: int | None
    cost: int


class CallBegan(NamedTuple):
    """What is known of a call that goes on: the provider's id of it, and when its first token came."""

    call: int
    generation: str
    first_token: datetime | None


def sending(calls: Sequence[NewCall], deliberation_id: Any = None, fence: int = 0) -> list[Statement]:
    """Two statements that write the rows of calls about to be sent, and look their providers up; none for no calls."""
    if not calls:
        return []
    now = timezone.now()
    given: list[Any] = [deliberation_id, fence, now]
    for place, call in enumerate(calls):
        seat = call.slot.seat if call.slot and call.slot.seat != CHAIRMAN else None
        given += [place, str(call.purpose), seat, call.model.pk, call.model.name, call.model.model_id]
        given += [call.model.provider_name, call.queued or now]
    models = list({call.model.pk for call in calls})
    trying = all(call.purpose == Call.Purpose.TEST for call in calls)  # before anybody approves it
    return [(_sending(len(calls)), given), (_PROVIDERS, [models, trying])]


@cache
def _sending(count: int) -> str:
    return _SENDING.format(", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s)"] * count))


def sent(calls: Sequence[NewCall], results: Sequence[Result]) -> list[SentCall]:
    """What the statements of `sending` brought, in the order of the calls."""
    if not calls:
        return []
    written, found = results
    of_models = rows.instances(Provider, [row[1:_TO_POLICY] for row in found.rows])
    providers = {row[0]: provider for row, provider in zip(found.rows, of_models, strict=True)}
    policy = _DEFAULT_POLICY
    if found.rows and found.rows[0][_TO_POLICY] is not None:
        policy = rows.instances(CallPolicy, [found.rows[0][_TO_POLICY:]])[0].values()
    return [
        SentCall(key, _same(providers.get(call.model.pk), call.model), policy, sent)
        for call, (key, sent) in zip(calls, written.rows, strict=True)
    ]


def _same(provider: Provider | None, model: ModelSnapshot) -> Provider | None:
    """A model that is elsewhere by now is another than the one that was planned, and approved for it."""
    return provider if provider is not None and provider.pk == model.provider else None


def send(call: NewCall, deliberation_id: Any = None, fence: int = 0) -> SentCall:
    """Write the row of one call that is about to be sent and fills no slot: a title's, or one that tries a model."""
    with transaction.atomic():
        (one,) = sent([call], rows.execute(sending([call], deliberation_id, fence)))
        if one.provider is not None:  # else nothing goes out
            rows.execute(_told(one.id, one.sent, deliberation_id))
    return one._replace(title_of=deliberation_id)


def go(call: int, title_of: Any = None) -> datetime:
    """A call whose way was not free goes out now; returns when. Raises Stale where it has been ended meanwhile.

    For whoever wrote the row alone. Where that says already that the call goes out, it says so since a try before this
    one, whose connection broke before anybody heard of it.
    """
    now = timezone.now()
    sent = {"state": Call.State.SENT, "sent": now}
    going = rows.update(TABLE, sent, f"id = %s AND state = '{Call.State.QUEUED}'", call)
    *_, gone = rows.execute([going, *_told(call, now, title_of), (_GONE, [call])])
    if not gone.rows:
        raise Stale
    return cast(datetime, gone.rows[0][0])


def _told(call: int, sent: datetime | None, title_of: Any) -> list[Statement]:
    return trail.titled(title_of, call, sent) if title_of and sent else []


def ending(ends: Sequence[CallEnd]) -> list[Statement]:
    """The statement that writes how calls ended; none for no calls."""
    new = [
        {
            "id": end.call,
            "state": Call.State.ENDED,
            "outcome": end.attempt.outcome,
            "error": end.attempt.error,
            "generation": end.attempt.generation,
            "fault": end.attempt.fault,
            "unknown": end.attempt.unknown,
            "sent": end.sent if end.attempt.sent else None,
            "first_token": end.first_token,
            "ended": end.ended,
            **usage_columns(end.usage),
        }
        for end in ends
    ]
    return [rows.update_each(Call, ["id"], new, f"{TABLE}.state <> 'ended'")] if new else []


def began(calls: Collection[CallBegan]) -> list[Statement]:
    """The statement that writes what is known of calls that go on; none for no calls."""
    new = [{"id": each.call, "generation": each.generation, "first_token": each.first_token} for each in calls]
    return [rows.update_each(Call, ["id"], new, f"{TABLE}.state <> 'ended'")] if new else []


def never_sent(call: SentCall) -> CallEnd:
    """The end of a call that nobody waited for any more when its row was written."""
    attempt = Attempt(outcome=Outcome.CANCELLED, error="Not sent: nobody waited for it any more.")
    return CallEnd(call.id, attempt, None, None, timezone.now(), 0, None)


def unheard(deliberation_id: Any, fence: int, known: Collection[int]) -> Statement:
    """The statement that settles the rows of slots' calls that nobody was told of, and so nobody sent."""
    values = {"state": Call.State.ENDED, "outcome": Outcome.FAILED, "error": UNHEARD, "ended": timezone.now()}
    values["sent"] = None
    open_here = "deliberation_id = %s AND fence = %s AND state <> 'ended' AND purpose <> 'title'"
    return rows.update(TABLE, values, f"{open_here} AND id <> ALL(%s::bigint[])", deliberation_id, fence, list(known))


def lose(left: QuerySet[Call], why: str = LOST) -> list[Call]:
    """Say of calls that were left open what is known of them; `why` is said of those that went out. Returns these."""
    ended = {"state": Call.State.ENDED, "ended": timezone.now()}
    # First: whoever lives still, and has it go meanwhile, finds it ended and does not send it.
    left.filter(state=Call.State.QUEUED).update(outcome=Outcome.FAILED, error=NEVER_SENT, **ended)
    sent = list(left.filter(state=Call.State.SENT))
    left.filter(pk__in=[each.pk for each in sent], state=Call.State.SENT).update(
        outcome=Outcome.UNKNOWN, error=why, unknown=True, **ended
    )
    return sent


def drop(left: QuerySet[Call]) -> None:
    """Say of calls that a worker stopped as it gave up, and did not hand over, that nobody knows what came of them."""
    dropped = left.filter(outcome=Outcome.CANCELLED, sent__isnull=False).exclude(error__startswith=HANDED_OVER)
    dropped.update(outcome=Outcome.UNKNOWN, unknown=True, error=DROPPED)


def hand_over(deliberation_id: Any, fence: int) -> None:
    """Say of calls that a worker dropped because it was told to go that they are made again."""
    dropped = Call.objects.filter(deliberation=deliberation_id, fence=fence, outcome=Outcome.CANCELLED)
    dropped.filter(sent__isnull=False).update(unknown=True, error=HANDED_OVER)


def billed(call: int, bill: Bill) -> bool:
    """Write what the provider says of a call that may be billed. False: that is known already."""
    values = {**bill._asdict(), "estimated": False, "error": Concat(F("error"), Value(TOLD))}
    return bool(Call.objects.filter(UNBILLED, pk=call).update(**values))


def end(end: CallEnd) -> None:
    """Write how one call ended, and what it taught."""
    rows.execute(ending([end]))
    learn([end])


def usage_columns(usage: Usage | None) -> dict[str, Any]:
    """What a call, and what it filled, say of its usage."""
    return {
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "cost": usage and usage.cost,
        "estimated": usage is not None and usage.estimated,
    }


def learn(ends: Iterable[CallEnd]) -> None:
    """Keep what calls taught about their models' tokens."""
    learnt = {end.model: end.learnt for end in ends if end.learnt is not None}
    if learnt:
        models = list(learnt)
        rows.execute([(_LEARN, [models, list(learnt.values()), models])])
