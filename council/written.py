"""The rows of a deliberation as its writer knows them: read once, and then kept in step with all that it writes."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

from django.db.models import Model

from council.call_rows import CallEnd
from council.core.values import CHAIRMAN, Slot, Stage
from council.models import Answer, Contribution, Deliberation, Review, Synthesis

MODELS: dict[Stage, type[Contribution]] = {
    Stage.ANSWERING: Answer,
    Stage.REVIEWING: Review,
    Stage.SYNTHESISING: Synthesis,
}


@dataclass(slots=True, kw_only=True)
class DeliberationRows:
    """A deliberation and what its slots hold, members in their order. `cost`: of all its calls, in micro-dollars.

    `unknown`: how many of them went out without its becoming known what came of them; `billed`: those of these whose
    cost the provider told, which is in `cost`.
    """

    deliberation: Deliberation
    answers: list[Answer] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    synthesis: Synthesis | None = None
    cost: int | None = None
    unknown: int = 0
    billed: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What one write does, as one revision.

    `values`: of the deliberation, by column. `begun`: new rows of slots, a list for each stage that begins. `slots`:
    what is written of slots that have not ended. `ends`: how calls ended.
    """

    values: Mapping[str, Any]
    begun: Sequence[Sequence[Contribution]] = ()
    slots: Sequence[tuple[Slot, Mapping[str, Any]]] = ()
    ends: Sequence[CallEnd] = ()

    @property
    def revision(self) -> int:
        """Of the deliberation, once this is written."""
        return int(self.values["revision"])


Rows = TypeVar("Rows", bound=DeliberationRows)


def after(rows: Rows, change: Change) -> Rows:
    """The rows once the change is written. Those that it leaves alone are shared, and none is altered."""
    held = _by_slot(rows)
    for begun in change.begun:
        stage = next(stage for stage, model in MODELS.items() if isinstance(begun[0], model))
        new = {Slot(stage, getattr(row, "seat", CHAIRMAN)): row for row in begun}
        for slot in new.keys() & held.keys():
            if held[slot].earlier is not None:
                new[slot].earlier, new[slot].started = held[slot].earlier, held[slot].started
        held = {slot: row for slot, row in held.items() if slot.stage is not stage or _ended(row)}
        held = {**new, **held}
    for slot, values in change.slots:
        if not _ended(held[slot]):
            held[slot] = with_values(held[slot], {**values, "revision": change.revision})
    in_order = sorted(held.items(), key=lambda each: each[0].seat)
    return replace(
        with_calls(rows, change.ends),
        deliberation=with_values(rows.deliberation, change.values),
        answers=[row for slot, row in in_order if slot.stage is Stage.ANSWERING],
        reviews=[row for slot, row in in_order if slot.stage is Stage.REVIEWING],
        synthesis=held.get(Slot(Stage.SYNTHESISING, CHAIRMAN)),
    )


def with_calls(rows: Rows, ends: Sequence[CallEnd]) -> Rows:
    """The rows with the figures of calls that have ended since."""
    known = [end.usage.cost for end in ends if end.usage and end.usage.cost is not None]
    return replace(
        rows,
        cost=sum(known, rows.cost or 0) if known else rows.cost,
        unknown=rows.unknown + sum(end.attempt.unknown for end in ends),
        billed=rows.billed + sum(end.billed for end in ends),
    )


def in_rows(deliberation: Deliberation, slots: Mapping[Slot, Any]) -> DeliberationRows:
    """A deliberation and its slots."""
    in_order = sorted(slots.items(), key=lambda each: each[0].seat)
    return DeliberationRows(
        deliberation=deliberation,
        answers=[row for slot, row in in_order if slot.stage is Stage.ANSWERING],
        reviews=[row for slot, row in in_order if slot.stage is Stage.REVIEWING],
        synthesis=slots.get(Slot(Stage.SYNTHESISING, CHAIRMAN)),
    )


def _by_slot(rows: DeliberationRows) -> dict[Slot, Any]:
    held: dict[Slot, Any] = {Slot(Stage.ANSWERING, row.seat): row for row in rows.answers}
    held |= {Slot(Stage.REVIEWING, row.seat): row for row in rows.reviews}
    if rows.synthesis:
        held[Slot(Stage.SYNTHESISING, CHAIRMAN)] = rows.synthesis
    return held


def _ended(row: Contribution) -> bool:
    return row.state == Contribution.State.ENDED


M = TypeVar("M", bound=Model)


def with_values(row: M, values: Mapping[str, Any]) -> M:
    """A copy of the row that has these values, by column."""
    new = copy(row)
    for name, value in values.items():
        setattr(new, name, value.value if isinstance(value, Enum) else value)
    return new
