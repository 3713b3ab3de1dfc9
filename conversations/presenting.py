"""Rows of a turn -> what its fragments show. Plain values; the templates decide nothing but wording and place."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db.models import QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from conversations import markdown
from conversations.models import Turn
from conversations.naming import rewriter, slot_id
from council.core import ballots, prompts
from council.core.aliases import letter, rewrite
from council.core.values import CHAIRMAN, Ballot, BallotState, Mode, Outcome, Plan, Slot, Stage, Status
from council.models import Contribution, Deliberation, Review

HUES = 5


def outcome_word(outcome: str) -> str:
    """How an ended call is called on the page."""
    return {
        Outcome.COMPLETE: _("done"),
        Outcome.TRUNCATED: _("cut off"),
        Outcome.REFUSED: _("declined"),
        Outcome.FILTERED: _("filtered"),
        Outcome.EMPTY: _("no text"),
        Outcome.FAILED: _("failed"),
        Outcome.TIMED_OUT: _("too slow"),
        Outcome.CANCELLED: _("stopped"),
    }[Outcome(outcome)]


@dataclass(frozen=True, slots=True)
class SeatView:
    """A seat by name. `hue` is 1 to 5, 0 for the chairman."""

    index: int
    letter: str
    name: str
    model: str
    practice: bool
    hue: int


@dataclass(frozen=True, slots=True)
class CardView:
    """One contribution: an answer, a review, or the council's answer.

    `state` is waiting, thinking, writing, or the outcome; `word` is that for people. While it grows, `closed` is HTML
    that will not change and `open` the rest; once it has ended, `closed` is all of it.
    """

    id: str
    seat: SeatView
    state: str
    word: str
    closed: str
    open: str
    error: str
    growing: bool
    started: datetime | None
    seconds: float | None
    tokens: int
    cost: int | None
    estimated: bool
    revision: int
    ballot_state: str = ""
    ballot_reason: str = ""
    ballot: str = ""

    @property
    def good(self) -> bool:
        """It ended well."""
        return self.state == Outcome.COMPLETE

    @property
    def bad(self) -> bool:
        """It ended without a text that counts."""
        return not self.growing and self.state not in {Outcome.COMPLETE, Outcome.TRUNCATED}


@dataclass(frozen=True, slots=True)
class StageView:
    """A stop on the rail: done, current, waiting or skipped; how many of how many."""

    stage: str
    name: str
    state: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One reviewer's place for one answer. `step` 1 (best) to 5; None: not ranked. `far`: two or more from the median."""

    place: str
    step: int | None
    own: bool
    far: bool


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One reviewer's ballot over all answers."""

    reviewer: SeatView
    cells: list[Cell]
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class StandingView:
    """A row of the standings."""

    place: int
    seat: SeatView
    mean: float
    ballots: int


@dataclass(frozen=True, slots=True)
class TurnView:
    """Everything that a turn shows."""

    id: str
    turn: Turn
    deliberation: Deliberation
    question: str
    members: list[SeatView]
    chairman: SeatView
    stages: list[StageView]
    answers: list[CardView]
    reviews: list[CardView]
    synthesis: CardView | None
    columns: list[SeatView]
    matrix: list[MatrixRow]
    standings: list[StandingView]
    ballots: int
    dissent: list[SeatView]
    cost: int | None
    seconds: float | None

    @property
    def unfinished(self) -> bool:
        """The deliberation waits or goes on."""
        return self.deliberation.unfinished

    @property
    def full(self) -> bool:
        """The council goes through all stages."""
        return self.deliberation.mode == Mode.FULL

    @property
    def top(self) -> StandingView | None:
        """The answer that came first; None where several share the first place, or nobody voted."""
        first = [each for each in self.standings if each.place == 1]
        return first[0] if len(first) == 1 else None

    @property
    def best(self) -> CardView | None:
        """What stands in for the council's answer where the chairman wrote none: the top-ranked answer."""
        usable = [each for each in self.answers if not each.growing and not each.bad]
        if self.standings:
            leader = self.standings[0].seat.index
            return next((each for each in usable if each.seat.index == leader), None)
        return usable[0] if len(usable) == 1 else None

    @property
    def failed_synthesis(self) -> bool:
        """The chairman was asked and wrote nothing that counts."""
        return self.synthesis is not None and self.synthesis.bad


def turns_of(turns: QuerySet[Turn]) -> list[TurnView]:
    """The turns of a conversation, oldest first, with all that they show."""
    rows = (
        turns.select_related("deliberation__synthesis")
        .prefetch_related("deliberation__answers", "deliberation__reviews")
        .annotate(cost=Sum("deliberation__calls__cost"))
        .order_by("created", "id")
    )
    return [view(turn) for turn in rows]


def view(turn: Any) -> TurnView:
    """A turn from `turns_of`'s query."""
    deliberation: Deliberation = turn.deliberation
    plan = Plan.from_json(deliberation.plan)
    members = [_seat(deliberation, plan, index) for index in range(len(plan.members))]
    chairman = _seat(deliberation, plan, CHAIRMAN)
    answers = _cards(deliberation, plan, members, Stage.ANSWERING, deliberation.answers.all())
    reviews = _cards(deliberation, plan, members, Stage.REVIEWING, deliberation.reviews.all())
    synthesis = getattr(deliberation, "synthesis", None)
    standings = [
        StandingView(each["place"], members[each["seat"]], each["mean"], each["ballots"])
        for each in deliberation.standings
    ]
    columns = [each.seat for each in answers if not each.growing and not each.bad]
    matrix = _matrix(members, columns, list(deliberation.reviews.all()))
    return TurnView(
        id=f"d{deliberation.id.hex[:12]}",
        turn=turn,
        deliberation=deliberation,
        question=plan.question,
        members=members,
        chairman=chairman,
        stages=_stages(deliberation, plan, answers, reviews),
        answers=answers,
        reviews=reviews,
        synthesis=_card(deliberation, plan, chairman, Stage.SYNTHESISING, synthesis) if synthesis else None,
        columns=columns,
        matrix=matrix,
        standings=standings,
        ballots=sum(row.state in {BallotState.VALID, BallotState.REPAIRED} for row in matrix),
        dissent=_dissent(members, standings, list(deliberation.reviews.all())),
        cost=turn.cost,
        seconds=deliberation.elapsed.total_seconds() if deliberation.elapsed else None,
    )


def _seat(deliberation: Deliberation, plan: Plan, index: int) -> SeatView:
    seat = plan.chairman if index == CHAIRMAN else plan.members[index]
    model = deliberation.plan["models"][index]
    return SeatView(
        index=index,
        letter="" if index == CHAIRMAN else letter(index),
        name=markdown.clean(seat.name),
        model=markdown.clean(model["name"]),
        practice=model["practice"],
        hue=0 if index == CHAIRMAN else index % HUES + 1,
    )


def _cards(deliberation: Deliberation, plan: Plan, members: list[SeatView], stage: Stage, rows: Any) -> list[CardView]:
    return [_card(deliberation, plan, members[row.seat], stage, row) for row in rows]


def _card(deliberation: Deliberation, plan: Plan, seat: SeatView, stage: Stage, row: Any) -> CardView:
    slot = Slot(stage, seat.index)
    growing = row.state != Contribution.State.ENDED
    text = ballots.critique(row.text) if stage is Stage.REVIEWING else row.text
    if growing:
        closed_blocks, tail = markdown.blocks(text, rewriter(plan, slot))
        closed, open_ = "".join(closed_blocks), tail
    else:
        labels = {} if stage is Stage.ANSWERING else prompts.to_letters(plan, seat.index)
        closed, open_ = _finished(text, tuple(labels.items())), ""
    return CardView(
        id=slot_id(deliberation.id, slot),
        seat=seat,
        state=row.state if growing else row.outcome,
        word=row.get_state_display() if growing else outcome_word(row.outcome),
        closed=closed,
        open=open_,
        error=row.error,
        growing=growing,
        started=row.started,
        seconds=row.seconds,
        tokens=row.output_tokens or row.tokens,
        cost=row.cost,
        estimated=row.estimated,
        revision=row.revision,
        **(_ballot(row) if stage is Stage.REVIEWING else {}),
    )


@lru_cache(maxsize=256)
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


def _matrix(members: list[SeatView], columns: list[SeatView], reviews: list[Review]) -> list[MatrixRow]:
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
            cells.append(Cell("–" if place is None else f"{place:g}", step, column.index == row.seat, far))
        rows.append(MatrixRow(members[row.seat], cells, row.ballot_state, row.ballot_reason))
    return rows


def _positions(row: Review) -> dict[int, float]:
    if row.ballot_state not in {BallotState.VALID, BallotState.REPAIRED}:
        return {}
    return Ballot(tuple(tuple(group) for group in row.ballot), BallotState(row.ballot_state)).positions()


def _dissent(members: list[SeatView], standings: list[StandingView], reviews: list[Review]) -> list[SeatView]:
    """Reviewers who put an answer first that is not first in the standings."""
    first = {each.seat.index for each in standings if each.place == 1}
    return [members[row.seat] for row in reviews if row.ballot and _positions(row) and not first & set(row.ballot[0])]


def elapsed_since(moment: datetime) -> float:
    """Seconds from then to now."""
    return (timezone.now() - moment).total_seconds()


def ended_words(deliberation: Deliberation) -> str:
    """How a deliberation ended, in a word, where that needs saying."""
    return (
        {
            Status.COMPLETE: "",
            Status.PARTIAL: _("Partial"),
            Status.FAILED: _("Failed"),
            Status.CANCELLED: _("Stopped"),
        }.get(Status(deliberation.status), "")
        if not deliberation.unfinished
        else ""
    )
