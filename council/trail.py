"""Deliberations in the audit trail: what is asked of which council, and which models saw it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from council.models import Call, Deliberation
from governance import audit
from governance.audit import Kind, Thing
from governance.rows import Statement

DELIBERATION = "deliberation"

# By the model's id at its provider as the call had it, whatever became of the model since: names need not be unique.
# A call that an earlier release wrote has the name alone.
_SEEN = """
    jsonb_build_object('provider', call.provider_name, 'model', coalesce(nullif(call.model_id, ''), call.model_name))
"""
# Calls of which a part may have gone out count as seen.
_ENDED = f"""
    jsonb_build_object(
        'status', %s::text, 'seconds', %s::numeric, 'calls', count(*),
        'unknown', count(*) FILTER (WHERE call.unknown), 'cost', sum(call.cost),
        'seen by', coalesce(jsonb_agg(DISTINCT {_SEEN}) FILTER (WHERE call.sent IS NOT NULL), '[]')
    )
"""
_CALLS = f"{Call._meta.db_table} AS call"
# Whoever ends the deliberation and whoever sends the call wait for each other here: either the end counts the call, or
# the call finds the deliberation ended.
_HOLD = f"SELECT 1 FROM {Deliberation._meta.db_table} WHERE id = %s FOR SHARE"  # noqa: S608  # own name
_SENT_LATER = f"""
    {_CALLS} JOIN {Deliberation._meta.db_table} AS deliberation ON deliberation.id = call.deliberation_id
    WHERE call.id = %s AND call.sent = %s AND deliberation.finished IS NOT NULL
"""


def thing(deliberation_id: Any) -> Thing:
    """A deliberation as what something was done to."""
    return Thing(DELIBERATION, deliberation_id)


def asked(actor: UUID, deliberation: Deliberation, council: str, conversation: Any, by: str = "") -> Statement:
    """The statement that tells of a question: by its digest, and by whom it may be seen.

    `by`: what has asked in the place of the person, who did nothing then.
    """
    whose = {"by": by, "for": actor} if by else {}
    plan = deliberation.plan
    models = [*plan["models"], *(each["model"] for each in plan["fallbacks"])]
    named = dict.fromkeys((each["provider_name"], each["model_id"]) for each in models)
    return audit.event(
        Kind.ASKED,
        None if by else actor,
        thing(deliberation.pk),
        conversation=conversation,
        council=council,
        mode=deliberation.mode,
        question=audit.digest(deliberation.question),
        earlier=len(plan["history"]),
        models=[{"provider": provider, "model": model} for provider, model in named],
        **whose,
    )


def ended(deliberation_id: Any, status: str, seconds: float) -> Statement:
    """The statement that tells how one ended, what it cost, and which models of which providers saw a part of it."""
    of_it = f"{_CALLS} WHERE call.deliberation_id = %s"
    return audit.event_of(
        Kind.ENDED, thing(deliberation_id), _ENDED, of_it, str(status), round(seconds, 3), deliberation_id
    )


def titled(deliberation_id: Any, call: int, sent: datetime) -> list[Statement]:
    """The statements that tell of a title's call that goes out once its deliberation has ended, which cannot name it.

    To be carried out in the transaction that writes the call as sent, after it; of one that goes out before, or whose
    row has another moment, nothing.
    """
    seen = f"jsonb_build_object('seen by', jsonb_build_array({_SEEN}))"
    return [
        (_HOLD, [deliberation_id]),
        audit.event_of(Kind.TITLED, thing(deliberation_id), seen, _SENT_LATER, call, sent),
    ]
