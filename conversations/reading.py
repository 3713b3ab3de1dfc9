"""The rows of turns, with all that belongs to them, in one way to the database and back.

Every viewer reads them each time that something changes, and waits for its next words meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from conversations.models import Conversation, Turn
from council.models import Answer, Call, Deliberation, Review, Synthesis
from council.written import DeliberationRows
from governance import rows
from governance.rows import Result, Statement

_TURN, _DELIBERATION, _CALL = (model._meta.db_table for model in (Turn, Deliberation, Call))

_TURNS = f"""
    SELECT {rows.columns(Turn)}, {rows.columns(Deliberation)}, EXISTS (
        SELECT FROM {_TURN} other WHERE other.deliberation_id = {_DELIBERATION}.id AND other.id <> {_TURN}.id
    )
    FROM {_TURN} JOIN {_DELIBERATION} ON {_DELIBERATION}.id = {_TURN}.deliberation_id
    WHERE {_TURN}.conversation_id = %s AND {_TURN}.id >= %s
    ORDER BY {_TURN}.created, {_TURN}.id
"""  # noqa: S608  # own names

_LACKING = f"""
    deliberation_id IN (
        SELECT {_DELIBERATION}.id
        FROM {_TURN} JOIN {_DELIBERATION} ON {_DELIBERATION}.id = {_TURN}.deliberation_id
        WHERE {_TURN}.conversation_id = %s AND ({_TURN}.id > %s OR {_TURN}.id = %s AND {_DELIBERATION}.revision > %s)
    )
"""  # noqa: S608  # own names

_COSTS = f"""
    SELECT deliberation_id, sum(cost),
        count(*) FILTER (WHERE unknown), count(*) FILTER (WHERE unknown AND cost IS NOT NULL AND NOT estimated)
    FROM {_CALL} WHERE {_LACKING} GROUP BY deliberation_id
"""  # noqa: S608  # own names


@dataclass(slots=True, kw_only=True)
class TurnRows(DeliberationRows):
    """A turn, and its deliberation with what belongs to that. `copied`: another turn has the same one."""

    turn: Turn
    copied: bool = False


def turns(conversation_id: UUID, first: int = 0, revision: int = 0) -> list[TurnRows]:
    """The turns of a conversation from the first on, oldest first.

    Of the first one that is all, without its slots, where its deliberation is no further than the revision.
    """
    return _put_together(rows.execute(_statements(conversation_id, first, revision)))


def look(
    visible: Statement, conversation_id: UUID, first: int, revision: int
) -> tuple[Conversation, list[TurnRows]] | None:
    """The conversation, where `visible` still finds it, and its `turns`."""
    found, *others = rows.execute([visible, *_statements(conversation_id, first, revision)])
    if not found.rows:
        return None
    return rows.instances(Conversation, found.rows)[0], _put_together(others)


def of_deliberation(conversation_id: UUID, deliberation_id: UUID) -> TurnRows | None:
    """The turn of one deliberation; None: it has been removed."""
    found = Turn.objects.filter(conversation=conversation_id, deliberation=deliberation_id)
    turn = found.values_list("pk", flat=True).first()
    return next(iter(turns(conversation_id, turn)), None) if turn else None


def _statements(conversation_id: UUID, first: int, revision: int) -> list[Statement]:
    lacking = (conversation_id, first, first, revision)
    in_order = f"WHERE {_LACKING} ORDER BY seat"
    return [
        (_TURNS, (conversation_id, first)),
        rows.select(Answer, in_order, *lacking),
        rows.select(Review, in_order, *lacking),
        rows.select(Synthesis, f"WHERE {_LACKING}", *lacking),
        (_COSTS, lacking),
    ]


def _put_together(results: Sequence[Result]) -> list[TurnRows]:
    found, answers, reviews, syntheses, costs = results
    width = len(Turn._meta.concrete_fields)
    of_turns = rows.instances(Turn, [row[:width] for row in found.rows])
    deliberations = rows.instances(Deliberation, [row[width:-1] for row in found.rows])
    by_deliberation = {
        deliberation.pk: TurnRows(turn=turn, deliberation=deliberation, copied=row[-1])
        for turn, deliberation, row in zip(of_turns, deliberations, found.rows, strict=True)
    }
    # A turn that came between two of these statements is there the next time.
    for answer in rows.instances(Answer, answers.rows):
        if one := by_deliberation.get(answer.deliberation_id):
            one.answers.append(answer)
    for review in rows.instances(Review, reviews.rows):
        if one := by_deliberation.get(review.deliberation_id):
            one.reviews.append(review)
    for synthesis in rows.instances(Synthesis, syntheses.rows):
        if one := by_deliberation.get(synthesis.deliberation_id):
            one.synthesis = synthesis
    for deliberation_id, cost, unknown, billed in costs.rows:
        if one := by_deliberation.get(deliberation_id):
            one.cost = None if cost is None else int(cost)
            one.unknown, one.billed = unknown, billed
    return list(by_deliberation.values())
