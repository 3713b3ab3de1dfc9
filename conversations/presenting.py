"""Rows of a turn -> what its fragments show."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, tzinfo
from functools import lru_cache
from itertools import groupby
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from conversations import markdown
from conversations.cards import KEPT, CardView, SeatView, outcome_word
from conversations.models import Conversation
from conversations.naming import rewriter, slot_id, turn_id
from conversations.reading import TurnRows
from conversations.showing import Cell, CouncilView, MatrixRow, StageView, StandingView, TurnView
from council import plans, retrying
from council.core import ballots, prompts
from council.core.aliases import letter, rewrite
from council.core.values import CHAIRMAN, Ballot, BallotState, Mode, Outcome, Plan, Slot, Stage
from council.models import Contribution, Council, Deliberation, Provider, Review
from council.retrying import Offer

HUES = 5


def council_view(council: Council) -> CouncilView:
    """A council whose seats are prefetched with their models and providers."""
    kinds = {seat.language_model.provider.kind for seat in council.seats.all()}
    return CouncilView(council.slug, council.name, council.description, Provider.Kind.PRACTICE in kinds)


def by_age(
    conversations: Iterable[Conversation], zone: tzinfo, after: datetime | None = None
) -> list[tuple[str, list[Conversation]]]:
    """The history in groups, by the days of a reader in this zone.

    Where it goes on below a line that was updated `after`, a group that began above has no name here.
    """
    today = timezone.localdate(timezone=zone)

    def age(updated: datetime) -> str:
        days = (today - timezone.localdate(updated, zone)).days
        return _("Today") if days < 1 else _("Yesterday") if days < 2 else _("Last 7 days") if days < 8 else _("Older")

    groups = [(label, list(some)) for label, some in groupby(conversations, lambda each: age(each.updated))]
    if after and groups and groups[0][0] == age(after):
        groups[0] = ("", groups[0][1])
    return groups


def view(rows: TurnRows) -> TurnView:
    """A turn as it shows."""
    deliberation = rows.deliberation
    plan = Plan.from_json(deliberation.plan)
    members = [seat_view(deliberation, plan, index) for index in range(len(plan.members))]
    chairman = seat_view(deliberation, plan, CHAIRMAN)
    watched, offers = _watched(rows), retrying.offers(rows)

    def card(seat: SeatView, stage: Stage, row: Any) -> CardView:
        offer = offers.get(Slot(stage, seat.index))
        return _card(deliberation, plan, seat, stage, row, watched=watched, offer=offer)

    answers = [card(members[row.seat], Stage.ANSWERING, row) for row in rows.answers]
    reviews = [card(members[row.seat], Stage.REVIEWING, row) for row in rows.reviews]
    synthesis = rows.synthesis
    standings = tuple(
        StandingView(each["place"], members[each["seat"]], each["mean"], each["ballots"])
        for each in deliberation.standings
    )
    columns = tuple(each.seat for each in answers if each.earlier or not (each.growing or each.bad))
    matrix = _matrix(members, columns, rows.reviews)
    return TurnView(
        id=turn_id(deliberation.id),
        turn=rows.turn,
        deliberation=deliberation,
        question=plan.question,
        members=members,
        chairman=chairman,
        stages=_stages(deliberation, plan, answers, reviews),
        answers=answers,
        reviews=reviews,
        synthesis=card(chairman, Stage.SYNTHESISING, synthesis) if synthesis else None,
        columns=columns,
        matrix=matrix,
        standings=standings,
        ballots=sum(row.state in {BallotState.VALID, BallotState.REPAIRED} for row in matrix),
        dissent=[members[seat] for seat in dissenting(deliberation, rows.reviews)],
        cost=rows.cost,
        unknown=rows.unknown,
        billed=rows.billed,
        seconds=deliberation.elapsed.total_seconds() if deliberation.elapsed else None,
        watched=watched,
        rewrite=Slot(Stage.SYNTHESISING, CHAIRMAN) in offers,
        copied=rows.copied,
    )


def page(turns: Iterable[TurnRows]) -> dict[str, Any]:
    """What a page of turns shows, and what it says that it has when it looks for more."""
    views = [view(each) for each in turns]
    last = views[-1] if views else None
    return {
        "views": views,
        "last": last,
        "after": last.turn.pk if last else 0,
        "revision": last.deliberation.revision if last else 0,
        "unfinished": bool(last and last.unfinished),
    }


def _watched(rows: TurnRows) -> str:
    """The stage whose cards people watch; empty where none is.

    Where one slot is tried again, what has ended stays in the main place, unless nothing but answers was there. Stages
    that are gone through for the first time are watched as ever, and so is the chairman.
    """
    deliberation = rows.deliberation
    if not deliberation.unfinished:
        return ""
    if deliberation.retry is None:
        return deliberation.stage
    synthesis = rows.synthesis
    if synthesis and synthesis.state != Contribution.State.ENDED:
        return Stage.SYNTHESISING
    going_on = [row for row in [*rows.answers, *rows.reviews] if row.state != Contribution.State.ENDED]
    if any((had := retrying.kept(row)) is None or not had.tried_again for row in going_on):
        return deliberation.stage
    if synthesis and synthesis.text and (retrying.usable(synthesis) or synthesis.outcome == Outcome.CANCELLED):
        return ""
    usable = [row.seat for row in rows.answers if retrying.usable(row)]
    best = deliberation.standings[0]["seat"] in usable if deliberation.standings else len(usable) == 1
    return "" if best and deliberation.mode == Mode.FULL else Stage.ANSWERING


def seat_view(deliberation: Deliberation, plan: Plan, index: int) -> SeatView:
    """A seat of the plan by the names that people read."""
    seat = plan.seat(index)
    model = deliberation.plan["models"][index]
    return SeatView(
        index=index,
        letter="" if index == CHAIRMAN else letter(index),
        name=markdown.clean(seat.name),
        model=markdown.clean(model["name"]),
        practice=model["practice"],
        hue=0 if index == CHAIRMAN else index % HUES + 1,
    )


def _card(
    deliberation: Deliberation, plan: Plan, seat: SeatView, stage: Stage, row: Any, *, watched: str, offer: Offer | None
) -> CardView:
    slot = Slot(stage, seat.index)
    if stand_in := plans.stand_in_of(deliberation.plan, row.stand_in):
        seat = replace(seat, practice=stand_in["practice"])
    growing = row.state != Contribution.State.ENDED
    text = _readable(stage, row.text)
    labels = {} if stage is Stage.ANSWERING else prompts.to_letters(plan, seat.index)
    if growing:
        closed_blocks, tail = markdown.blocks(text, rewriter(plan, slot))
        closed, open_ = "".join(closed_blocks), tail
    else:
        closed, open_ = _finished(text, tuple(labels.items())), ""
    had = retrying.kept(row) if growing else None
    return CardView(
        id=slot_id(deliberation.id, slot),
        seat=seat,
        state=row.state if growing else row.outcome,
        word=row.get_state_display() if growing else outcome_word(row.outcome),
        closed=closed,
        open=open_,
        # That it was stopped is said by its word.
        error=retrying.tried_in_vain(row.error) if row.outcome == Outcome.CANCELLED else row.error,
        growing=growing,
        started=row.started,
        seconds=row.seconds,
        tokens=row.output_tokens or row.tokens,
        cost=row.cost,
        estimated=row.estimated,
        revision=row.revision,
        stage=stage,
        current=watched == stage,
        stand_in=markdown.clean(stand_in["name"]) if stand_in else "",
        retry=offer is not None,
        late=_late(offer) if offer else "",
        earlier=_finished(_readable(stage, had.values["text"]), tuple(labels.items())) if had else "",
        **(_ballot(row) if stage is Stage.REVIEWING else {}),
    )


def _readable(stage: Stage, text: str) -> str:
    return ballots.critique(text) if stage is Stage.REVIEWING else text


def _late(offer: Offer) -> str:
    """What came after a text was written, in words; nothing where nothing did."""
    who = ", ".join(letter(seat) for seat in offer.late)
    if not who:
        return ""
    if offer.reviews:
        words = ngettext(
            "Written without the review of %(who)s, which came later.",
            "Written without the reviews of %(who)s, which came later.",
            len(offer.late),
        )
    else:
        words = ngettext(
            "Written without the answer of %(who)s, which came later.",
            "Written without the answers of %(who)s, which came later.",
            len(offer.late),
        )
    return words % {"who": who}


@lru_cache(maxsize=KEPT)
def _finished(text: str, labels: tuple[tuple[str, str], ...]) -> str:
    """A text that will not change any more, rendered once for everyone who looks."""
    names = dict(labels)
    return markdown.render(text, (lambda source: rewrite(source, names)) if names else None)


def _ballot(row: Review) -> dict[str, str]:
    order = " > ".join(" = ".join(letter(seat) for seat in group) for group in row.ballot)
    return {"ballot_state": row.ballot_state, "ballot_reason": row.ballot_reason, "ballot": order}


def _stages(
    deliberation: Deliberation, plan: Plan, answers: list[CardView], reviews: list[CardView]
) -> list[StageView]:
    total = len(plan.members)
    stops = [(Stage.ANSWERING, _("Answers"), sum(not each.growing for each in answers), total)]
    if deliberation.mode == Mode.FULL:
        stops.append((Stage.REVIEWING, _("Peer review"), sum(not each.growing for each in reviews), total))
        stops.append((Stage.SYNTHESISING, _("Council's answer"), 0, 1))
    order = [stage for stage, *_rest in stops]
    reached = order.index(Stage(deliberation.stage)) if deliberation.stage else -1
    views = []
    for place, (stage, name, done, of) in enumerate(stops):
        if deliberation.unfinished:
            state = "done" if place < reached else "current" if place == max(reached, 0) else "waiting"
        else:
            state = "done" if place <= reached else "skipped"
        views.append(StageView(stage, name, state, done, of))
    return views


def _matrix(members: list[SeatView], columns: tuple[SeatView, ...], reviews: list[Review]) -> tuple[MatrixRow, ...]:
    positions = {row.seat: _positions(row) for row in reviews}
    rows = []
    for row in reviews:
        if row.state != Contribution.State.ENDED:
            continue
        cells = []
        for column in columns:
            place = positions[row.seat].get(column.index)
            others = sorted(each[column.index] for each in positions.values() if column.index in each)
            far = place is not None and len(others) > 2 and abs(place - others[len(others) // 2]) >= 2
            step = None if place is None else 1 + round((place - 1) * 4 / max(1, len(columns) - 1))
            cells.append(Cell("" if place is None else f"{place:g}", step, column.index == row.seat, far))
        review = slot_id(row.deliberation_id, Slot(Stage.REVIEWING, row.seat))
        rows.append(MatrixRow(members[row.seat], tuple(cells), row.ballot_state, row.ballot_reason, review))
    return tuple(rows)


def _positions(row: Review) -> dict[int, float]:
    if row.ballot_state not in {BallotState.VALID, BallotState.REPAIRED}:
        return {}
    return Ballot(tuple(tuple(group) for group in row.ballot), BallotState(row.ballot_state)).positions()


def dissenting(deliberation: Deliberation, reviews: Iterable[Review]) -> list[int]:
    """Seats of the reviewers who put an answer first that is not first in the standings. Without these, nobody."""
    first = {each["seat"] for each in deliberation.standings if each["place"] == 1}
    if not first:
        return []
    return [row.seat for row in reviews if row.ballot and _positions(row) and not first & set(row.ballot[0])]
