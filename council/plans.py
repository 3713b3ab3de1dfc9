"""From a roster to a plan: the snapshot that a deliberation follows, whatever happens to the roster later."""

import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from django.db.models import Model

from council import capabilities
from council.core import aliases, prompts
from council.core.errors import CouncilError
from council.core.values import CHAIRMAN, Exchange, Mode, Plan, Seat, known_fields
from council.models import Council, Deliberation, Fallback, LanguageModel, Provider
from council.models import Seat as SeatRow
from governance import rows

M = TypeVar("M", bound=Model)

MEMBERS_AT_LEAST = 2

# Servers of these kinds turn a schema into a grammar, which cannot forbid a label to come twice.
_GRAMMAR_KINDS = {Provider.Kind.COMPATIBLE, Provider.Kind.PRACTICE}


def _of_council(model: type[Model]) -> str:
    """The SELECT of a council's rows that have a place and a language model, with these and their providers."""
    table, models, providers = (each._meta.db_table for each in (model, LanguageModel, Provider))
    return f"""
        SELECT {rows.columns(model)}, {rows.columns(LanguageModel)}, {rows.columns(Provider)}
        FROM {table}
        JOIN {models} ON {models}.id = {table}.language_model_id
        JOIN {providers} ON {providers}.id = {models}.provider_id
        WHERE {table}.council_id = (SELECT id FROM {Council._meta.db_table} WHERE slug = %s)
        ORDER BY {table}.position, {table}.id
    """  # noqa: S608  # own names


_SEATS, _FALLBACKS = _of_council(SeatRow), _of_council(Fallback)

_USABLE = rows.prepared(
    lambda person, slug: Council.objects.usable_by(SimpleNamespace(pk=person)).filter(slug=slug), -1, "a slug"
)


class NotReady(CouncilError):
    """The council cannot be asked just now."""


class ModelSnapshot(NamedTuple):
    """What a call needs to know of a model. The provider's address and key are looked up when the call is made.

    Whatever comes to it later needs a default: plans that were stored before it have none.
    """

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
    takes = capabilities.of(model)
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
        temperature=takes.temperature,
        usage_in_stream=takes.usage_in_stream,
        max_tokens_field=takes.max_tokens_field,
        effort=model.effort,
        first_token_seconds=takes.first_token_seconds,
        between_tokens_seconds=takes.between_tokens_seconds,
        call_seconds=takes.call_seconds,
    )


class StandIn(NamedTuple):
    """A fallback model in a seat: its place among the plan's, and the seat as it is with this model."""

    index: int
    model: ModelSnapshot
    seat: Seat


def line_up(council: Council) -> tuple[list[SeatRow], SeatRow]:
    """The members that can be asked, in order, and the chairman. Raises NotReady with what is missing."""
    seats = council.read_seats
    if seats is None:
        seats = _read(SeatRow, *rows.execute([(_SEATS, [council.slug])]))
    members = [seat for seat in seats if seat.role == SeatRow.Role.MEMBER and seat.language_model.usable]
    chairmen = [seat for seat in seats if seat.role == SeatRow.Role.CHAIRMAN and seat.language_model.usable]
    if len(members) < MEMBERS_AT_LEAST:
        raise NotReady(f"“{council.name}” needs at least two members whose models are in use. Ask an administrator.")
    if not chairmen:
        raise NotReady(f"“{council.name}” has no chairman whose model is in use. Ask an administrator.")
    return members, chairmen[0]


def _fallbacks(council: Council) -> list[Fallback]:
    """The council's fallback models that can be asked, in order."""
    found = council.read_fallbacks
    if found is None:
        found = _read(Fallback, *rows.execute([(_FALLBACKS, [council.slug])]))
    return [each for each in found if each.language_model.usable]


def usable(person: Any, slug: str) -> Council | None:
    """The council of this name, if this person may use it, read together with its line-up: somebody waits."""
    found, seats, others = rows.execute([_USABLE(person, slug), (_SEATS, [slug]), (_FALLBACKS, [slug])])
    council = next(iter(rows.instances(Council, found.rows)), None)
    if council:
        council.read_seats, council.read_fallbacks = _read(SeatRow, seats), _read(Fallback, others)
    return council


def _read(model: type[M], found: rows.Result) -> list[M]:
    """What a SELECT of `_of_council` brought."""
    to_model = len(model._meta.concrete_fields)
    to_provider = to_model + len(LanguageModel._meta.concrete_fields)
    read: list[Any] = []
    for row in found.rows:
        read += rows.instances(model, [row[:to_model]])
        (read[-1].language_model,) = rows.instances(LanguageModel, [row[to_model:to_provider]])
        (read[-1].language_model.provider,) = rows.instances(Provider, [row[to_provider:]])
    return read


def new_deliberation(
    scope: UUID, council: Council, question: str, history: Sequence[Exchange], mode: Mode
) -> Deliberation:
    """An unsaved deliberation with its plan. Raises NotReady where the council cannot be asked."""
    rng = random.Random(secrets.randbits(256))  # noqa: S311  # its seed is the system's
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
        quorum=council.quorum,
        grace_seconds=council.grace_seconds,
        stage_seconds=council.stage_seconds,
    )
    snapshots = [snapshot(row.language_model) for row in [*members, chairman]]
    return Deliberation(
        scope=scope,
        council=council,
        council_name=council.name,
        mode=mode,
        practice=any(each.practice for each in snapshots),
        plan={
            **plan.as_json(),
            "models": [each._asdict() for each in snapshots],
            "fallbacks": [
                {
                    "role": str(each.role),
                    "model": snapshot(each.language_model)._asdict(),
                    "fit": _fit(each.language_model, council),
                }
                for each in _fallbacks(council)
            ],
        },
    )


def model_of(stored: dict[str, Any], seat: int) -> ModelSnapshot:
    """The snapshot of a seat's model in a stored plan; the chairman's is the last."""
    return _snapshot_in(stored["models"][seat])


def _snapshot_in(stored: dict[str, Any]) -> ModelSnapshot:
    return ModelSnapshot(**known_fields(ModelSnapshot, stored))


def stand_ins(stored: dict[str, Any], seat: Seat) -> Iterator[StandIn]:
    """The fallback models of a stored plan for one seat, in order; its own model is none."""
    role = SeatRow.Role.CHAIRMAN if seat.index == CHAIRMAN else SeatRow.Role.MEMBER
    own = model_of(stored, seat.index).pk
    for index, each in enumerate(stored.get("fallbacks", ())):
        if each["role"] == role and each["model"]["pk"] != own:
            yield StandIn(index, _snapshot_in(each["model"]), replace(seat, **known_fields(Seat, each["fit"])))


def stand_in_of(stored: dict[str, Any], index: int | None) -> dict[str, Any] | None:
    """The snapshot of a stored plan's fallback model; None for None."""
    return None if index is None else stored["fallbacks"][index]["model"]


def _seat(row: SeatRow, index: int, council: Council) -> Seat:
    return Seat(
        index=index,
        name=str(row),
        system_prompt=row.system_prompt,
        temperature=row.temperature,
        **_fit(row.language_model, council),
    )


def _fit(model: LanguageModel, council: Council) -> dict[str, Any]:
    """What of a seat depends on its model."""
    # A model with little room still needs most of it for reading.
    most = min(model.max_output or model.context, model.context // 3)
    return {
        "context": model.context,
        "answer_tokens": min(council.answer_tokens, most),
        "review_tokens": min(council.review_tokens, most),
        "synthesis_tokens": min(council.synthesis_tokens, most),
        "json_schema": capabilities.of(model).json_schema,
        "enumerate_ballots": model.provider.kind in _GRAMMAR_KINDS,
        "tokens_per_byte": model.tokens_per_byte,
    }
