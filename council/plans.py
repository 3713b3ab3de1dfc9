"""From a roster to a plan: the snapshot that a deliberation follows, whatever happens to the roster later."""

import random
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from council.core import aliases, prompts
from council.core.errors import CouncilError
from council.core.values import CHAIRMAN, Exchange, Mode, Plan, Seat
from council.models import Council, Deliberation, LanguageModel, Provider
from council.models import Seat as SeatRow

MEMBERS_AT_LEAST = 2

# Servers of these kinds turn a schema into a grammar, which cannot forbid a label to come twice.
_GRAMMAR_KINDS = {Provider.Kind.COMPATIBLE, Provider.Kind.PRACTICE}


class NotReady(CouncilError):
    """The council cannot be asked just now."""


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """What a call needs to know of a model. The provider's address and key are looked up when the call is made."""

    pk: int
    provider: int
    provider_name: str
    kind: str
    model_id: str
    name: str
    practice: bool
    input_price: int | None
    output_price: int | None
    temperature: bool
    usage_in_stream: bool
    max_tokens_field: str
    effort: str
    first_token_seconds: int
    between_tokens_seconds: int
    call_seconds: int


def snapshot(model: LanguageModel) -> ModelSnapshot:
    """The model as it is now."""
    return ModelSnapshot(
        pk=model.pk,
        provider=model.provider_id,
        provider_name=model.provider.name,
        kind=model.provider.kind,
        model_id=model.model_id,
        name=model.name,
        practice=model.provider.kind == Provider.Kind.PRACTICE,
        input_price=model.input_price,
        output_price=model.output_price,
        temperature=model.temperature,
        usage_in_stream=model.usage_in_stream,
        max_tokens_field=str(model.max_tokens_field),  # a fresh row has an enum there, which is no key of JSON
        effort=model.effort,
        first_token_seconds=model.first_token_seconds,
        between_tokens_seconds=model.between_tokens_seconds,
        call_seconds=model.call_seconds,
    )


def line_up(council: Council) -> tuple[list[SeatRow], SeatRow]:
    """The members that can be asked, in order, and the chairman. Raises NotReady with what is missing."""
    seats = list(council.seats.select_related("language_model__provider"))
    members = [seat for seat in seats if seat.role == SeatRow.Role.MEMBER and seat.language_model.usable]
    chairmen = [seat for seat in seats if seat.role == SeatRow.Role.CHAIRMAN and seat.language_model.usable]
    if len(members) < MEMBERS_AT_LEAST:
        raise NotReady(f"“{council.name}” needs at least two members whose models are enabled. Ask an administrator.")
    if not chairmen:
        raise NotReady(f"“{council.name}” has no chairman whose model is enabled. Ask an administrator.")
    return members, chairmen[0]


def new_deliberation(
    scope: UUID, council: Council, question: str, history: Sequence[Exchange], mode: Mode
) -> Deliberation:
    """An unsaved deliberation with its plan. Raises NotReady where the council cannot be asked."""
    rng = random.SystemRandom()
    members, chairman = line_up(council)
    avoid = question + "".join(each.question + each.answer for each in history)
    plan = Plan(
        question=question,
        history=tuple(history),
        mode=mode,
        members=tuple(_seat(row, index, council) for index, row in enumerate(members)),
        chairman=_seat(chairman, CHAIRMAN, council),
        orders=tuple(aliases.draw_order(len(members), rng, avoid) for _ in members),
        common=aliases.draw_labels(len(members), rng, avoid),
        nonce=secrets.token_hex(4),
        prompts=prompts.VERSION,
    )
    snapshots = [snapshot(row.language_model) for row in [*members, chairman]]
    return Deliberation(
        scope=scope,
        council=council,
        council_name=council.name,
        mode=mode,
        practice=any(each.practice for each in snapshots),
        plan={**plan.as_json(), "models": [asdict(each) for each in snapshots]},
    )


def model_of(stored: dict[str, Any], seat: int) -> ModelSnapshot:
    """The snapshot of a seat's model in a stored plan; the chairman's is the last."""
    return ModelSnapshot(**stored["models"][seat])


def _seat(row: SeatRow, index: int, council: Council) -> Seat:
    model = row.language_model
    # A model with little room still needs most of it for reading.
    most = min(model.max_output or model.context, model.context // 3)
    return Seat(
        index=index,
        name=str(row),
        context=model.context,
        answer_tokens=min(council.answer_tokens, most),
        review_tokens=min(council.review_tokens, most),
        synthesis_tokens=min(council.synthesis_tokens, most),
        system_prompt=row.system_prompt,
        temperature=row.temperature,
        json_schema=model.json_schema,
        enumerate_ballots=model.provider.kind in _GRAMMAR_KINDS,
        tokens_per_byte=model.tokens_per_byte,
    )
