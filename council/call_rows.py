"""Calls -> rows: one for each attempt at a request, written before it is sent and again when it has ended."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.utils import timezone

from council import rows
from council.core.values import CHAIRMAN, Slot, Usage
from council.models import Call, LanguageModel, Provider
from council.plans import ModelSnapshot
from council.providers.calling import Attempt
from council.rows import Result, Statement

TABLE = Call._meta.db_table
_MODEL = LanguageModel._meta.db_table

# A model may have been deleted since the plan was made; the lock keeps it until the call's row is there.
_IF_STILL_THERE = f"(SELECT id FROM {_MODEL} WHERE id = %s FOR KEY SHARE)"  # noqa: S608  # own name

# Three times in a deliberation people wait for this one.
_SENDING = f"""
    INSERT INTO {TABLE} (deliberation_id, fence, purpose, seat, language_model_id, model_name, provider_name, sent,
        state, outcome, error, generation, estimated)
    VALUES %s RETURNING id
"""  # noqa: S608  # own name
_ROW = f"(%s, %s, %s, %s, {_IF_STILL_THERE}, %s, %s, %s, '{Call.State.SENT}', '', '', '', false)"

# Many deliberations share these rows; one that another is just teaching is left to it.
_LEARN = f"""
    UPDATE {_MODEL} SET tokens_per_byte = learnt.value
    FROM unnest(%s::bigint[], %s::float8[]) AS learnt (model, value),
        (SELECT id FROM {_MODEL} WHERE id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED) AS free
    WHERE {_MODEL}.id = free.id AND free.id = learnt.model
"""  # noqa: S608  # own name


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


def sending(calls: Sequence[NewCall], deliberation_id: Any = None, fence: int = 0) -> list[Statement]:
    """Two statements that write the rows of calls about to be sent, and look their providers up; none for no calls."""
    if not calls:
        return []
    now = timezone.now()
    given: list[Any] = []
    for call in calls:
        seat = call.slot.seat if call.slot and call.slot.seat != CHAIRMAN else None
        given += [deliberation_id, fence, str(call.purpose), seat]
        given += [call.model.pk, call.model.name, call.model.provider_name, now]
    providers = list({call.model.provider for call in calls})
    return [
        (_SENDING % ", ".join([_ROW] * len(calls)), given),
        rows.select(Provider, "WHERE id = ANY(%s) AND enabled", providers),
    ]


def sent(calls: Sequence[NewCall], results: Sequence[Result]) -> list[SentCall]:
    """What the statements of `sending` brought, in the order of the calls."""
    if not calls:
        return []
    written, found = results
    providers = {each.pk: each for each in rows.instances(Provider, found.rows)}
    return [SentCall(key, providers.get(call.model.provider)) for call, (key,) in zip(calls, written.rows, strict=True)]


def send(call: NewCall, deliberation_id: Any = None, fence: int = 0) -> SentCall:
    """Write the row of one call that is about to be sent."""
    (one,) = sent([call], rows.execute(sending([call], deliberation_id, fence)))
    return one


def ending(ends: Sequence[CallEnd]) -> list[Statement]:
    """The statement that writes how calls ended; none for no calls."""
    new = [
        {
            "id": end.call,
            "state": Call.State.ENDED,
            "outcome": end.attempt.outcome,
            "error": end.attempt.error,
            "generation": end.attempt.generation,
            "first_token": end.first_token,
            "ended": end.ended,
            **usage_columns(end.usage),
        }
        for end in ends
    ]
    return [rows.update_each(Call, ["id"], new, f"{TABLE}.state = 'sent'")] if new else []


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
